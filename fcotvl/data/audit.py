"""Audit of a corpus: what it is made of, what was dropped and why, in numbers that add up."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.geometry import RATIOS, compressed, count_tiles
from fcotvl.core.records import Record
from fcotvl.data.mixing import Stream

SIZES = (224, 448, 896, 1792, 3584)
"""Upper bounds of the size classes: longer side, pixels."""
TOKEN = 3
"""Characters of a token, for estimates: there is no tokenizer here. Tables and numbers have fewer to a token, prose has
more."""
MAX_PHRASE = 20
"""Words up to which an answer is a phrase, not a text."""


@dataclass(frozen=True)
class Tiling:
    """How pictures become visual tokens."""

    tile_size: int
    max_tiles: int
    tokens: int
    """Visual tokens of a tile, before compression."""
    max_length: int | None = None
    """Longest row of training; none: rows are not cut."""


class Composition:
    """Counts over records as they are written."""

    def __init__(self, tiling: Tiling) -> None:
        self.tiling = tiling
        self.records = 0
        self.turns = 0
        self.tiles: Counter[int] = Counter()
        self.cut: dict[str, Counter[str]] = defaultdict(Counter)
        """By source, ``images`` that training cuts and the ``tokens`` that they lose, estimated."""
        self.answer_lengths: Counter[int] = Counter()
        """Number of first answers by characters."""
        self.by: dict[str, Counter[str]] = {
            name: Counter() for name in ("source", "licence", "kind", "answer", "longer_side")
        }

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield ``records`` and count them."""
        for record in records:
            self._count(record)
            yield record

    def to_json(self) -> dict[str, Any]:
        """All counts, the most frequent first."""
        result: dict[str, Any] = {"records": self.records, "turns": self.turns}
        for name, counts in self.by.items():
            ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            result[f"by_{name}"] = dict(ordered)
        result["tiles"] = distribution(self.tiles)
        result["answer_characters"] = distribution(self.answer_lengths)
        result["cut"] = {source: dict(counts) for source, counts in sorted(self.cut.items())}
        result["visual_tokens"] = {}
        for ratio in RATIOS:
            tokens = compressed(self.tiling.tokens, ratio)
            counts_of_tokens = {n * tokens: count for n, count in self.tiles.items()}
            result["visual_tokens"][str(ratio)] = distribution(counts_of_tokens)
        return result

    def _count(self, record: Record) -> None:
        self.records += 1
        self.turns += len(record.turns)
        self.by["source"][record.source] += 1
        self.by["licence"][record.licence] += 1
        self.by["longer_side"][_size_class(max(record.width, record.height))] += 1
        size, most = self.tiling.tile_size, self.tiling.max_tiles
        tiles = count_tiles(record.width, record.height, tile_size=size, max_tiles=most)
        self.tiles[tiles] += 1
        if self.tiling.max_length is not None:
            self._count_cut(record, self.tiling.max_length - tiles * self.tiling.tokens)
        for turn in record.turns:
            self.answer_lengths[len(turn.answers[0]) if turn.answers else 0] += 1
            self.by["kind"][turn.kind] += 1
            self.by["answer"][answer_type(turn.answers)] += 1

    def _count_cut(self, record: Record, room: int) -> None:
        """Count what the longest question with its answer has beyond ``room`` tokens."""
        longest = max((len(turn.question) + len(turn.answers[0]) for turn in record.turns if turn.answers), default=0)
        if (excess := longest // TOKEN - room) > 0:
            self.cut[record.source].update(images=1, tokens=excess)


def distribution(counts: Mapping[int, int]) -> dict[str, float]:
    """Mean, median, 95th percentile, maximum and total of values, given the count of each."""
    total = sum(counts.values())
    if not total:
        return {}
    ordered = sorted(counts.items())

    def quantile(share: float) -> int:
        seen = 0
        for value, times in ordered:
            seen += times
            if seen >= share * total:
                return value
        return ordered[-1][0]

    whole = sum(value * times for value, times in ordered)
    return {
        "mean": round(whole / total, 3),
        "median": quantile(0.5),
        "p95": quantile(0.95),
        "max": ordered[-1][0],
        "total": whole,
    }


def answer_type(answers: Sequence[str]) -> str:
    """``number``, ``yes/no``, ``word``, ``phrase``, ``text`` (longer) or ``hidden``."""
    if not answers:
        return "hidden"
    answer = answers[0].strip().lower().rstrip(".")
    if answer.strip("$€£%+-").replace(",", "").replace(".", "", 1).strip().isdecimal():
        return "number"
    if answer in ("yes", "no"):
        return "yes/no"
    words = len(answer.split())
    return "word" if words <= 1 else "phrase" if words <= MAX_PHRASE else "text"


def source_summary(streams: Sequence[Stream]) -> dict[str, dict[str, Any]]:
    """The share that each source was to have in a split, and what it contributed, by name.

    ``read`` = ``kept`` + ``duplicates`` + ``contaminated`` + ``quarantined``, and the split holds ``kept`` +
    ``repeats`` = ``epochs`` times ``kept``.

    Raises:
        DataError: no record is left, or counts do not add up (a record was lost).
    """
    contributed = sum(stream.contributed for stream in streams)
    if not contributed and not (len(streams) == 1 and streams[0].absent):
        raise DataError(f"no record is left of {_summary(streams)}")
    weights = sum(stream.weight for stream in streams)
    rows = {}
    for stream in streams:
        if not stream.adds_up:
            raise DataError(f"{stream.name}: {stream.read} records read, but counts do not add up")
        rows[stream.name] = {
            "share_asked": round(stream.weight / weights, 6),
            "share_kept": round(stream.contributed / contributed, 6) if contributed else 0.0,
            "read": stream.read,
            "kept": stream.kept,
            "duplicates": len(stream.duplicates),
            "contaminated": len(stream.contaminated),
            "quarantined": len(stream.quarantined),
            "repeats": stream.repeats,
            "epochs": round(stream.contributed / stream.kept, 3) if stream.kept else 0.0,
            "ran_dry": stream.is_dry,
            "absent": stream.absent,
        }
    return rows


def dropped_records(streams: Sequence[Stream], split: str) -> list[dict[str, Any]]:
    """Every record that ``split`` left out: file, reader and reason, or the record it matches."""
    return [
        {"split": split, "as": kind, **asdict(item)}
        for stream in streams
        for kind in ("quarantined", "duplicates", "contaminated")
        for item in getattr(stream, kind)
    ]


def _summary(streams: Sequence[Stream]) -> str:
    parts = []
    for stream in streams:
        text = f"{stream.name} ({stream.absent or f'{stream.read} read'}"
        if stream.quarantined:
            first = stream.quarantined[0]
            text += f", {len(stream.quarantined)} quarantined, first {first.file}: {first.reason}"
        if matches := len(stream.duplicates) + len(stream.contaminated):
            text += f", {matches} duplicates or contaminated"
        parts.append(text + ")")
    return "; ".join(parts)


def _size_class(side: int) -> str:
    for bound in SIZES:
        if side <= bound:
            return f"<= {bound}"
    return f"> {SIZES[-1]}"
