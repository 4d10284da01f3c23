"""Reasoning questions are answered by arithmetic that this test does again, from the table."""

import re

import pytest

from fcotvl.toy.render import FAMILIES, render


def number(text):
    return float(re.sub(r"[$%k]", "", text))


def solve(question, values):
    """The answer, worked out from the question's words and the table alone."""
    if match := re.fullmatch(r"What is the sum of (\w+) and (\w+)\?", question):
        return sum(values[key] for key in match.groups())
    if match := re.fullmatch(r"What is the difference between (\w+) and (\w+)\?", question):
        a, b = (values[key] for key in match.groups())
        return abs(a - b)
    if match := re.fullmatch(r"Which is (larger|smaller), (\w+) or (\w+)\?", question):
        pick = max if match[1] == "larger" else min
        return pick(match.groups()[1:], key=values.__getitem__)
    if match := re.fullmatch(r"Which has the (largest|smallest) value\?", question):
        return (max if match[1] == "largest" else min)(values, key=values.__getitem__)
    bound = number(re.fullmatch(r"How many values are above (\S+)\?", question)[1])
    return sum(value > bound for value in values.values())


def numeric(table):
    pairs = dict(line.split("=") for line in table.splitlines())
    return {key: number(v) for key, v in pairs.items() if re.fullmatch(r"\$?\d+(\.\d)?[%k]?", v)}


@pytest.mark.parametrize("family", FAMILIES)
def test_reasoning_answers_follow_from_the_table(family):
    for index in range(60):
        drawn = render(family, "test", index, seed=2, reason=5)
        for turn in drawn.turns:
            if turn.kind == "reason":
                expected = solve(turn.question, numeric(drawn.table))
                given = turn.answers[0]
                if isinstance(expected, str):
                    assert given == expected
                else:
                    assert number(given) == pytest.approx(expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_extractive_answers_are_the_values_of_the_keys_that_are_asked_for(family):
    for index in range(60):
        drawn = render(family, "test", index, seed=2, extractive=12)
        pairs = dict(line.split("=") for line in drawn.table.splitlines())
        for turn in drawn.turns:
            if turn.kind == "extractive":
                last = turn.question.rstrip("?").split()[-1]
                key = turn.answers[0] if "has the value" in turn.question else last
                assert pairs[key] in (turn.answers[0], last)
