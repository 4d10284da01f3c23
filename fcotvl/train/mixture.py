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

from fcotvl.errors import DataError
from fcotvl.prompts import Prompts, reply
from fcotvl.records import Turn
from fcotvl.train.corpus import Corpus, Outline, Place, Shuffled
from fcotvl.train.pack import Chat
from fcotvl.train.resampling import Weights

logger = logging.getLogger(__name__)

TURNS = 3
"""Questions about a picture in one step."""


@dataclass(frozen=True)
class Item:
    """A picture and what may be asked about it: per question, the replies to choose from."""

    place: Place
    questions: tuple[tuple[Turn, tuple[str | None, ...]], ...]
    """Each with its rationales under ``cot``, with None under ``direct``."""


@dataclass(frozen=True)
class Drawn:
    """One item of a step."""

    dataset: str
    number: int
    """How many were drawn from this data set before."""
    item: Item


@dataclass
class Mixture:
    """All data sets of a corpus and the weights they start with."""

    items: dict[str, list[list[Item]]]
    """Per data set, its items by row group."""
    start: Weights
    seed: int
    _orders: dict[str, Shuffled[Item]] = field(default_factory=dict)

    def item(self, dataset: str, number: int) -> Item:
        """The item that draw ``number`` = 0, 1, ... of ``dataset`` takes; each once an epoch."""
        if dataset not in self._orders:
            self._orders[dataset] = Shuffled(self.items[dataset], f"sft-{self.seed}-{dataset}")
        return self._orders[dataset][number]


def mixture(
    corpus: Corpus, rationales: Mapping[str, Sequence[str]], *, cot: float, seed: int
) -> Mixture:
    """Data sets of ``corpus``: the share ``cot`` of rationales, the rest of direct answers.

    Within either, sources weigh what they have pictures. Without any rationale all is direct.

    Raises:
        DataError: there is nothing to train on.
    """
    found: dict[str, dict[int, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for outline in corpus.outline():
        for mode, item in _items(outline, rationales if cot else {}):
            found[f"{outline.source}/{mode}"][outline.place[0]].append(item)
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
    return Mixture({name: list(found[name].values()) for name in start}, start, seed)


def _items(outline: Outline, rationales: Mapping[str, Sequence[str]]) -> list[tuple[str, Item]]:
    """What a record offers under either prompt; transcription only where it has no question."""
    answered = [turn for turn in outline.turns if turn.answers]
    questions = [turn for turn in answered if turn.kind != "transcribe"] or answered
    offers = {
        "direct": tuple((turn, (None,)) for turn in questions),
        "cot": tuple(
            (turn, tuple(rationales[turn.id])) for turn in questions if turn.id in rationales
        ),
    }
    return [(mode, Item(outline.place, asked)) for mode, asked in offers.items() if asked]


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


def choose_replies(drawn: Drawn, prompts: Prompts) -> list[Chat]:
    """Up to ``TURNS`` questions of a draw in random order, each with one of its replies."""
    rng = Random(f"{drawn.dataset}-{drawn.item.place}-{drawn.number}")  # noqa: S311
    mode = _mode(drawn.dataset)
    asked = rng.sample(drawn.item.questions, min(TURNS, len(drawn.item.questions)))
    return [
        Chat(prompts.ask(turn, mode), reply(turn, mode, rng.choice(thoughts)))
        for turn, thoughts in asked
    ]
