"""The page of claims as one HTML file that needs no other and no network."""

from collections.abc import Mapping, Sequence

from fcotvl.report.page import Section, side_by_side, tally
from fcotvl.report.plots import Plot
from fcotvl.report.study.claims import claims, open_questions
from fcotvl.report.study.data import StudyData
from fcotvl.report.table import PROMPTS, Table
from fcotvl.report.templates import render_template

_SECTIONS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("ratios", "How much can be removed", ("ratios",), ("knee", "scores", "retention")),
    ("cost", "Equal cost", ("cost", "cache"), ("cost", "hard")),
    ("speed", "Speed", (), ("speed",)),
    ("modules", "Compressors", ("modules",), ("modules", "adaptive")),
    ("pictures", "Amount of data", ("pictures", "distillation"), ("pictures",)),
    ("recipes", "Fine-tuning", ("recipes",), ("recipes", "kinds", "chains")),
    ("merging", "Merging", ("values",), ("merging", "regret", "values")),
    ("attention", "Attention", ("attention", "entropy", "lift"), ("attention",)),
)
"""Each section's id, title, names of its figures, stems of its tables."""
_CLOSED = {"retention", "kinds"}


def render_page(study: StudyData, tables: Sequence[Table], plots: Mapping[str, Plot]) -> str:
    """The whole page as text; ``tables`` and ``plots`` as ``all_tables`` and ``all_plots`` make them."""
    sections = [
        Section(
            name,
            title,
            [plots[key] for key in figures if key in plots],
            [table for stem in stems for table in tables if _stem(table.name) == stem],
        )
        for name, title, figures, stems in _SECTIONS
    ]
    sections = [section for section in sections if section.plots or section.tables]
    judged = {prompt: claims(study, prompt) for prompt in study.prompts}
    contents = [("run", "What was run"), ("claims", "Claims of the paper"), ("open", "Open questions")]
    contents += [(section.id, section.title) for section in sections]
    return render_template(
        "study.html.j2",
        contents=[*contents, ("reading", "How to read this")],
        facts=study.facts,
        grids=study.grids,
        claims=side_by_side(list(judged.values())),
        open_questions=side_by_side([open_questions(study, prompt) for prompt in study.prompts]),
        tally={PROMPTS.get(prompt, prompt): tally(own) for prompt, own in judged.items()},
        sections=sections,
        is_open=lambda table: _stem(table.name) not in _CLOSED,
    )


def _stem(name: str) -> str:
    return name.removesuffix("-direct").removesuffix("-cot")
