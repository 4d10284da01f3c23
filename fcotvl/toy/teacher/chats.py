"""Turns about a picture as token ids, with weights and attention targets for their replies."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from fcotvl.core.geometry import tokens_per_tile
from fcotvl.core.prompts import IMAGE_END, IMAGE_START, IMAGE_TOKEN, TEMPLATES, TURN_END, TURN_START, Prompts, reply
from fcotvl.core.records import KINDS, Turn
from fcotvl.toy.render.canvas import SIDE
from fcotvl.toy.teacher.samples import CHARACTER_IDS, CLASSES, FactLocation, Sample

TINY_PROMPTS = Prompts(**TEMPLATES["tiny"])
CHAT_KINDS = (*KINDS, "extractive+cot", "reason+cot", "listing", "arithmetic", "conclusion")
"""Kinds of turns whose accuracy is measured apart."""
COT_SHARE = {"transcribe": 0.0, "extractive": 0.2, "reason": 0.75}
"""How often a turn of each kind is trained with its reasoning."""
TRANSCRIBE_SHARE = 0.15
LOOK_UPS, REASONING = 8, 3
"""Most extractive and reasoning turns per picture. Look-ups are learned from many short turns."""
LISTING_SHARE = 0.3
"""How often a turn lists all facts of the picture."""
LISTING_PROMPT = "List the values."
LISTING_WEIGHT = 0.3
SPELLED = 8
"""Most characters of a spelled word that are represented."""
CACHED_TEXTS = 20_000
"""Texts whose tokens are cached: words and prompts recur, most replies do not."""

Contents = tuple[Int[Tensor, " items"], Int[Tensor, " items"], Int[Tensor, " items"]]
"""Tile, visual token and row in the table of target embeddings of each thing that is shown."""
Evidence = dict[int, tuple[int, int]]
"""For characters of a reply: the visual token that shows it and the position of its name in the prompt and reply, or
-1."""


@dataclass(frozen=True)
class AttentionTarget:
    """Where heads should look to predict a token of a reply; -1 means unsupervised."""

    position: int
    """Index of the token in the reply."""
    visual_token: int
    """The visual token that shows it."""
    name_position: int = -1
    """Token of prompt and reply that names what is looked up."""
    quote_position: int = -1
    """Token of prompt and reply that quotes it, if no visual token is given."""


@dataclass(frozen=True)
class SupervisedChat:
    """One turn as token ids with its supervision."""

    prompt: list[int]
    reply: list[int]
    answer_position: int
    """Where in the reply its final answer starts."""
    kind: str
    """One of ``CHAT_KINDS``."""
    weights: tuple[float, ...] | None = None
    """Loss weights of the reply's tokens, where they are not the default."""
    targets: tuple[AttentionTarget, ...] = ()


def chat_prompt(question: str) -> str:
    """What follows the picture in a user's turn, up to the reply."""
    return f"{question}{TURN_END}\n{TURN_START}assistant\n"


