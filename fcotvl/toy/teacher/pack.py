"""Several turns about one picture in one sequence, without seeing each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from fcotvl.core.prompts import TEMPLATES, Prompts, reply
from fcotvl.core.records import Turn
from fcotvl.toy.teacher.data import CLASSES, CODES, Page, Shown, Spot

TINY_PROMPTS = Prompts(**TEMPLATES["tiny"])
COT_SHARE = {"transcribe": 0.0, "extractive": 0.2, "reason": 0.75}
"""How often a turn of each kind is trained with its reasoning."""
FIRST_WEIGHT = 3.0
"""The first token of a reply is where a look-up succeeds or fails."""


Contents = tuple[Int[Tensor, " items"], Int[Tensor, " items"], Int[Tensor, " items"]]
"""Page, visual token and table row of all that is shown."""
RECITE = "List the values."
END = "<|im_end|>"
SPELLED = 8
"""Characters of a spelled word that have a place."""
REMEMBERED = 20_000
"""Texts whose tokens are kept: words and prompts come again, most replies never do."""


@dataclass(frozen=True)
class Packed:
    """A batch of pictures with their turns, ready for the LLM."""

    input_ids: Int[Tensor, "batch seq"]
    position_ids: Int[Tensor, "batch seq"]
    mask: Float[Tensor, "batch 1 seq seq"]
    """Additive: each turn sees the picture and itself."""
    labels: Int[Tensor, "batch seq"]
    """The token to predict *at* this position, -100 elsewhere."""
    weights: Float[Tensor, "batch seq"]
    first: Int[Tensor, "batch seq"]
    """Kind of turn (1..) where the first token of its answer is predicted, else 0."""
    points: Int[Tensor, "points 4"]
    """Row, position, the position to look at there, and that of its name (-1: not told)."""


@dataclass(frozen=True)
class Point:
    """What heads are told to look at before a token of a reply; -1 where it is not told."""

    at: int
    """Which token of the reply."""
    look: int
    """The visual token that shows it."""
    asked: int = -1
    """Where in prompt and reply stands the name of what is looked up."""
    quoted: int = -1
    """Where in prompt and reply it is quoted, if no visual token is given."""


@dataclass(frozen=True)
class Chat:
    """One turn as token ids."""

    prompt: list[int]
    reply: list[int]
    answer_at: int
    """Where in the reply its final answer starts."""
    kind: int
    weights: tuple[float, ...] | None = None
    """Of the reply's tokens, where they are not all alike."""
    points: tuple[Point, ...] = ()


