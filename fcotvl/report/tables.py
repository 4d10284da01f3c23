"""Every table of the report, in the order of the page."""

from fcotvl.report import diagnostics, scores
from fcotvl.report.report_data import ReportData
from fcotvl.report.table import Table

_BY_PROMPT = (
    scores.results,
    scores.retained,
    scores.differences,
    scores.modules,
    scores.grid,
    scores.dialects,
    scores.kinds,
    diagnostics.methods,
)
_OTHERS = (diagnostics.harness, diagnostics.shapley, diagnostics.speed, diagnostics.composition, diagnostics.acceptance)


def all_tables(report: ReportData) -> list[Table]:
    """All tables that this report has data for, in order."""
    made = [make(report, prompt) for make in _BY_PROMPT for prompt in report.prompts]
    made += [make(report) for make in _OTHERS]
    return [table for table in made if table is not None]
