"""The report as one HTML page that needs no other file and no network."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fcotvl.report.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Claim, claims
from fcotvl.report.formatting import headline
from fcotvl.report.plots import Plot
from fcotvl.report.report_data import ROLES, Case, ReportData
from fcotvl.report.table import PROMPTS, Table
from fcotvl.report.templates import render_template

_SECTIONS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("results", "Results", ("ratio",), ("results", "retention", "differences", "metrics", "kinds", "harness")),
    ("ablations", "Ablations", ("compressors",), ("ablation", "modules")),
    ("merging", "Merging", ("shapley",), ("shapley", "merge")),
    ("speed", "Speed", (), ("speed",)),
    ("training", "Training", ("distill", "sft", "sampling"), ("acceptance",)),
    ("data", "Data", (), ("audit",)),
)
"""Each section's id, title, stems of its plots, stems of its tables."""
_OPEN = {"results", "differences", "modules", "ablation", "merge", "shapley", "speed", "acceptance", "harness"}

KINDS = {"extractive": "written in the picture", "reason": "to be worked out", "transcribe": "the whole text"}
OUTCOMES = {
    "alike": "teacher and student score alike",
    "teacher": "the teacher scores higher",
    "student": "the student scores higher",
}
"""Of a case in the gallery, in words."""


@dataclass(frozen=True)
class Section:
    """A chapter of the page."""

    id: str
    title: str
    plots: Sequence[Plot]
    tables: Sequence[Table]


def render_page(report: ReportData, tables: Sequence[Table], plots: Mapping[str, Plot]) -> str:
    """The whole page as text; ``tables`` and ``plots`` as ``all_tables`` and ``all_plots`` make them."""
    sections = _sections(report, plots, tables)
    judged = {prompt: claims(report, prompt) for prompt in report.prompts}
    contents = [("run", "What was run"), ("claims", "Claims of the paper")]
    contents += [(section.id, section.title) for section in sections]
    gallery = _gallery(report)
    contents += [("gallery", "Gallery")] if gallery else []
    return render_template(
        "page.html.j2",
        is_ablation=report.grid is not None,
        contents=[*contents, ("params", "Params"), ("reading", "How to read this")],
        facts=report.facts,
        params=report.params,
        cards=_cards(report),
        claims=side_by_side(list(judged.values())),
        tally={PROMPTS.get(prompt, prompt): tally(own) for prompt, own in judged.items()},
        sections=sections,
        gallery=gallery,
        is_open=lambda table: _stem(table.name) in _OPEN,
    )


def tally(judged: Sequence[Claim]) -> dict[str, int]:
    """How many claims have each verdict, where any has it."""
    found = Counter(claim.verdict for claim in judged)
    return {verdict: found[verdict] for verdict in (HOLDS, UNDECIDED, FAILS, UNTESTED) if found[verdict]}


def side_by_side(judged: Sequence[Sequence[Claim]]) -> list[dict[str, Any]]:
    """Each claim with its verdict under every prompt, and its evidence by subject, the prompts side by side.

    Args:
        judged: the same claims under each prompt.
    """
    rows = []
    for group in zip(*judged, strict=True):
        by_prompt = {PROMPTS.get(claim.prompt, claim.prompt): claim for claim in group}
        subjects = dict.fromkeys(item.subject for claim in group for item in claim.evidence)
        found = {name: {item.subject: item for item in claim.evidence} for name, claim in by_prompt.items()}
        rows.append(
            {
                "claim": group[0],
                "names": [claim.prompt for claim in by_prompt.values()],
                "verdicts": {name: claim.verdict for name, claim in by_prompt.items()},
                "rows": {subject: [items.get(subject) for items in found.values()] for subject in subjects},
            }
        )
    return rows


def _sections(report: ReportData, plots: Mapping[str, Plot], tables: Sequence[Table]) -> list[Section]:
    sections = [
        Section(
            name,
            title,
            [plot for stem in plot_stems for key, plot in plots.items() if _stem(key) == stem],
            [table for stem in table_stems for table in tables if _stem(table.name) == stem],
        )
        for name, title, plot_stems, table_stems in _SECTIONS
    ]
    if report.grid is not None:  # a page of its own, which opens with what it is about
        sections.sort(key=lambda section: section.id != "ablations")
    return [section for section in sections if section.plots or section.tables]


def _cards(report: ReportData) -> dict[str, list[dict[str, Any]]]:
    """By prompt, the headline of each benchmark: student, teacher, and what is retained."""
    cards: dict[str, list[dict[str, Any]]] = {}
    for prompt in report.prompts:
        scores, retained = (headline(t, prompt) for t in (report.scores, report.retention))
        for name, title in report.benchmarks.items():
            rows = scores[scores["benchmark"] == name].set_index("system").to_dict("index")
            kept = retained[retained["benchmark"] == name].set_index("system")["retention"]
            if {report.student, "teacher"} <= set(rows):
                card = {"title": title, "metric": report.metrics[name], "retention": kept.get(report.student, math.nan)}
                card |= {"student": rows[report.student], "teacher": rows["teacher"]}
                cards.setdefault(PROMPTS.get(prompt, prompt), []).append(card)
    return cards


def _gallery(report: ReportData) -> dict[str, Any] | None:
    """What the page says of the gallery: its cases, what they can be filtered by, and what is not shown."""
    if report.gallery is None:
        return None
    prompts = {name: words.lower() for name, words in PROMPTS.items()}
    facets = {"benchmark": report.benchmarks, "kind": KINDS, "prompt": prompts, "outcome": OUTCOMES}
    cases = report.gallery.cases
    return {
        "cases": [(case, *_replies(report, case)) for case in cases],
        "facets": {
            name: {value: words.get(value, value) for value in dict.fromkeys(getattr(case, name) for case in cases)}
            for name, words in facets.items()
        },
        "drawn_from": report.gallery.drawn_from,
        "withheld": report.gallery.withheld,
    }


def _replies(report: ReportData, case: Case) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The replies of teacher, student and FastV at the student's ratio, and those of the other systems."""
    systems = report.systems.set_index("system")
    first = {"teacher", report.student}
    first |= {name for name in report.role("fastv") if systems["ratio"][name] == systems["ratio"][report.student]}
    rows: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for name in report.role(*ROLES):
        if answer := case.answers.get(name):
            tokens = f"{case.tiles * int(systems['tokens'][name]):,}"
            rows[name not in first].append({"label": report.label(name), "tokens": tokens, "answer": answer})
    return rows


def _stem(name: str) -> str:
    return name.removesuffix("-direct").removesuffix("-cot")
