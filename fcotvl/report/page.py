"""The report as one HTML page that needs no other file and no network."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from fcotvl.report.claims import claims
from fcotvl.report.formatting import headline
from fcotvl.report.plots import Plot, all_plots
from fcotvl.report.report_data import ReportData
from fcotvl.report.table import Table

_SECTIONS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("results", "Results", ("ratio",), ("results", "retention", "differences", "metrics", "kinds")),
    ("ablations", "Ablations", ("compressors",), ("modules", "ablation")),
    ("merging", "Merging", ("shapley",), ("shapley", "merge")),
    ("speed", "Speed", (), ("speed",)),
    ("training", "Training", ("distill", "sft", "sampling"), ("acceptance",)),
    ("data", "Data", (), ("audit",)),
)
"""Each section's id, title, stems of its plots, stems of its tables."""
_OPEN = {"results", "differences", "modules", "ablation", "merge", "shapley", "speed", "acceptance"}
_INTERVAL = re.compile(r"^(.+?) (\[.+\])$")


@dataclass(frozen=True)
class Section:
    """A chapter of the page."""

    id: str
    title: str
    plots: Sequence[Plot]
    tables: Sequence[Table]


def render_page(report: ReportData, tables: Sequence[Table]) -> str:
    """The whole page as text; ``tables`` as ``all_tables`` makes them."""
    environment = Environment(
        autoescape=select_autoescape(default=True), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = _cell
    judged = claims(report)
    source = files("fcotvl.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        facts=report.facts,
        params=report.params,
        cards=_cards(report),
        claims=judged,
        verdicts=Counter(claim.verdict for claim in judged),
        sections=_sections(all_plots(report), tables),
        is_open=lambda table: _stem(table.name) in _OPEN,
    )


def _sections(plots: dict[str, Plot], tables: Sequence[Table]) -> list[Section]:
    sections = [
        Section(
            name,
            title,
            [plot for stem in plot_stems for key, plot in plots.items() if _stem(key) == stem],
            [table for stem in table_stems for table in tables if _stem(table.name) == stem],
        )
        for name, title, plot_stems, table_stems in _SECTIONS
    ]
    return [section for section in sections if section.plots or section.tables]


def _cards(report: ReportData) -> list[dict[str, Any]]:
    """The headline of each benchmark and prompt: student, teacher, and what is retained."""
    cards = []
    for prompt in report.prompts:
        scores, retained = (headline(t, prompt) for t in (report.scores, report.retention))
        for name, title in report.benchmarks.items():
            rows = scores[scores["benchmark"] == name].set_index("system").to_dict("index")
            kept = retained[retained["benchmark"] == name].set_index("system")["retention"]
            if {report.student, "teacher"} <= set(rows):
                cards.append(
                    {
                        "title": title,
                        "prompt": prompt,
                        "metric": report.metrics[name],
                        "student": rows[report.student],
                        "teacher": rows["teacher"],
                        "retention": kept.get(report.student, math.nan),
                    }
                )
    return cards


def _stem(name: str) -> str:
    return name.removesuffix("-direct").removesuffix("-cot")


def _cell(text: object) -> Markup:
    """The text with its interval, if any, in a fainter style."""
    found = _INTERVAL.match(str(text))
    if not found:
        return escape(text)
    return Markup('{} <span class="interval">{}</span>').format(*found.groups())
