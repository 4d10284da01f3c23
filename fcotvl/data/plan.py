"""How much a mix takes of each source, by the sizes on the data sets' cards; without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fcotvl.core.config import CorpusParams, SourceParams
from fcotvl.data.lazy_records import SPLIT_SHARES


@dataclass(frozen=True)
class Planned:
    """A source and how many images each split takes of it."""

    name: str
    licence: str
    images: int | None
    """Size of the source; ``None`` where no card gives it."""
    gigabytes: float | None
    taken: Mapping[str, int]
    epochs: float = 1.0
    """How often its images are used, in the split that repeats them most."""


def plan(sources: Sequence[SourceParams], corpus: CorpusParams) -> list[Planned]:
    """How many images each split takes of each source, repeats included.

    As ``mixing.mix`` does it: by weight; a source that runs dry is repeated up to ``corpus.epochs`` times (not for
    ``val``), then it leaves its share to the others.
    """
    taken: list[dict[str, int]] = [{} for _ in sources]
    epochs = [1.0] * len(sources)
    for split in SPLIT_SHARES:
        contributing = [place for place, source in enumerate(sources) if split in source.splits]
        images = {place: _available(sources[place], split) for place in contributing}
        times = 1 if split == "val" else corpus.epochs
        limits = {place: times * count for place, count in images.items()}
        weights = {place: sources[place].weight for place in contributing}
        for place, count in _fill(weights, limits, getattr(corpus, split)).items():
            taken[place][split] = count
            epochs[place] = max(epochs[place], count / images[place])
    return [
        Planned(name(source), source.licence, source.images, source.gigabytes, counts, times)
        for source, counts, times in zip(sources, taken, epochs, strict=True)
    ]


def name(source: SourceParams) -> str:
    """The reader and its data set: an id with its config, a folder, a family."""
    parts = [str(source.options[key]) for key in ("id", "config", "folder", "family") if key in source.options]
    return " ".join([source.reader, *parts]).removeprefix("huggingface ")


def _available(source: SourceParams, split: str) -> float:
    """Images of the source that belong to ``split``; infinite where no card gives its size."""
    if source.images is None:
        return float("inf")
    return (
        source.images
        * SPLIT_SHARES[split]
        / sum(SPLIT_SHARES[other] for other in source.splits if other in SPLIT_SHARES)
    )


def _fill(weights: dict[int, float], limits: dict[int, float], count: int) -> dict[int, int]:
    """``count`` divided by weight, without exceeding a limit."""
    filled: dict[int, float] = {}
    left = float(count)
    while unfilled := {place: weight for place, weight in weights.items() if place not in filled}:
        unit = left / sum(unfilled.values())
        dry = {place for place, weight in unfilled.items() if weight * unit > limits[place]}
        if not dry:
            filled |= {place: weight * unit for place, weight in unfilled.items()}
            break
        for place in dry:
            filled[place] = limits[place]
            left -= limits[place]
    return {place: round(filled[place]) for place in weights}
