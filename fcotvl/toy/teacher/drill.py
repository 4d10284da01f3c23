"""Working out, without a picture: what follows from values that are given.

Finding values is learned from pictures; what to make of them costs far less on text alone. A drill
is a reply as chains of thought write it: the quoted values are given, what follows is trained.
Heads are told to look from a value at its key, and at the largest or smallest where it decides.
"""

from __future__ import annotations

from random import Random

from fcotvl.core.prompts import reply
from fcotvl.core.records import Turn
from fcotvl.toy.render import MAX_FACTS
from fcotvl.toy.render.questions import REASONING, add
from fcotvl.toy.render.table import Fact, Table, Unit, draw_numbers, draw_unit
from fcotvl.toy.render.words import LONG, SHORT
from fcotvl.toy.teacher.pack import END, TINY_PROMPTS, Chat, Packer, Point

CALCULATE = "Calculate."
ROWS = 8
"""Sequences in a batch."""
SUMS = 8
"""Sums and differences in a sequence ..."""
LENGTH = 200
"""... which chains of thought fill up to so many tokens."""
YEARS = 0.1
DECISION = 5.0
"""Weight of the token in which the conclusion is right or wrong."""


def drills(packer: Packer, rng: Random) -> list[list[Chat]]:
    """Sequences of sums and chains of thought, all about as long, so that little is padding."""
    rows = []
    for _ in range(ROWS):
        row = [calculate(packer, rng)]
        while sum(len(chat.prompt) + len(chat.reply) for chat in row) < LENGTH:
            row.append(conclude(packer, rng))
        rows.append(row)
    return rows


def calculate(packer: Packer, rng: Random) -> Chat:
    """Sums and differences in a row; results alone are trained."""
    asked = f"{CALCULATE}{END}\n<|im_start|>assistant\n"
    text, results = "", []
    for _ in range(SUMS):
        unit, (low, high) = draw_unit(rng), sorted(rng.sample(range(3, 100), 2))
        a, sign, b, c = rng.choice(
            (
                (high, "-", low, high - low),
                (low, "+", high, low + high),
                (high, "+", low, low + high),
            )
        )
        text += f"{unit.write(a)} {sign} {unit.write(b)} = "
        results.append(range(len(text), len(text) + len(unit.write(c))))
        text += f"{unit.write(c)}. "
    tokens, spans = packer.encode(text)
    weights = tuple(
        float(any(start < result.stop and stop > result.start for result in results))
        for start, stop in spans
    )
    last = max(at for at, (start, _) in enumerate(spans) if start <= results[-1].start)
    return Chat(packer.ids(asked), tokens, last, 7, weights)


def conclude(packer: Packer, rng: Random) -> Chat:
    """A question about values that nobody drew; what follows the quoted values is trained."""
    unit = Unit("", "", "year") if rng.random() < YEARS else draw_unit(rng)
    keys = rng.sample(SHORT + LONG, min(rng.randint(2, MAX_FACTS), rng.randint(2, MAX_FACTS)))
    table = Table("", draw_numbers(rng, keys, unit), unit)
    asks = [ask for ask in REASONING if ask is not add or unit.scale != "year"]
    question, answer, rationale = rng.choice(asks)(table, rng)
    turn = Turn("", question, (answer,), "reason", rationale)
    asked = f"{TINY_PROMPTS.ask(turn, 'cot')}{END}\n<|im_start|>assistant\n"
    tokens, spans = packer.encode(reply(turn, "cot") + END)
    given = rationale.rindex(". ") + 1
    first = rationale.rindex(answer)
    at = max(token for token, (start, _) in enumerate(spans) if start <= first)
    weights = [float(start >= given) for start, _ in spans]
    weights[at] = DECISION
    points, ahead = [], packer.ids(asked)
    at_of = {n: token for token, span in enumerate(spans) for n in range(*span)}
    ends = {}
    for fact in table.facts:
        quote = f"{fact.key} {fact.value}"
        if (start := rationale.find(quote)) >= 0:
            ends[fact] = at_of[start + len(quote) - 1]
            points.append(Point(ends[fact] + 1, -1, asked=len(ahead) + at_of[start]))
    if winner := _winner(table, rationale[given:], answer):
        out = first
        if winner.key != answer:
            out = given + next(n for n, char in enumerate(rationale[given:]) if char.isdigit())
        points.append(Point(at_of[out], -1, quoted=len(ahead) + ends[winner]))
    return Chat(ahead, tokens, at, 8, tuple(weights), tuple(points))


def _winner(table: Table, conclusion: str, answer: str) -> Fact | None:
    """The fact that a conclusion picks: the answer, or what another is taken from."""
    taken_from = conclusion.strip().partition(" - ")[0]
    found = (fact for fact in table.facts if answer == fact.key or taken_from == fact.value)
    return next(found, None)