class Packer:
    """Turns renders' turns into token sequences."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, visual_tokens: int = 64) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, tuple[list[int], list[tuple[int, int]]]] = {}
        block = "<img>" + "<IMG_CONTEXT>" * visual_tokens + "</img>\n"
        self.prefix = self.ids("<|im_start|>user\n" + block)
        self.bare = self.ids("<|im_start|>user\n")
        self.visual_at = self.prefix.index(self.ids("<IMG_CONTEXT>")[0])
        self.visual_tokens = visual_tokens
        size = len(tokenizer)
        self.sections = (0, size, 2 * size, 2 * size + SPELLED * CLASSES)
        """Rows of the oracle's table: words, keys of values, spelled characters."""

    def ids(self, text: str) -> list[int]:
        """Token ids of ``text`` alone."""
        return self.encode(text)[0]

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of ``text`` alone, and the characters that each stands for."""
        if text not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            out = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            self._known[text] = out["input_ids"], out["offset_mapping"]
        return self._known[text]

    def chat(
        self, turn: Turn, mode: str, spots: Sequence[Spot] = (), reading: Sequence[int] = ()
    ) -> Chat:
        """``turn`` asked under ``mode`` about a picture whose facts stand at ``spots``."""
        asked = f"{TINY_PROMPTS.ask(turn, mode)}<|im_end|>\n<|im_start|>assistant\n"
        text = reply(turn, mode)
        answer_at = (
            len(self.ids(text)) - len(self.ids(" " + turn.answers[0])) if mode == "cot" else 0
        )
        if mode == "cot" and turn.answers[0][0].isalnum():
            answer_at += 1  # a space and a digit or name are two tokens; the second is the answer
        kind = {"transcribe": 1, "extractive": 2, "reason": 3}[turn.kind]
        kind += 2 if mode == "cot" else 0
        if turn.kind == "transcribe":
            letters = [at for at, char in enumerate(text) if not char.isspace()]
            looks = {at: (place, -1) for at, place in zip(letters, reading, strict=False)}
        else:
            looks = _looks(asked, text, spots)
        points = self._points(asked, text, looks)
        return Chat(self.ids(asked), self.ids(text + END), answer_at, kind, points=points)

    def _points(
        self, asked: str, text: str, looks: dict[int, tuple[int, int]]
    ) -> tuple[Point, ...]:
        """Points of the reply ``text``'s tokens, from those of its characters."""
        ahead, spans = self.encode(asked)[1], self.encode(text + END)[1]
        whole = [*ahead, *((start + len(asked), stop + len(asked)) for start, stop in spans)]
        holder = {
            at: token for token, (start, stop) in enumerate(whole) for at in range(start, stop)
        }
        points = []
        for token, (start, stop) in enumerate(spans):
            found = [looks[at] for at in range(start, stop) if at in looks]
            if found:
                place, name = found[0]
                points.append(Point(token, place, holder[name] if name >= 0 else -1))
        return tuple(points)

    def contents(self, pages: Sequence[Sequence[Shown]]) -> Contents:
        """What the visual tokens of each page show, as rows of the oracle's table.

        A word that is one token is that token; anything else (numbers, codes) is spelled, each
        character at its place in the word. A part of a value also names the value's key.
        """
        size = len(self._tokenizer)
        found: list[tuple[int, int, int]] = []
        for page, words in enumerate(pages):
            for shown in words:
                ids = self.ids(shown.word)
                if len(ids) == 1 and shown.word[0].isalpha():
                    found.append((page, shown.place, ids[0]))
                else:
                    found += [
                        (page, shown.place, 2 * size + at * CLASSES + CODES[char])
                        for at, char in enumerate(shown.word[:SPELLED])
                    ]
                if shown.key:
                    found.append((page, shown.place, size + self.ids(shown.key)[0]))
        page_at, place, row = torch.tensor(found).reshape(-1, 3).unbind(1)
        return page_at, place, row

    def recite(self, spots: Sequence[Spot], rng: Random) -> Chat:
        """All facts of a picture in random order: many look-ups in one short turn.

        Only values are trained, for which key comes next is chance.
        """
        asked = f"{RECITE}<|im_end|>\n<|im_start|>assistant\n"
        drawn = rng.sample(spots, len(spots))
        text = ", ".join(f"{spot.key} {spot.value}" for spot in drawn)
        looks: dict[int, tuple[int, int]] = {}
        at = 0
        for spot in drawn:
            value = at + len(spot.key) + 1
            looks |= _read(value, spot.value, spot.value_at, len(asked) + at)
            at = value + len(spot.value) + 2
        points = self._points(asked, text, looks)
        reply = self.ids(text + END)
        weights = [0.0] * len(reply)
        for point in points:
            weights[point.at] = 0.3
        return Chat(self.ids(asked), reply, points[-1].at, 6, tuple(weights), points)

    def draw(
        self, page: Page, rng: Random, *, transcribe: float, look_ups: int, reasons: int
    ) -> list[Chat]:
        """Choose turns of a picture and a prompt for each.

        Args:
            page: a rendered one.
            rng: what decides.
            transcribe: how often the transcription is asked for.
            look_ups: most extractive turns. Many short ones: finding is learned from them.
            reasons: most turns that need working out.
        """
        turns = page.render.turns if page.render else ()
        asked = [turn for turn in turns if turn.kind == "transcribe" and rng.random() < transcribe]
        for kind, most in (("extractive", look_ups), ("reason", reasons)):
            known = [turn for turn in turns if turn.kind == kind]
            asked += rng.sample(known, min(most, len(known)))
        modes = ["cot" if rng.random() < COT_SHARE[turn.kind] else "direct" for turn in asked]
        return [
            self.chat(turn, mode, page.spots, page.reading)
            for turn, mode in zip(asked, modes, strict=True)
        ]

    def pack(self, pages: Sequence[Sequence[Chat]], *, pictured: bool = True) -> Packed:
        """Lay each page's chats behind its picture, if there is one; padding sees only itself."""
        prefix = self.prefix if pictured else self.bare
        start = len(prefix)
        length = max(start + sum(len(c.prompt) + len(c.reply) - 1 for c in p) for p in pages)
        size = (len(pages), length)
        ids, positions = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long)
        labels, first = torch.full(size, -100), torch.zeros(size, dtype=torch.long)
        weights = torch.zeros(size)
        owner = -torch.arange(1, length + 1).repeat(len(pages), 1)
        points: list[tuple[int, int, int, int]] = []
        for row, chats in enumerate(pages):
            ids[row, :start] = torch.tensor(prefix)
            positions[row, :start] = torch.arange(start)
            owner[row, :start] = 0
            at = start
            for number, chat in enumerate(chats, start=1):
                tokens = chat.prompt + chat.reply[:-1]
                stop, begin = at + len(tokens), at + len(chat.prompt) - 1
                ids[row, at:stop] = torch.tensor(tokens)
                positions[row, at:stop] = torch.arange(start, start + len(tokens))
                owner[row, at:stop] = number
                labels[row, begin:stop] = torch.tensor(chat.reply)
                if chat.weights:
                    weights[row, begin:stop] = torch.tensor(chat.weights)
                else:
                    weights[row, begin:stop] = len(chat.reply) ** -0.5
                    weights[row, begin + chat.answer_at] *= FIRST_WEIGHT
                first[row, begin + chat.answer_at] = chat.kind
                for p in chat.points:
                    look = at + p.quoted if p.quoted >= 0 else -1
                    look = self.visual_at + p.look if p.look >= 0 else look
                    name = at + p.asked if p.asked >= 0 else -1
                    points.append((row, begin + p.at, look, name))
                at = stop
        pointed = torch.tensor(points, dtype=torch.long).reshape(-1, 4)
        return Packed(ids, positions, block_mask(owner), labels, weights, first, pointed)


