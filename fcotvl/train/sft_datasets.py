"""Data sets to fine-tune on: which there are, their initial weights, and what an item holds.

A data set is a source under one prompt: ``rendered/chart/direct`` and ``rendered/chart/cot`` are two.
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
from fcotvl.core.records import Turn, first_id
from fcotvl.train.dataset import CACHE, Corpus, RowRef, ShuffledEpochs
from fcotvl.train.packing import MAX_TURNS, Batch, BatchBuilder, Chat
from fcotvl.train.resampling import Weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SftItem:
    """One picture of a step, under the prompt of its data set."""

    dataset: str
    number: int
    """How many items of this data set came before."""
    ref: RowRef

    @property
    def name(self) -> str:
        """One of a kind within a run."""
        return f"{self.dataset}-{self.ref}-{self.number}"


@dataclass
class SftDatasets:
    """All data sets of a corpus and their initial weights."""

    refs: dict[str, list[list[RowRef]]]
    """Pictures of each data set, by row group."""
    initial_weights: Weights
    rationales: Mapping[str, Sequence[str]]
    """Rationales of each question, by the id of its first copy."""
    seed: int
    _orders: dict[str, ShuffledEpochs[RowRef]] = field(default_factory=dict)

    @classmethod
    def from_corpus(
        cls,
        corpus: Corpus,
        rationales: Mapping[str, Sequence[str]],
        *,
        cot: float,
        seed: int,
        sources: Sequence[str] = (),
    ) -> SftDatasets:
        """Data sets of ``corpus``: a share ``cot`` of rationales, the rest of direct answers.

        Within each, sources weigh by their number of pictures. Without any rationale all is direct.

        Args:
            corpus: the instruction split.
            rationales: those of each question, by the id of its first copy.
            cot: share of rationales, from 0 to 1.
            seed: of the order of pictures.
            sources: those that are trained on; none: all.

        Raises:
            DataError: there is nothing to train on, or a source is not in the corpus.
        """
        refs: dict[str, dict[int, list[RowRef]]] = defaultdict(lambda: defaultdict(list))
        known: set[str] = set()
        for header in corpus.headers():
            known.add(header.source)
            if sources and header.source not in sources:
                continue
            asked = questions(header.turns)
            if asked:
                refs[f"{header.source}/direct"][header.ref[0]].append(header.ref)
            if cot and any(first_id(turn.id) in rationales for turn in asked):
                refs[f"{header.source}/cot"][header.ref[0]].append(header.ref)
        if unknown := sorted(set(sources) - known):
            raise DataError(f"no picture of corpus/instruct is from {unknown[0]}; it has {', '.join(sorted(known))}")
        counts = {name: sum(map(len, groups.values())) for name, groups in sorted(refs.items())}
        total = dict.fromkeys(("direct", "cot"), 0)
        for name, count in counts.items():
            total[_mode(name)] += count
        if not total["direct"]:
            raise DataError("corpus/instruct has no question with an answer; run curate again")
        if cot and not total["cot"]:
            logger.warning("no rationale was kept: fine-tuning goes on with direct answers only")
        share = cot if total["cot"] else 0.0
        part = {"direct": 1 - share, "cot": share}
        weights = {name: part[_mode(name)] * n / total[_mode(name)] for name, n in counts.items()}
        weights = {name: weight for name, weight in weights.items() if weight}
        return cls({name: list(refs[name].values()) for name in weights}, weights, rationales, seed)

    def item(self, dataset: str, number: int) -> SftItem:
        """Item ``number`` = 0, 1, ... of ``dataset``; every epoch has each picture once."""
        if dataset not in self._orders:
            # Half of what is kept in memory is for data sets that are drawn rarely.
            window = max(1, CACHE // (2 * len(self.refs)))
            self._orders[dataset] = ShuffledEpochs(self.refs[dataset], f"sft-{self.seed}-{dataset}", window)
        return SftItem(dataset, number, self._orders[dataset][number])

    def batch(self, items: Sequence[SftItem], builder: BatchBuilder) -> Batch:
        """The pictures of ``items``, each with some of its questions and a reply to each."""
        corpus, prompts = builder.corpus, builder.prompts
        chats = [self.chats(item, corpus[item.ref].turns, prompts) for item in items]
        return builder.build([item.ref for item in items], chats, [item.name for item in items])

    def chats(self, item: SftItem, turns: Sequence[Turn], prompts: Prompts) -> list[Chat]:
        """Up to ``MAX_TURNS`` questions of an item in random order, each with one of its replies.

        A direct reply is the answer; a chain of thought is one of the question's rationales.
        """
        rng = Random(item.name)  # noqa: S311
        mode = _mode(item.dataset)
        asked = questions(turns)
        if mode == "cot":
            asked = [turn for turn in asked if first_id(turn.id) in self.rationales]
        chats = []
        for turn in rng.sample(asked, min(MAX_TURNS, len(asked))):
            rationale = rng.choice(self.rationales[first_id(turn.id)]) if mode == "cot" else None
            chats.append(Chat(prompts.ask(turn, mode), reply(turn, mode, rationale)))
        return chats


def questions(turns: Sequence[Turn]) -> list[Turn]:
    """What a picture is fine-tuned on: transcription only where there is no question."""
    answered = [turn for turn in turns if turn.answers]
    return [turn for turn in answered if turn.kind != "transcribe"] or answered


def _mode(dataset: str) -> str:
    return dataset.rsplit("/", 1)[1]


def systematic_sample(weights: Weights, count: int, offset: float) -> list[str]:
    """``count`` names, each within one of ``count`` times its weight (systematic sampling).

    Args:
        weights: they sum to 1.
        count: size of the sample.
        offset: a random number in [0, 1).
    """
    names, reached = list(weights), list(accumulate(weights.values()))
    sample, index = [], 0
    for i in range(count):
        point = (i + offset) / count * reached[-1]
        while reached[index] <= point and index + 1 < len(names):
            index += 1
        sample.append(names[index])
    return sample
