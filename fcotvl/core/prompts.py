"""Prompts and replies in words: the same for training, sampling and evaluation."""

from string import Formatter
from typing import Annotated

from pydantic import Field, field_validator

from fcotvl.core.records import Turn
from fcotvl.core.section import Section

MODES: tuple[str, ...] = ("direct", "cot")
"""Answer at once, or reason first. Scores of the two are never mixed."""

MARKER = "Answer:"
"""What a chain-of-thought reply puts before its final answer."""

IMAGE_TOKEN = "<IMG_CONTEXT>"  # noqa: S105 - a token of text
IMAGE_START = "<img>"
IMAGE_END = "</img>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIAL_TOKENS = (TURN_START, TURN_END, IMAGE_START, IMAGE_END, IMAGE_TOKEN)
"""Tokens that every tokenizer of this project has; they are looked up by name, never by id."""

TEMPLATES: dict[str, dict[str, str]] = {
    "tiny": {"direct": "{question} Answer briefly.", "cot": "{question} Reason first."},
    "internvl2": {
        "direct": "{question} Answer the question using a single word or phrase.",
        "cot": "{question} Reason step by step, then end with a line that says Answer: and a single word or phrase.",
    },
}
"""By family of architectures: the bundled teacher's own prompts; InternVL's evaluation prompt and our chain-of-thought
prompt beside it."""


Tokens = Annotated[int, Field(ge=1, le=32768)]
"""Up to what InternVL2's LLMs have positions for."""


class Prompts(Section):
    """Prompt templates with ``{question}``, and how many tokens a reply may have.

    Templates that a scale does not give are those of its architecture (``TEMPLATES``).
    """

    direct: str = TEMPLATES["internvl2"]["direct"]
    cot: str = TEMPLATES["internvl2"]["cot"]
    direct_tokens: Tokens = 100
    """As InternVL evaluates."""
    cot_tokens: Tokens = 1024
    min_tokens: Annotated[int, Field(ge=0, le=32768)] = 1
    """Tokens of an answer before it may end, as InternVL evaluates (tiny: 0)."""

    @field_validator("direct", "cot")
    @classmethod
    def _has_a_place_for_the_question(cls, template: str) -> str:
        try:
            fields = {tuple(field) for _, *field in Formatter().parse(template) if field[0] is not None}
        except ValueError as error:
            raise ValueError(f"{error}; double a brace that stands for itself") from error
        if not fields:
            raise ValueError("the template has no {question}")
        if fields != {("question", "", None)}:
            raise ValueError("{question} alone may stand in braces; double a brace that stands for itself")
        return template

    def ask(self, turn: Turn, mode: str) -> str:
        """The user's words for ``turn``. A transcription turn carries its own whole prompt."""
        if turn.kind == "transcribe":
            return turn.question
        return {"direct": self.direct, "cot": self.cot}[mode].format(question=turn.question)

    def max_new_tokens(self, mode: str) -> int:
        """Where a reply under ``mode`` is cut off."""
        return {"direct": self.direct_tokens, "cot": self.cot_tokens}[mode]


def reply(turn: Turn, mode: str, rationale: str | None = None) -> str:
    """The assistant's words to train on: the first answer, after the rationale under ``cot``.

    Raises:
        ValueError: ``mode`` is ``cot`` and there is no rationale, or the turn has no answer.
    """
    if not turn.answers:
        raise ValueError(f"turn {turn.id} has no answer to train on")
    if mode == "direct":
        return turn.answers[0]
    thought = rationale or turn.rationale
    if thought is None:
        raise ValueError(f"turn {turn.id} has no rationale")
    return thought if MARKER in thought else f"{thought}\n{MARKER} {turn.answers[0]}"