def _read(start: int, text: str, places: Sequence[int], name: int) -> dict[int, tuple[int, int]]:
    """Looks of the characters of ``text``, blanks aside, that begins at ``start``."""
    letters = [at for at, char in enumerate(text, start) if not char.isspace()]
    return {at: (place, name) for at, place in zip(letters, places, strict=True)}


def _looks(asked: str, text: str, spots: Sequence[Spot]) -> dict[int, tuple[int, int]]:
    """For characters of a reply: the visual token that shows it, and where its name stands.

    A direct answer's name stands in the question, a rationale's right before what it names. A fact
    that a rationale quotes is named by the question, or else by the fact quoted before it.
    """
    looks: dict[int, tuple[int, int]] = {}
    quotes: dict[int, tuple[str, tuple[int, ...]]] = {}
    for spot in spots:
        fact = ((spot.key, spot.key_at), (spot.value, spot.value_at))
        for (name, at), (found, found_at) in (fact, fact[::-1]):
            if text == found and (where := _standing(name, asked)):
                looks |= _read(0, found, found_at, where[0])
            for start in _standing(f"{name} {found}", text):
                quotes.setdefault(start, (name, at))
                looks |= _read(start + len(name) + 1, found, found_at, len(asked) + start)
    before = -1
    for start, (name, at) in sorted(quotes.items()):
        where = _standing(name, asked)
        looks = _read(start, name, at, where[0] if where else before) | looks
        before = len(asked) + start
    return looks


def _standing(words: str, text: str) -> list[int]:
    """Where ``words`` stand in ``text`` as whole words or numbers."""
    return [m.start() for m in re.finditer(rf"(?<![\w.$]){re.escape(words)}(?!\w|\.\w|%)", text)]


def block_mask(owner: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch 1 seq seq"]:
    """Causal, and open only within a turn or towards the picture (owner 0)."""
    causal = torch.ones(owner.size(1), owner.size(1), dtype=torch.bool).tril()
    same: Bool[Tensor, "batch seq seq"] = owner[:, :, None] == owner[:, None, :]
    seen = causal & (same | (owner[:, None, :] == 0))
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None]
