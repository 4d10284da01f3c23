"""Several turns about one picture in one sequence, without seeing each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from fcotvl.prompts import Prompts, reply
from fcotvl.records import Turn
from fcotvl.train.teacher_data import CLASSES, CODES, Shown

TINY_PROMPTS = Prompts(direct="{question} Answer briefly.", cot="{question} Reason first.")
COT_SHARE = {"transcribe": 0.0, "extractive": 0.3, "reason": 0.75}
"""How often a turn of each kind is trained with its reasoning."""
FIRST_WEIGHT = 3.0
"""The first token of a reply is where a look-up succeeds or fails."""


Contents = tuple[Int[Tensor, " items"], Int[Tensor, " items"], Int[Tensor, " items"]]
"""Page, visual token and table row of all that is shown."""
RECITE = "List the values."
SPELLED = 8
"""Characters of a spelled word that have a place."""


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


class Packer:
    """Turns renders' turns into token sequences."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, visual_tokens: int = 64) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        block = "<img>" + "<IMG_CONTEXT>" * visual_tokens + "</img>\n"
        self.prefix = self.ids("<|im_start|>user\n" + block)
        self.visual_at = self.prefix.index(self.ids("<IMG_CONTEXT>")[0])
        self.visual_tokens = visual_tokens

    def ids(self, text: str) -> list[int]:
        """Token ids of ``text`` alone."""
        if text not in self._known:
            self._known[text] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._known[text]

    def chat(self, turn: Turn, mode: str) -> Chat:
        """``turn`` asked under ``mode``."""
        asked = TINY_PROMPTS.ask(turn, mode)
        prompt = self.ids(f"{asked}<|im_end|>\n<|im_start|>assistant\n")
        text = reply(turn, mode)
        answer_at = (
            len(self.ids(text)) - len(self.ids(" " + turn.answers[0])) if mode == "cot" else 0
        )
        if mode == "cot" and turn.answers[0][0].isalnum():
            answer_at += 1  # a space and a digit or name are two tokens; the second is the answer
        kind = {"transcribe": 1, "extractive": 2, "reason": 3}[turn.kind]
        kind += 2 if mode == "cot" else 0
        return Chat(prompt, self.ids(text + "<|im_end|>"), answer_at, kind)

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

    def recite(self, table: str, rng: Random) -> Chat:
        """All facts of a picture in random order: many look-ups in one short turn.

        Only values are trained, for which key comes next is chance.
        """
        facts = [line.split("=", 1) for line in table.splitlines()]
        tokens: list[int] = []
        weights: list[float] = []
        starts: list[int] = []
        for key, value in rng.sample(facts, len(facts)):
            named, written, mark = self.ids(key), self.ids(f" {value}"), self.ids(", ")
            starts.append(len(tokens) + len(named) + (value[0].isalnum()))
            tokens += named + written + mark
            weights += [0.0] * len(named) + [0.3] * len(written) + [0.3] + [0.0] * (len(mark) - 1)
        end = self.ids("<|im_end|>")
        prompt = self.ids(f"{RECITE}<|im_end|>\n<|im_start|>assistant\n")
        return Chat(prompt, tokens + end, starts[-1], 6, (*weights, 0.3))

    def draw(
        self, turns: Sequence[Turn], rng: Random, *, transcribe: float, most: int
    ) -> list[Chat]:
        """Choose a prompt for each of ``most`` turns; the transcription is kept now and then."""
        chats = []
        for turn in (turns[0], *rng.sample(turns[1:], min(most, len(turns) - 1))):
            if turn.kind == "transcribe" and rng.random() > transcribe:
                continue
            mode = "cot" if rng.random() < COT_SHARE[turn.kind] else "direct"
            chats.append(self.chat(turn, mode))
        return chats

    def pack(self, pages: Sequence[Sequence[Chat]]) -> Packed:
        """Lay each page's chats behind its picture; padding sees only itself."""
        start = len(self.prefix)
        length = max(start + sum(len(c.prompt) + len(c.reply) - 1 for c in p) for p in pages)
        size = (len(pages), length)
        ids, positions = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long)
        labels, first = torch.full(size, -100), torch.zeros(size, dtype=torch.long)
        weights = torch.zeros(size)
        owner = -torch.arange(1, length + 1).repeat(len(pages), 1)
        for row, chats in enumerate(pages):
            ids[row, :start] = torch.tensor(self.prefix)
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
                at = stop
        return Packed(ids, positions, block_mask(owner), labels, weights, first)


def block_mask(owner: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch 1 seq seq"]:
    """Causal, and open only within a turn or towards the picture (owner 0)."""
    causal = torch.ones(owner.size(1), owner.size(1), dtype=torch.bool).tril()
    same: Bool[Tensor, "batch seq seq"] = owner[:, :, None] == owner[:, None, :]
    seen = causal & (same | (owner[:, None, :] == 0))
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None]
