"""What a mix will take of each source, by the sizes on the data sets' cards: no network needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fcotvl.core.config import CorpusParams, SourceParams
from fcotvl.data.lazy_records import CARVE


@dataclass(frozen=True)
class Planned:
    """A source and what each split takes of it."""

    name: str
    licence: str
    images: int | None
    """As many as there are; ``None`` where no card says."""
    gigabytes: float | None
    taken: Mapping[str, int]
    epochs: float = 1.0
    """Times that its images are used where they are too few, in the split that repeats most."""


def plan(sources: Sequence[SourceParams], corpus: CorpusParams) -> list[Planned]:
    """How many images each split takes of each source, repeats included.

    As ``mixture.mix`` does it: by weight, a dry source repeated up to ``corpus.epochs`` times (not
    for ``val``); then it leaves its share to the others.
    """
    taken: list[dict[str, int]] = [{} for _ in sources]
    epochs = [1.0] * len(sources)
    for split in CARVE:
        feeding = [place for place, source in enumerate(sources) if split in source.splits]
        there = {place: _available(sources[place], split) for place in feeding}
        times = 1 if split == "val" else corpus.epochs
        limits = {place: times * images for place, images in there.items()}
        weights = {place: sources[place].weight for place in feeding}
        for place, count in _fill(weights, limits, getattr(corpus, split)).items():
            taken[place][split] = count
            epochs[place] = max(epochs[place], count / there[place])
    return [
        Planned(name(source), source.licence, source.images, source.gigabytes, counts, times)
        for source, counts, times in zip(sources, taken, epochs, strict=True)
    ]


def name(source: SourceParams) -> str:
    """The reader with what tells its data set: an id with its config, a folder, a family."""
    told = [
        str(source.options[key])
        for key in ("id", "config", "folder", "family")
        if key in source.options
    ]
    return " ".join([source.reader, *told]).removeprefix("huggingface ")


def _available(source: SourceParams, split: str) -> float:
    """Images of the source that are carved for ``split``; endless where no card says."""
    if source.images is None:
        return float("inf")
    return source.images * CARVE[split] / sum(CARVE[fed] for fed in source.splits if fed in CARVE)


def _fill(weights: dict[int, float], limits: dict[int, float], count: int) -> dict[int, int]:
    """``count`` shared by weight, nobody above their limit."""
    filled: dict[int, float] = {}
    left = float(count)
    while open_ := {place: weight for place, weight in weights.items() if place not in filled}:
        unit = left / sum(open_.values())
        dry = {place for place, weight in open_.items() if weight * unit > limits[place]}
        if not dry:
            filled |= {place: weight * unit for place, weight in open_.items()}
            break
        for place in dry:
            filled[place] = limits[place]
            left -= limits[place]
    return {place: round(filled[place]) for place in weights}
