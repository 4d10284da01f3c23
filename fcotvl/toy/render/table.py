"""Content of a picture: a title and facts, each a key with its value."""

# ruff: noqa: PLR2004 - shares and odds explain themselves where they stand

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from fcotvl.toy.render import words


@dataclass(frozen=True)
class Unit:
    """Number format of one picture."""

    prefix: str
    suffix: str
    scale: str
    """``ones`` 45, ``tens`` 450, ``tenths`` 4.5, ``year`` 1987."""

    def write(self, amount: int) -> str:
        """Format ``amount``, in steps of the scale: 45 in tenths is ``4.5``."""
        body = {
            "ones": f"{amount}",
            "tens": f"{amount}0" if amount else "0",
            "tenths": f"{amount // 10}.{amount % 10}",
            "year": f"{amount}",
        }[self.scale]
        return f"{self.prefix}{body}{self.suffix}"


@dataclass(frozen=True)
class Fact:
    """One key and its value."""

    key: str
    value: str
    amount: int | None = None
    """The value in steps of the table's unit; ``None`` for text."""


@dataclass(frozen=True)
class Table:
    """The content of one picture."""

    title: str
    facts: tuple[Fact, ...]
    unit: Unit

    @property
    def numeric(self) -> tuple[Fact, ...]:
        """The facts whose values are numbers."""
        return tuple(fact for fact in self.facts if fact.amount is not None)


def canonical(facts: Iterable[Fact]) -> str:
    """The facts as sorted lines of text."""
    return "\n".join(sorted(f"{fact.key}={fact.value}" for fact in facts))


def split_bucket(facts: Iterable[Fact]) -> int:
    """A number in 0..99 that depends only on the facts and decides the split."""
    digest = hashlib.sha256(canonical(facts).encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100


def draw_unit(rng: Random) -> Unit:
    """Draw a number format."""
    scale = rng.choices(("ones", "tens", "tenths"), (0.6, 0.2, 0.2))[0]
    prefix, suffix = rng.choices((("", ""), ("$", ""), ("", "%"), ("", "k")), (5, 2, 2, 1))[0]
    return Unit(prefix, suffix, scale)


def draw_numbers(rng: Random, keys: Sequence[str], unit: Unit) -> tuple[Fact, ...]:
    """Draw a distinct amount for each key."""
    pool = range(1900, 2025) if unit.scale == "year" else range(3, 100)
    amounts = rng.sample(pool, len(keys))
    return tuple(Fact(k, unit.write(a), a) for k, a in zip(keys, amounts, strict=True))


def draw_keys(rng: Random, count: int, longest: int) -> list[str]:
    """Draw distinct labels of at most ``longest`` letters, or months in order."""
    if longest < 5 and count <= 12 and rng.random() < 0.3:
        first = rng.randrange(13 - count)
        return list(words.MONTHS[first : first + count])
    pool = words.SHORT if longest < 5 else words.SHORT + words.LONG
    return rng.sample([word for word in pool if len(word) <= longest], count)


def draw_code(rng: Random) -> str:
    """An identifier such as ``KM-793``."""
    letters = "ABCDEFGHJKLMNPRSTUVWXYZ"
    return f"{rng.choice(letters)}{rng.choice(letters)}-{rng.randrange(100, 1000)}"


def draw_date(rng: Random) -> str:
    """A date such as ``14 May 1998``."""
    return f"{rng.randrange(1, 29)} {rng.choice(words.MONTHS)} {rng.randrange(1990, 2025)}"
