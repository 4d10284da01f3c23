"""Questions about a table: extractive ones, and ones that need reasoning."""

# ruff: noqa: PLR2004 - shares and odds explain themselves where they stand

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fcotvl.core.records import Turn
from fcotvl.toy.render.table import Fact, Table

LOOK_UP = ("What is the {key}?", "What is the value of {key}?", "What is shown for {key}?")
LOOK_UP_YEAR = ("When was the {key}?", "What is the year of {key}?")
LOOK_UP_KEY = "What has the value {value}?"

Answered = tuple[str, str, str]
"""Question, answer, rationale."""


def _quote(*facts: Fact) -> str:
    return ", ".join(f"{fact.key} {fact.value}" for fact in facts)


def _amount(fact: Fact) -> int:
    if fact.amount is None:
        raise ValueError(f"{fact.key} has no amount")
    return fact.amount


def add(table: Table, rng: Random) -> Answered:
    """The sum of two values."""
    a, b = rng.sample(table.numeric, 2)
    answer = table.unit.write(_amount(a) + _amount(b))
    question = f"What is the sum of {a.key} and {b.key}?"
    return question, answer, f"{_quote(a, b)}. {a.value} + {b.value} = {answer}"


def subtract(table: Table, rng: Random) -> Answered:
    """The difference of two values."""
    a, b = rng.sample(table.numeric, 2)
    high, low = (a, b) if _amount(a) > _amount(b) else (b, a)
    answer = table.unit.write(_amount(high) - _amount(low))
    question = f"What is the difference between {a.key} and {b.key}?"
    return question, answer, f"{_quote(a, b)}. {high.value} - {low.value} = {answer}"


def compare(table: Table, rng: Random) -> Answered:
    """Which of two is larger or smaller."""
    a, b = rng.sample(table.numeric, 2)
    larger = rng.random() < 0.5
    word, pick = ("larger", max) if larger else ("smaller", min)
    answer = pick(a, b, key=_amount).key
    question = f"Which is {word}, {a.key} or {b.key}?"
    return question, answer, f"{_quote(a, b)}. The {word} is {answer}"


def extreme(table: Table, rng: Random) -> Answered:
    """Which of all is largest or smallest."""
    largest = rng.random() < 0.5
    word, pick = ("largest", max) if largest else ("smallest", min)
    answer = pick(table.numeric, key=_amount).key
    question = f"Which has the {word} value?"
    return question, answer, f"{_quote(*table.numeric)}. The {word} is {answer}"


def count(table: Table, rng: Random) -> Answered:
    """How many values lie above a bound."""
    ordered = sorted(map(_amount, table.numeric))
    bound = rng.choice(ordered[:-1])
    above = [fact for fact in table.numeric if _amount(fact) > bound]
    question = f"How many values are above {table.unit.write(bound)}?"
    return question, str(len(above)), f"{_quote(*above)}. The count is {len(above)}"


REASONING: tuple[Callable[[Table, Random], Answered], ...] = (add, subtract, compare, extreme, count)


def look_up(table: Table, fact: Fact, rng: Random) -> Answered:
    """The value of a key; once in twenty times the key of a value."""
    if fact.amount is not None and rng.random() < 0.05:
        return LOOK_UP_KEY.format(value=fact.value), fact.key, f"{fact.value} {fact.key}"
    forms = LOOK_UP_YEAR if table.unit.scale == "year" else LOOK_UP
    return rng.choice(forms).format(key=fact.key), fact.value, _quote(fact)


def build_turns(table: Table, text: str, name: str, rng: Random, *, extractive: int, reason: int) -> tuple[Turn, ...]:
    """The transcription, then extractive and reasoning questions."""
    turns = [Turn(f"{name}-t", "Read the text.", (text,), "transcribe")]
    facts = rng.sample(table.facts, min(extractive, len(table.facts)))
    for index, fact in enumerate(facts):
        question, answer, rationale = look_up(table, fact, rng)
        turns.append(Turn(f"{name}-e{index}", question, (answer,), "extractive", rationale))
    if len(table.numeric) < 2:
        return tuple(turns)
    kinds = [ask for ask in REASONING if ask is not add or table.unit.scale != "year"]
    for index, ask in enumerate(rng.sample(kinds, min(reason, len(kinds)))):
        question, answer, rationale = ask(table, rng)
        turns.append(Turn(f"{name}-r{index}", question, (answer,), "reason", rationale))
    return tuple(turns)
