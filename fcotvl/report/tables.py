"""Every table of the report, in its order. Schemas of what goes in are in ``inputs.py``."""

from __future__ import annotations

from collections.abc import Callable

from fcotvl.report import diagnostics as accounts
from fcotvl.report import scores
from fcotvl.report.report_data import Inputs
from fcotvl.report.table import Table


def all_tables(inputs: Inputs) -> list[Table]:
    """All tables that these inputs have data for, in the order of the page."""
    by_prompt: list[Callable[[Inputs, str], Table | None]] = [
        scores.results,
        scores.retained,
        scores.differences,
        scores.modules,
        scores.grid,
        scores.dialects,
        scores.kinds,
        accounts.rules,
    ]
    alone: list[Callable[[Inputs], Table | None]] = [
        accounts.shapley,
        accounts.speed,
        accounts.composition,
        accounts.acceptance,
    ]
    made = [make(inputs, prompt) for make in by_prompt for prompt in inputs.prompts]
    made += [make(inputs) for make in alone]
    return [table for table in made if table is not None]
