"""Questions for data sets that have none: transcription, key information, tables."""

import re
from collections.abc import Iterable, Sequence

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn

TRANSCRIBE = "Read the text."
"""The renderer asks the same."""
TABLE_HTML = "Write the table as HTML."
TABLE_MARKDOWN = "Write the table as Markdown."
ROW, CELL = "<tr>", "</td>"
"""Where a row begins, and where a cell ends."""
KEY_INFORMATION = "What is the {key}?"
_TAG = re.compile(r"</?(b|i|sup|sub|u|strike|overline|underline)>")
FORMULAS = "HME100k"
"""The data set in OCRBench whose answers are formulas in LaTeX."""


def transcription(name: str, lines: Iterable[str], *, longest: int = 2000) -> Turn | None:
    """A turn that asks for the whole text; ``None`` where it is empty or too long for a reply.

    Args:
        name: of the turn.
        lines: of the text, in reading order.
        longest: largest number of characters, about 800 tokens.
    """
    text = "\n".join(line for line in (" ".join(line.split()) for line in lines) if line)
    if not text or len(text) > longest:
        return None
    return Turn(name, TRANSCRIBE, (text,), "transcribe")


def required_transcription(name: str, lines: Iterable[str]) -> Turn:
    """As ``transcription``, where there is nothing else to ask.

    Raises:
        DataError: the text is empty or too long for a reply.
    """
    if (turn := transcription(name, lines)) is None:
        raise DataError("no text, or text that is too long for a reply")
    return turn


def key_information(name: str, key: str, value: str) -> Turn | None:
    """A turn that asks for the value of a field; ``None`` where either is empty."""
    key, value = " ".join(key.split()).rstrip(" :?"), " ".join(value.split())
    if not key or not value:
        return None
    return Turn(name, KEY_INFORMATION.format(key=key), (value,), "extractive")


def ocrbench_answers(dataset: str, answers: Sequence[str]) -> tuple[str, ...]:
    """Answers to a question of OCRBench, formulas between dollar signs: its metric compares them by another rule.

    Args:
        dataset: that OCRBench took the question from.
        answers: as OCRBench has them.
    """
    return tuple(f"${answer}$" if dataset == FORMULAS else answer for answer in answers)


def table(name: str, structure: Sequence[str], cells: Sequence[str]) -> Turn:
    """A turn that asks for a table: as Markdown where no cell spans others, else as HTML.

    Args:
        name: of the turn.
        structure: HTML tokens as PubTabNet has them, one ``</td>`` for each cell.
        cells: the text of each cell in the order of the structure; tags of fonts in it are left out.

    Raises:
        ValueError: structure and cells do not match.
    """
    if structure.count(CELL) != len(cells):
        raise ValueError(f"{len(cells)} cells do not match a structure of {structure.count(CELL)}")
    plain = [_TAG.sub("", cell).strip() for cell in cells]
    if any("span=" in part for part in structure):
        return Turn(name, TABLE_HTML, (_html(structure, plain),), "transcribe")
    return Turn(name, TABLE_MARKDOWN, (_markdown(structure, plain),), "transcribe")


def _html(structure: Sequence[str], cells: Sequence[str]) -> str:
    left = iter(cells)
    return "".join(next(left) + part if part == CELL else part for part in structure)


def _markdown(structure: Sequence[str], cells: Sequence[str]) -> str:
    rows: list[list[str]] = []
    left = iter(cells)
    for part in structure:
        if part == ROW:
            rows.append([])
        elif part == CELL:
            rows[-1].append(next(left).replace("|", "\\|"))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
