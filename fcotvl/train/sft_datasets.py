"""Data sets to fine-tune on: which there are, what they weigh at first, and what a draw takes.

A data set is a source under one prompt: ``rendered/chart/direct`` and ``rendered/chart/cot``
are two.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

from fcotvl.core.errors import DataError
from fcotvl.core.prompts import Prompts, reply
from fcotvl.core.records import Turn
from fcotvl.train.dataset import Corpus, Place, Shuffled
from fcotvl.train.packing import Chat
from fcotvl.train.resampling import Weights

logger = logging.getLogger(__name__)

TURNS = 3
"""Questions about a picture in one step."""


@dataclass(frozen=True)
class Drawn:
    """One item of a step."""

    dataset: str
    number: int
    """How many were drawn from this data set before."""
    place: Place


@dataclass
class Mixture:
    """All data sets of a corpus and the weights they start with."""

    places: dict[str, list[list[Place]]]
    """Per data set, its pictures by row group."""
    start: Weights
    rationales: Mapping[str, Sequence[str]]
    """By question."""
    seed: int
    _orders: dict[str, Shuffled[Place]] = field(default_factory=dict)

    def draw(self, dataset: str, number: int) -> Drawn:
        """Draw ``number`` = 0, 1, ... of ``dataset``; every epoch has each picture once."""
        if dataset not in self._orders:
            self._orders[dataset] = Shuffled(self.places[dataset], f"sft-{self.seed}-{dataset}")
        return Drawn(dataset, number, self._orders[dataset][number])

    def chats(self, drawn: Drawn, turns: Sequence[Turn], prompts: Prompts) -> list[Chat]:
        """Up to ``TURNS`` questions of a draw in random order, each with one of its replies."""
        rng = Random(f"{drawn.dataset}-{drawn.place}-{drawn.number}")  # noqa: S311
        mode = _mode(drawn.dataset)
        asked = questions(turns) if mode == "direct" else self._reasoned(turns)
        chosen = rng.sample(asked, min(TURNS, len(asked)))
        return [
            Chat(prompts.ask(turn, mode), reply(turn, mode, self._thought(turn, mode, rng)))
            for turn in chosen
        ]

    def _reasoned(self, turns: Sequence[Turn]) -> list[Turn]:
        return [turn for turn in questions(turns) if turn.id in self.rationales]

    def _thought(self, turn: Turn, mode: str, rng: Random) -> str | None:
        return rng.choice(self.rationales[turn.id]) if mode == "cot" else None


def mixture(
    corpus: Corpus, rationales: Mapping[str, Sequence[str]], *, cot: float, seed: int
) -> Mixture:
    """Data sets of ``corpus``: the share ``cot`` of rationales, the rest of direct answers.

    Within either, sources weigh what they have pictures. Without any rationale all is direct.

    Raises:
        DataError: there is nothing to train on.
    """
    found: dict[str, dict[int, list[Place]]] = defaultdict(lambda: defaultdict(list))
    for outline in corpus.outline():
        asked = questions(outline.turns)
        offers = {"direct": bool(asked), "cot": cot and any(t.id in rationales for t in asked)}
        for mode in (mode for mode, offered in offers.items() if offered):
            found[f"{outline.source}/{mode}"][outline.place[0]].append(outline.place)
    counts = {name: sum(map(len, groups.values())) for name, groups in sorted(found.items())}
    total = {
        mode: sum(n for name, n in counts.items() if name.endswith(f"/{mode}"))
        for mode in ("direct", "cot")
    }
    if not total["direct"]:
        raise DataError("corpus/instruct has no question with an answer; run curate again")
    if cot and not total["cot"]:
        logger.warning("no rationale was kept: fine-tuning goes on with direct answers only")
    share = cot if total["cot"] else 0.0
    part = {"direct": 1 - share, "cot": share}
    start = {name: part[_mode(name)] * n / total[_mode(name)] for name, n in counts.items()}
    start = {name: weight for name, weight in start.items() if weight}
    places = {name: list(found[name].values()) for name in start}
    return Mixture(places, start, rationales, seed)


def questions(turns: Sequence[Turn]) -> list[Turn]:
    """What a picture is fine-tuned on: transcription only where there is no question."""
    answered = [turn for turn in turns if turn.answers]
    return [turn for turn in answered if turn.kind != "transcribe"] or answered


def _mode(dataset: str) -> str:
    return dataset.rsplit("/", 1)[1]


def spread(weights: Weights, count: int, offset: float) -> list[str]:
    """``count`` names, each within one of ``count`` times its weight (systematic sampling).

    Args:
        weights: they sum to 1.
        count: how many to draw.
        offset: a random number in [0, 1).
    """
    names, reached = list(weights), list(accumulate(weights.values()))
    chosen, place = [], 0
    for i in range(count):
        point = (i + offset) / count * reached[-1]
        while reached[place] <= point and place + 1 < len(names):
            place += 1
        chosen.append(names[place])
    return chosen
