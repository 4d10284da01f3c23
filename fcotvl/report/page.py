"""The report as one HTML page that needs no other file and no network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from fcotvl.report.claims import Claim, claims
from fcotvl.report.plots import Plot, all_plots
from fcotvl.report.report_data import Inputs
from fcotvl.report.table import Table

_SECTIONS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("results", "Results", ("ratio",), ("results", "retention", "differences", "metrics", "kinds")),
    ("ablations", "Ablations", ("compressors",), ("modules", "ablation")),
    ("merging", "Merging", ("shapley",), ("shapley", "merge")),
    ("speed", "Speed", (), ("speed",)),
    ("training", "Training", ("distill", "sft", "sampling"), ("acceptance",)),
    ("data", "Data", (), ("audit",)),
)
"""Of each section: id, title, stems of its plots, stems of its tables."""
_OPEN = {"results", "differences", "modules", "ablation", "merge", "shapley", "speed", "acceptance"}
_INTERVAL = re.compile(r"^(.+?) (\[.+\])$")


@dataclass(frozen=True)
class Section:
    """A chapter of the page."""

    id: str
    title: str
    plots: Sequence[Plot]
    tables: Sequence[Table]


def render_page(inputs: Inputs, tables: Sequence[Table]) -> str:
    """The whole page as text.

    Args:
        inputs: what the report is made of.
        tables: as ``all_tables`` makes them.
    """
    environment = Environment(
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    found = claims(inputs)
    source = files("fcotvl.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        facts=inputs.facts,
        params=inputs.params,
        cards=_cards(inputs),
        claims=found,
        verdicts=_tally(found),
        sections=_sections(all_plots(inputs), tables),
        is_open=lambda table: _stem(table.name) in _OPEN,
        notes=inputs.notes,
    )


def _sections(plots: dict[str, Plot], tables: Iterable[Table]) -> list[Section]:
    by_stem: dict[str, list[Table]] = {}
    for table in tables:
        by_stem.setdefault(_stem(table.name), []).append(table)
    made = [
        Section(
            name,
            title,
            [plot for stem in figures for key, plot in plots.items() if _stem(key) == stem],
            [table for stem in stems for table in by_stem.get(stem, [])],
        )
        for name, title, figures, stems in _SECTIONS
    ]
    return [section for section in made if section.plots or section.tables]


def _cards(inputs: Inputs) -> list[dict[str, Any]]:
    """The headline of each benchmark and prompt: student, teacher, and what is retained."""
    scores = {
        (row["benchmark"], row["prompt"], row["system"]): row
        for row in inputs.scores[inputs.scores["headline"].astype(bool)].to_dict("records")
    }
    retained = {
        (row["benchmark"], row["prompt"], row["system"]): row["retention"]
        for row in inputs.retention[inputs.retention["headline"].astype(bool)].to_dict("records")
    }
    return [
        {
            "title": title,
            "prompt": prompt,
            "metric": inputs.metrics[name],
            "student": scores[name, prompt, inputs.student],
            "teacher": scores[name, prompt, inputs.teacher],
            "retention": retained.get((name, prompt, inputs.student), float("nan")),
        }
        for prompt in inputs.prompts
        for name, title in inputs.benchmarks.items()
        if {(name, prompt, inputs.student), (name, prompt, inputs.teacher)} <= set(scores)
    ]


def _tally(found: Sequence[Claim]) -> dict[str, int]:
    verdicts = [claim.verdict for claim in found]
    return {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}


def _stem(name: str) -> str:
    return name.removesuffix("-direct").removesuffix("-cot")


def _cell(text: object) -> Markup:
    """A value stands out, its interval steps back."""
    found = _INTERVAL.match(str(text))
    if not found:
        return escape(text)
    return Markup('{} <span class="interval">{}</span>').format(*found.groups())
