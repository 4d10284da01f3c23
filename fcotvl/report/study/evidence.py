"""Effects as evidence: a verdict, and the effect in words."""

from dataclasses import replace

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
    return Evidence(system.label, result + _seen(found, judged, f" from {criterion:g}"), judged)


def gain(subject: str, found: Effect) -> Evidence:
    """A difference that should be above 0."""
    judged = verdict(found.low, found.high, 0.0)
    return Evidence(subject, f"{_points(found)}{_asked_of(found)}{_seen(found, judged)}", judged)


def alike(subject: str, found: Effect) -> Evidence:
    """A difference that should be small."""
    judged = UNDECIDED
    if found.low >= -ALIKE and found.high <= ALIKE:
        judged = HOLDS
    elif found.low > ALIKE or found.high < -ALIKE:
        judged = FAILS
    return Evidence(subject, f"{_points(found)}{_asked_of(found)}{_seen(found, judged, f' beyond {ALIKE:g}')}", judged)


def beside(item: Evidence) -> Evidence:
    """The same, no part of the verdict."""
    return replace(item, counts=False)


def _points(found: Effect) -> str:
    return f"{interval(found.value, found.low, found.high, sign='+')} points"


def _asked_of(found: Effect) -> str:
    seeds = f", {found.seeds} seeds" if found.seeds > 1 else ", one seed"
    return f", n = {found.questions:,}{seeds}"


def _seen(found: Effect, judged: str, beyond: str = "") -> str:
    """Where undecided, how far from the criterion an effect would have been seen with a chance of 80 %."""
    return f"; {found.detectable:.1f} points{beyond} could have been seen" if judged == UNDECIDED else ""
