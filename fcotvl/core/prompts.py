"""What is asked and what is answered, in words: the same for training, sampling and evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from fcotvl.core.records import Turn

MODES: tuple[str, ...] = ("direct", "cot")
"""Answer at once, or reason first. Scores of the two are never mixed."""

MARKER = "Answer:"
"""What a chain-of-thought reply puts before its final answer."""


@dataclass(frozen=True)
class Prompts:
    """The prompt templates of a scale; ``{question}`` is filled in."""

    direct: str
    cot: str

    def ask(self, turn: Turn, mode: str) -> str:
        """The user's words for ``turn``. A transcription turn carries its own whole prompt."""
        if turn.kind == "transcribe":
            return turn.question
        return {"direct": self.direct, "cot": self.cot}[mode].format(question=turn.question)


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
