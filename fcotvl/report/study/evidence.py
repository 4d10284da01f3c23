"""Effects as evidence: a verdict, and the effect in words."""

from fcotvl.evaluate.effects import Effect
from fcotvl.report.claims import FAILS, HOLDS, UNDECIDED, Evidence, verdict
from fcotvl.report.study.data import StudyData, System
from fcotvl.report.table import interval

ALIKE = 2.0
"""Points within which two systems count as alike: our reading."""


def kept(study: StudyData, system: System, prompt: str, criterion: float) -> Evidence:
    """What ``system`` keeps of the teacher's score, which should be at least ``criterion`` percent."""
    found = study.retention(system, prompt)
    result = f"{interval(found.value, found.low, found.high)} % kept{_asked_of(found)}"
    return Evidence(system.label, result, verdict(found.low, found.high, criterion))


def gain(subject: str, found: Effect) -> Evidence:
    """A difference that should be above 0."""
    judged = verdict(found.low, found.high, 0.0)
    result = f"{_points(found)}{_asked_of(found)}"
    if judged == UNDECIDED:
        result += f"; {found.detectable:.1f} points could have been seen"
    return Evidence(subject, result, judged)


def alike(subject: str, found: Effect) -> Evidence:
    """A difference that should be small."""
    judged = UNDECIDED
    if found.low >= -ALIKE and found.high <= ALIKE:
        judged = HOLDS
    elif found.low > ALIKE or found.high < -ALIKE:
        judged = FAILS
    return Evidence(subject, f"{_points(found)}{_asked_of(found)}", judged)


def _points(found: Effect) -> str:
    return f"{interval(found.value, found.low, found.high, sign='+')} points"


def _asked_of(found: Effect) -> str:
    seeds = f", {found.seeds} seeds" if found.seeds > 1 else ", one seed"
    return f", n = {found.questions:,}{seeds}"
