"""How rows of hub data sets hold their questions: one function per format."""

import json
from collections.abc import Callable, Iterator
from string import ascii_uppercase
from typing import Any

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.data import fields
from fcotvl.data.ocr_tasks import ocrbench_answers, required_transcription, table

Format = Callable[..., Iterator[Turn]]


def flat(row: Any, name: str, question: str, answer: str, kind: str) -> Iterator[Turn]:
    """DocVQA, ChartQA: a column with the question and one with the answer or a list of answers."""
    answers = fields.texts(row, answer) if row.get(answer) is not None else ()
    yield Turn(name, fields.text(row, question), answers, kind)


def votes(row: Any, name: str, question: str, answer: str, kind: str) -> Iterator[Turn]:
    """TextVQA, VQAv2: in column ``answer`` what each person said, as text or as {"answer": ..., ...}.

    Equal answers and empty ones stay: they are counted. The answer that most gave comes first: it is trained on.
    """
    given = fields.items(row, answer) if row.get(answer) is not None else ()
    said = [one if isinstance(one, dict) else {"answer": one} for one in given]
    answers = [fields.text_or_empty(one, "answer") for one in said]
    most = max(filter(None, answers), key=answers.count, default="")
    yield Turn(name, fields.text(row, question), tuple(sorted(answers, key=lambda one: one != most)), kind)


def ocrbench(row: Any, name: str, question: str, answer: str, kind: str) -> Iterator[Turn]:
    """OCRBench: as ``flat``; column ``dataset`` says which answers are formulas."""
    answers = ocrbench_answers(fields.text(row, "dataset"), fields.texts(row, answer))
    yield Turn(name, fields.text(row, question), answers, kind)


def options(row: Any, name: str, question: str, answer: str, kind: str) -> Iterator[Turn]:
    """AI2D: choices in column ``options``; the one that ``answer`` counts to, from 0, is right.

    They are lettered and become a part of the question, which asks for a letter.
    """
    choices = [fields.text_or_empty({"option": choice}, "option") for choice in fields.items(row, "options")]
    right = fields.integer(row, answer)
    if not right < len(choices) <= len(ascii_uppercase):
        raise DataError(f"{answer} is {right} of {len(choices)} options, counted from 0")
    lines = [f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False)]
    yield Turn(name, "\n".join([fields.text(row, question), *lines]), (ascii_uppercase[right],), kind)


def chats(row: Any, name: str, question: str, answer: str, kind: str) -> Iterator[Turn]:
    """Docmatix, the_cauldron: a list of {"user": ..., "assistant": ...} in column ``question``."""
    del answer
    for number, message in enumerate(fields.items(row, question)):
        asked = fields.text(message, "user").removeprefix("Question: ").partition("\nAnswer")[0]
        replied = fields.text(message, "assistant").removeprefix("Answer: ")
        yield Turn(f"{name}-{number}", asked, (replied,), kind)


def columns(row: Any, name: str, question: str, answer: str, kind: str) -> Iterator[Turn]:
    """PixMo-docs, CoSyn: parallel lists "question", "answer" and perhaps "explanation".

    They are in column ``question``. An explanation becomes the rationale of its answer.
    """
    del answer
    held = row.get(question)
    if not isinstance(held, dict):
        raise DataError(f"{question} holds {type(held).__name__}, expected lists by name")
    asked, answered = fields.items(held, "question"), fields.items(held, "answer")
    reasons = fields.items(held, "explanation") if held.get("explanation") else [None] * len(asked)
    if not len(asked) == len(answered) == len(reasons):
        raise DataError(f"{len(asked)} questions have {len(answered)} answers")
    for number, (one, reply, reason) in enumerate(zip(asked, answered, reasons, strict=True)):
        turn = {"question": one, "answer": reply}
        yield Turn(
            f"{name}-{number}",
            fields.text(turn, "question"),
            fields.texts(turn, "answer"),
            "reason" if reason else kind,
            str(reason) if reason else None,
        )


def donut(row: Any, name: str, question: str, answer: str, kind: str) -> Iterator[Turn]:
    """SynthDoG: column ``question`` is JSON with the text in gt_parse.text_sequence."""
    del answer, kind
    try:
        written = json.loads(fields.text(row, question))["gt_parse"]["text_sequence"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{question} has no gt_parse.text_sequence ({error})") from error
    yield required_transcription(name, [str(written)])


def tables(row: Any, name: str, question: str, answer: str, kind: str) -> Iterator[Turn]:
    """Docling's OTSL sets: HTML tokens in column ``question``, rows of cells in ``answer``."""
    del kind
    structure = [str(part) for part in fields.items(row, question)]
    lines = [line if isinstance(line, list) else [line] for line in fields.items(row, answer)]
    cells = [cell for line in lines for cell in line]
    try:
        written = ["".join(map(str, cell["tokens"])) for cell in cells]
        yield table(name, structure, written)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"malformed table: {error!r}") from error


FORMATS: dict[str, Format] = {
    format_.__name__: format_ for format_ in (flat, votes, ocrbench, options, chats, columns, donut, tables)
}
"""By name."""


def turns(format_name: str, row: Any, name: str, *, question: str, answer: str, kind: str) -> tuple[Turn, ...]:
    """The questions of ``row``.

    Raises:
        DataError: it does not have that format.
    """
    found = tuple(FORMATS[format_name](row, name, question, answer, kind))
    if not found:
        raise DataError("the row has no question")
    return found
