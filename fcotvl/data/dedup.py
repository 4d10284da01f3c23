"""Which pictures are the same: equal pixels, or nearly equal perceptual hashes."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from fcotvl.core.records import Record, Turn

SIDE = 16
BITS = SIDE * SIDE
"""Bits of a hash. 64 bits confuse charts of one style: 13 of 90 training charts of ChartQA lie within 4 bits of another
one. Of 256 bits those differ in 16 to 98; JPEG at quality 40, half the size and grey change 10 at most, a crop by 1 %
up to 52."""
QUESTION_BYTES = 8
"""Bytes of a question's hash, which only has to differ from others about the same picture."""
SAME_QUESTION_FACTOR = 3
"""Pictures with the same question as a benchmark's match up to this many times the distance."""


def perceptual_hash(picture: Image.Image) -> int:
    """256 bits of the picture's coarse structure, as ``imagehash.phash`` computes them."""
    import imagehash  # noqa: PLC0415 - imports SciPy; needed only to find near duplicates

    return int(str(imagehash.phash(picture, hash_size=SIDE)), 16)


def question_key(question: str) -> str:
    """``question`` without case, surplus white space and closing marks."""
    return " ".join(question.casefold().split()).rstrip(" ?.:\uff1f\u3002")


@dataclass(frozen=True)
class Match:
    """A record that is dropped because another one shows the same picture."""

    record: str
    file: str
    """File of the dropped record."""
    same_as: str
    """Id of the record that stays."""
    distance: int
    """Bits between their perceptual hashes; 0 for equal pixels."""


