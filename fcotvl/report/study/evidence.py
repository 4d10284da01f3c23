"""Effects as evidence: a verdict, and the effect in words."""

from dataclasses import asdict, replace

from fcotvl.evaluate.effects import Effect
from fcotvl.report.claims import FAILS, HOLDS, UNDECIDED, Evidence, verdict
from fcotvl.report.study.data import StudyData, System
from fcotvl.report.table import interval

ALIKE = 2.0
"""Points within which two systems count as alike: our reading."""


def kept(study: StudyData, system: System, prompt: str, criterion: float) -> Evidence:
    """What ``system`` keeps of the teacher's score, which should be at least ``criterion`` percent."""
    found = study.retention(system, prompt)
    judged = verdict(found.low, found.high, criterion)
    result = f"{interval(found.value, found.low, found.high)} % kept{_asked_of(found)}"
    result += _seen(found, judged, f" from {criterion:g}")
    return Evidence(system.label, result, judged, numbers=asdict(found))


def gain(subject: str, found: Effect) -> Evidence:
    """A difference that should be above 0."""
    judged = verdict(found.low, found.high, 0.0)
    return _of_points(subject, found, judged)


def alike(subject: str, found: Effect) -> Evidence:
    """A difference that should be small."""
    judged = UNDECIDED
    if found.low >= -ALIKE and found.high <= ALIKE:
        judged = HOLDS
    elif found.low > ALIKE or found.high < -ALIKE:
        judged = FAILS
    return _of_points(subject, found, judged, f" beyond {ALIKE:g}")


def beside(item: Evidence) -> Evidence:
    """The same, no part of the verdict."""
    return replace(item, counts=False)


def _of_points(subject: str, found: Effect, judged: str, beyond: str = "") -> Evidence:
    result = f"{interval(found.value, found.low, found.high, sign='+')} points{_asked_of(found)}"
    return Evidence(subject, result + _seen(found, judged, beyond), judged, numbers=asdict(found))


def _asked_of(found: Effect) -> str:
    seeds = f", {found.seeds} seeds" if found.seeds > 1 else ", one seed"
    return f", n = {found.questions:,}{seeds}"


def _seen(found: Effect, judged: str, beyond: str = "") -> str:
    """Where undecided, how far from the criterion an effect would have been seen with a chance of 80 %."""
    return f"; {found.detectable:.1f} points{beyond} could have been seen" if judged == UNDECIDED else ""
