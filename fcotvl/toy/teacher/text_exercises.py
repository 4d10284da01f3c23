"""Exercises without a picture: arithmetic, and conclusions from quoted values.

Look-ups are learned from pictures; what follows from the values costs far less to learn from text. An exercise is a
reply in the form of a chain of thought: the quoted values are given, and what follows is trained. Attention is
supervised from a value to its key, and from a conclusion to the value that decides it.
"""

from random import Random

from fcotvl.core.prompts import TURN_END, reply
from fcotvl.core.records import Turn
from fcotvl.toy.render import MAX_FACTS
from fcotvl.toy.render.questions import REASONING, add
from fcotvl.toy.render.table import Fact, Table, Unit, draw_numbers, draw_unit
from fcotvl.toy.render.words import LONG, SHORT
from fcotvl.toy.teacher.chats import TINY_PROMPTS, AttentionTarget, ChatBuilder, SupervisedChat, chat_prompt

ARITHMETIC_PROMPT = "Calculate."
ROWS = 8
"""Sequences in a batch."""
SUMS = 8
"""Sums and differences in a sequence."""
LENGTH = 200
"""Tokens up to which a sequence is filled with conclusions."""
YEARS = 0.1
"""Share of tables whose values are years."""
DECISION_WEIGHT = 5.0
"""Weight of the token in which the conclusion is right or wrong."""


def text_exercises(builder: ChatBuilder, rng: Random) -> list[list[SupervisedChat]]:
    """Rows of arithmetic and conclusions, all about equally long, so that they pad little."""
    rows = []
    for _ in range(ROWS):
        row = [arithmetic(builder, rng)]
        while sum(len(chat.prompt) + len(chat.reply) for chat in row) < LENGTH:
            row.append(conclusion(builder, rng))
        rows.append(row)
    return rows


def arithmetic(builder: ChatBuilder, rng: Random) -> SupervisedChat:
    """A series of sums and differences, of which only the results are trained."""
    text, results = "", []
    for _ in range(SUMS):
        unit, (low, high) = draw_unit(rng), sorted(rng.sample(range(3, 100), 2))
        total = low + high
        sums = (high, "-", low, high - low), (low, "+", high, total), (high, "+", low, total)
        left, sign, right, result = rng.choice(sums)
        text += f"{unit.write(left)} {sign} {unit.write(right)} = "
        results.append(range(len(text), len(text) + len(unit.write(result))))
        text += f"{unit.write(result)}. "
    tokens, spans = builder.encode(text)
    weights = tuple(
        float(any(start < result.stop and stop > result.start for result in results)) for start, stop in spans
    )
    last = max(token for token, (start, _) in enumerate(spans) if start <= results[-1].start)
    prompt = builder.ids(chat_prompt(ARITHMETIC_PROMPT))
    return SupervisedChat(prompt, tokens, last, "arithmetic", weights)


def conclusion(builder: ChatBuilder, rng: Random) -> SupervisedChat:
    """A reasoning question about an invented table, with the quoted values given."""
    unit = Unit("", "", "year") if rng.random() < YEARS else draw_unit(rng)
    count = min(rng.randint(2, MAX_FACTS), rng.randint(2, MAX_FACTS))
    table = Table("", draw_numbers(rng, rng.sample(SHORT + LONG, count), unit), unit)
    kinds = [ask for ask in REASONING if ask is not add or unit.scale != "year"]
    question, answer, rationale = rng.choice(kinds)(table, rng)
    turn = Turn("", question, (answer,), "reason", rationale)
    prompt = builder.ids(chat_prompt(TINY_PROMPTS.ask(turn, "cot")))
    tokens, spans = builder.encode(reply(turn, "cot") + TURN_END)
    token_at = {char: token for token, span in enumerate(spans) for char in range(*span)}

    given = rationale.rindex(". ") + 1
    decision = rationale.rindex(answer)
    answer_position = max(token for token, (start, _) in enumerate(spans) if start <= decision)
    weights = [float(start >= given) for start, _ in spans]
    weights[answer_position] = DECISION_WEIGHT

    targets, ends = [], {}
    for fact in table.facts:
        quote = f"{fact.key} {fact.value}"
        if (start := rationale.find(quote)) >= 0:
            ends[fact] = token_at[start + len(quote) - 1]
            name = len(prompt) + token_at[start]
            targets.append(AttentionTarget(ends[fact] + 1, -1, name_position=name))
    if deciding := _deciding_fact(table, rationale[given:], answer):
        if deciding.key != answer:
            digits = (i for i, char in enumerate(rationale) if i >= given and char.isdigit())
            decision = next(digits)
        quoted = len(prompt) + ends[deciding]
        targets.append(AttentionTarget(token_at[decision], -1, quote_position=quoted))
    return SupervisedChat(prompt, tokens, answer_position, "conclusion", tuple(weights), tuple(targets))


def _deciding_fact(table: Table, conclusion: str, answer: str) -> Fact | None:
    """The fact whose key is the answer, or whose value is the minuend of a difference."""
    minuend = conclusion.strip().partition(" - ")[0]
    facts = (fact for fact in table.facts if answer == fact.key or minuend == fact.value)
    return next(facts, None)