class HammingIndex:
    """Perceptual hashes, found again within ``distance`` bits without comparing all of them.

    Cut into ``distance + 1`` bands, two hashes within ``distance`` bits agree in at least one band. Each band is a
    chained hash table in flat arrays: 32 bytes of a hash, 8 of its key and, for each band, 8 to 16, where a dictionary
    of lists takes some 200 a band.
    """

    def __init__(self, distance: int) -> None:
        self.distance = distance
        edges = [BITS * index // (distance + 1) for index in range(distance + 2)]
        self._bands = [(low, (1 << high - low) - 1) for low, high in pairwise(edges)]
        self._hashes = bytearray()
        self._names: list[bytes] = []
        self._older = [array("i") for _ in self._bands]
        """By band and place: the last place before it in the same slot, or -1."""
        self._slots = [array("i", [-1]) for _ in self._bands]
        """By band and slot: the last place."""

    def add(self, value: int, name: bytes) -> None:
        """Remember ``value`` under ``name``."""
        place = len(self._names)
        if place == len(self._slots[0]):
            self._grow(2 * place)
        self._hashes += value.to_bytes(BITS // 8, "little")
        self._names.append(name)
        for slots, older, slot in zip(self._slots, self._older, self._slot(value), strict=True):
            older.append(slots[slot])
            slots[slot] = place

    def find(self, value: int) -> tuple[int, bytes] | None:
        """Distance and name of the nearest within reach; of equally near ones the first added."""
        best, where = self.distance + 1, -1
        for slots, older, slot in zip(self._slots, self._older, self._slot(value), strict=True):
            place = slots[slot]
            while place >= 0:
                distance = (value ^ self._at(place)).bit_count()
                if distance < best or (distance == best and place < where):
                    best, where = distance, place
                place = older[place]
        return (best, self._names[where]) if where >= 0 else None

    def _at(self, place: int) -> int:
        width = BITS // 8
        return int.from_bytes(self._hashes[place * width : (place + 1) * width], "little")

    def _slot(self, value: int) -> Iterator[int]:
        """Where ``value`` is found in each band: Fibonacci hashing, for bands are not even."""
        shift = 65 - len(self._slots[0]).bit_length()
        for low, mask in self._bands:
            yield ((value >> low & mask) * _GOLDEN & _WORD) >> shift

    def _grow(self, size: int) -> None:
        """Chain all places anew over ``size`` slots."""
        self._slots = [array("i", [-1]) * size for _ in self._bands]
        for place in range(len(self._names)):
            slots_of = self._slot(self._at(place))
            for slots, older, slot in zip(self._slots, self._older, slots_of, strict=True):
                older[place] = slots[slot]
                slots[slot] = place


_GOLDEN, _WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1


@dataclass
class DedupIndex:
    """The records kept so far, over all splits, so that none is admitted twice.

    Within a split, equal pixels may bring further questions: only the new ones are admitted. In another split they
    would leak, and are dropped.
    """

    distance: int
    """Hamming distance up to which two pictures are the same; 0 means equal pixels only."""
    _kept: dict[bytes, tuple[str, str, bytes]] = field(default_factory=dict)
    """By pixels: split and id of the first record, and the joined hashes of its questions."""
    _hashes: HammingIndex | None = None

    def __post_init__(self) -> None:
        self._hashes = HammingIndex(self.distance) if self.distance else None

    def admit(self, record: Record, value: int | None, file: str) -> Record | Match:
        """Remember ``record`` and return it with its new questions, or return what it matches."""
        pixels = _key(record)
        split, name, asked = self._kept.get(pixels, (record.split, record.id, b""))
        if split != record.split:
            return Match(record.id, file, name, 0)
        if not asked and self._hashes is not None and value is not None:
            if near := self._hashes.find(value):
                return Match(record.id, file, self._kept[near[1]][1], near[0])
            self._hashes.add(value, pixels)
        known = {asked[start : start + QUESTION_BYTES] for start in range(0, len(asked), QUESTION_BYTES)}
        fresh: dict[bytes, Turn] = {}
        for turn in record.turns:
            if (key := _digest(turn)) not in known:
                fresh.setdefault(key, turn)
        if not fresh:
            return Match(record.id, file, name, 0)
        self._kept[pixels] = (split, name, asked + b"".join(fresh))
        whole = len(fresh) == len(record.turns)
        return record if whole else replace(record, turns=tuple(fresh.values()))

    def holds(self, record: Record) -> bool:
        """Whether these pixels were admitted to the record's split."""
        return self._kept.get(_key(record), ("",))[0] == record.split


def _key(record: Record) -> bytes:
    return bytes.fromhex(record.sha256)[:16]


def _digest(turn: Turn) -> bytes:
    return hashlib.blake2b(question_key(turn.question).encode(), digest_size=QUESTION_BYTES).digest()


class ContaminationFilter:
    """Finds training records that show a picture of any benchmark."""

    def __init__(self, distance: int) -> None:
        self.distance = distance
        self._pixels: dict[str, str] = {}
        self._values: list[list[int]] = []
        self._names: list[tuple[str, frozenset[str]]] = []
        self._array: npt.NDArray[np.uint64] = np.empty((0, BITS // 64), dtype=np.uint64)

    def add(self, record: Record, value: int | None) -> None:
        """Protect ``record``."""
        asked = frozenset(question_key(turn.question) for turn in record.turns)
        self._pixels.setdefault(record.sha256, record.id)
        if value is not None:
            self._values.append(_words(value))
            self._names.append((record.id, asked))

    def find(self, record: Record, value: int | None, file: str) -> Match | None:
        """The benchmark record whose picture ``record`` shows, if there is one."""
        if name := self._pixels.get(record.sha256):
            return Match(record.id, file, name, 0)
        if value is None or not self._values:
            return None
        differing = self._matrix() ^ np.array(_words(value), dtype=np.uint64)
        distances = np.bitwise_count(differing).sum(axis=1, dtype=np.int64)
        asked = {question_key(turn.question) for turn in record.turns}
        for place in np.flatnonzero(distances <= self.distance * SAME_QUESTION_FACTOR):
            name, questions = self._names[place]
            if distances[place] <= self.distance or questions & asked:
                return Match(record.id, file, name, int(distances[place]))
        return None

    def _matrix(self) -> npt.NDArray[np.uint64]:
        """All hashes, in words of 64 bits; rebuilt only when there are new ones."""
        if len(self._array) != len(self._values):
            self._array = np.array(self._values, dtype=np.uint64)
        return self._array


def _words(value: int) -> list[int]:
    """``value`` in words of 64 bits."""
    return [value >> shift & (1 << 64) - 1 for shift in range(0, BITS, 64)]
