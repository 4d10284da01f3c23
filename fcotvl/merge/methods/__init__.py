"""Merge rules by name: from the utility of every coalition to a weight for every checkpoint.

One file each in this folder. Weights sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from fcotvl.core.errors import DataError, ParamsError
from fcotvl.merge.shapley import Coalition, players_of

Utility = Mapping[Coalition, float]
"""Score of the uniform average of each coalition; of the student before, for the empty one."""


@dataclass(frozen=True)
class Options:
    """What rules may be told."""

    weights: str = "clip"
    """How Shapley values become weights: ``clip``, ``softmax`` or ``sum``."""
    tau: float = 0.01
    """Temperature of ``softmax``, in the unit of the utility."""


Rule = Callable[[Utility, Options], dict[str, float]]

_RULES: dict[str, Rule] = {}


def register(name: str) -> Callable[[Rule], Rule]:
    """Make a rule available under ``name``.

    Raises:
        ValueError: that name is taken.
    """

    def add(rule: Rule) -> Rule:
        if name in _RULES:
            raise ValueError(f"two merge rules are called {name!r}")
        _RULES[name] = rule
        return rule

    return add


def available() -> tuple[str, ...]:
    """Names of all rules in this folder, sorted."""
    _import_folder()
    return tuple(sorted(_RULES))


@cache
def _import_folder() -> None:
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def get(name: str) -> Rule:
    """The rule called ``name``.

    Raises:
        ParamsError: there is none.
    """
    if name not in available():
        raise ParamsError(f"no merge rule {name!r}; there are {', '.join(available())}")
    return _RULES[name]


def score_of(utility: Utility, members: Coalition) -> float:
    """The utility of ``members``.

    Raises:
        DataError: that coalition was not scored.
    """
    if members not in utility:
        raise DataError(f"coalition {sorted(members)} has no score; run merge again")
    return utility[members]


def checkpoints(utility: Utility) -> list[str]:
    """The checkpoints that can be merged, sorted.

    Raises:
        DataError: there is none.
    """
    if players := players_of(utility):
        return players
    raise DataError("the coalition table names no checkpoint; run sft and merge again")