class ChatBuilder:
    """Builds turns and their supervision with the tokenizer of the tiny teacher."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._cache: dict[str, tuple[list[int], list[tuple[int, int]]]] = {}
        self.text_prefix = self.ids(f"{TURN_START}user\n")
        image = IMAGE_START + IMAGE_TOKEN * tokens_per_tile(SIDE) + IMAGE_END
        self.image_prefix = self.ids(f"{TURN_START}user\n{image}\n")
        self.visual_start = self.image_prefix.index(self.ids(IMAGE_TOKEN)[0])
        size = len(tokenizer)
        self.sections = (0, size, 2 * size, 2 * size + SPELLED * CLASSES)
        """Bounds in the table of target embeddings: words, keys of values, spelled characters."""

    def ids(self, text: str) -> list[int]:
        """Token ids of ``text``."""
        return self.encode(text)[0]

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of ``text`` and the range of characters of each."""
        if text not in self._cache:
            if len(self._cache) >= CACHED_TEXTS:
                self._cache.clear()
            out = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            self._cache[text] = out["input_ids"], out["offset_mapping"]
        return self._cache[text]

    def sample_chats(self, sample: Sample, rng: Random) -> list[SupervisedChat]:
        """Choose turns about a rendered picture: mostly look-ups, now and then all facts."""
        known = sample.rendered.turns if sample.rendered else ()
        turns = [t for t in known if t.kind == "transcribe" and rng.random() < TRANSCRIBE_SHARE]
        for kind, most in (("extractive", LOOK_UPS), ("reason", REASONING)):
            of_kind = [turn for turn in known if turn.kind == kind]
            turns += rng.sample(of_kind, min(most, len(of_kind)))
        modes = ["cot" if rng.random() < COT_SHARE[turn.kind] else "direct" for turn in turns]
        chats = [
            self.chat(turn, mode, sample.facts, sample.reading_order) for turn, mode in zip(turns, modes, strict=True)
        ]
        if rng.random() < LISTING_SHARE:
            chats.insert(0, self.listing(sample.facts, rng))
        return chats

    def chat(
        self, turn: Turn, mode: str, facts: Sequence[FactLocation] = (), reading_order: Sequence[int] = ()
    ) -> SupervisedChat:
        """``turn`` asked in ``mode`` about a picture that shows ``facts``."""
        prompt = chat_prompt(TINY_PROMPTS.ask(turn, mode))
        text = reply(turn, mode)
        kind, answer_position = turn.kind, 0
        if mode == "cot":
            kind += "+cot"
            answer = turn.answers[0]
            answer_position = len(self.ids(text)) - len(self.ids(f" {answer}"))
            # A space and a digit or name are two tokens; the second is the answer.
            answer_position += answer[0].isalnum()
        if turn.kind == "transcribe":
            evidence = _spread(0, text, reading_order, -1) if reading_order else {}
        else:
            evidence = _find_evidence(prompt, text, facts)
        targets = self._attention_targets(prompt, text, evidence)
        ids = self.ids(prompt), self.ids(text + TURN_END)
        return SupervisedChat(*ids, answer_position, kind, targets=targets)

    def listing(self, facts: Sequence[FactLocation], rng: Random) -> SupervisedChat:
        """List all facts of a picture in random order: many look-ups in one short turn.

        Only values are trained, because the next key is random.
        """
        prompt = chat_prompt(LISTING_PROMPT)
        ordered = rng.sample(facts, len(facts))
        text = ", ".join(f"{fact.key} {fact.value}" for fact in ordered)
        evidence: Evidence = {}
        start = 0
        for fact in ordered:
            value_start = start + len(fact.key) + 1
            evidence |= _spread(value_start, fact.value, fact.value_tokens, len(prompt) + start)
            start = value_start + len(fact.value) + 2
        targets = self._attention_targets(prompt, text, evidence)
        tokens = self.ids(text + TURN_END)
        weights = [0.0] * len(tokens)
        for target in targets:
            weights[target.position] = LISTING_WEIGHT
        answer_position = targets[-1].position
        return SupervisedChat(self.ids(prompt), tokens, answer_position, "listing", tuple(weights), targets)

    def _attention_targets(self, prompt: str, text: str, evidence: Evidence) -> tuple[AttentionTarget, ...]:
        """Targets of the tokens of the reply ``text``, from the evidence of its characters."""
        prompt_spans, spans = self.encode(prompt)[1], self.encode(text + TURN_END)[1]
        shifted = ((start + len(prompt), stop + len(prompt)) for start, stop in spans)
        token_at = {char: token for token, span in enumerate([*prompt_spans, *shifted]) for char in range(*span)}
        targets = []
        for position, span in enumerate(spans):
            if found := [evidence[char] for char in range(*span) if char in evidence]:
                visual_token, name = found[0]
                name_position = token_at[name] if name >= 0 else -1
                targets.append(AttentionTarget(position, visual_token, name_position))
        return tuple(targets)

    def content_rows(self, samples: Sequence[Sample]) -> Contents:
        """What the visual tokens show, as rows of the table of target embeddings.

        A word that is one token is that token; others (numbers, codes) are spelled, each character at its position in
        the word. A part of a value also gives the value's key.
        """
        size = len(self._tokenizer)
        rows: list[tuple[int, int, int]] = []
        for tile, sample in enumerate(samples):
            for content in sample.contents:
                ids = self.ids(content.word)
                if len(ids) == 1 and content.word[0].isalpha():
                    rows.append((tile, content.token, ids[0]))
                else:
                    rows += [
                        (tile, content.token, 2 * size + index * CLASSES + CHARACTER_IDS[char])
                        for index, char in enumerate(content.word[:SPELLED])
                    ]
                if content.key:
                    rows.append((tile, content.token, size + self.ids(content.key)[0]))
        tile_index, token, row = torch.tensor(rows).reshape(-1, 3).unbind(1)
        return tile_index, token, row


def _spread(start: int, text: str, tokens: Sequence[int], name: int) -> Evidence:
    """Evidence of the characters of ``text``, except blanks, which begins at ``start``."""
    letters = [index for index, char in enumerate(text, start) if not char.isspace()]
    return {index: (token, name) for index, token in zip(letters, tokens, strict=True)}


def _find_evidence(prompt: str, text: str, facts: Sequence[FactLocation]) -> Evidence:
    """Evidence of a reply that answers with a fact, or quotes facts in a rationale.

    The name of a direct answer is in the question, that of a quoted value right before it. A quoted key is named by the
    question, or else by the fact quoted before it.
    """
    evidence: Evidence = {}
    quotes: dict[int, tuple[str, tuple[int, ...]]] = {}
    for fact in facts:
        pair = ((fact.key, fact.key_tokens), (fact.value, fact.value_tokens))
        for (name, name_tokens), (value, value_tokens) in (pair, pair[::-1]):
            if text == value and (named := _occurrences(name, prompt)):
                evidence |= _spread(0, value, value_tokens, named[0])
            for start in _occurrences(f"{name} {value}", text):
                quotes.setdefault(start, (name, name_tokens))
                value_start = start + len(name) + 1
                evidence |= _spread(value_start, value, value_tokens, len(prompt) + start)
    previous = -1
    for start, (name, tokens) in sorted(quotes.items()):
        named = _occurrences(name, prompt)
        evidence = _spread(start, name, tokens, named[0] if named else previous) | evidence
        previous = len(prompt) + start
    return evidence


def _occurrences(words: str, text: str) -> list[int]:
    """Where ``words`` occur in ``text`` as whole words or numbers."""
    return [m.start() for m in re.finditer(rf"(?<![\w.$]){re.escape(words)}(?!\w|\.\w|%)", text)]
