"""Plots as SVG, the same ones for the page and as files.

On the page each benchmark is a small picture of its own, in the page's colours, so that a phone shows one below the
other; the file has them side by side with the legend, on white.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from fcotvl.report.formatting import headline, percent
from fcotvl.report.report_data import LABELS, TRAINING_FREE, ReportData
from fcotvl.report.table import titled

INK, FAINT = "#010101", "#020202"  # placeholders for the page's text colours
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette, safe for any colour vision; the page lightens it in dark mode."""
MARKERS = "osD^vPX"
"""One more than colours, so that a seventh series differs from the first."""
DASHES = ((), (5, 2), (1, 1.5), (6, 2, 1, 2), (9, 2), (3, 2, 1, 2, 1, 2), (2, 5))
"""Of lines, in points on and off: colour is never the only difference. One more than colours, too."""
SMOOTH = 9
"""Points of a running mean."""

STYLE = {
    **dict.fromkeys(("axes.labelcolor", "axes.titlecolor", "legend.labelcolor", "text.color"), INK),
    **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "grid.color", "xtick.color", "ytick.color"), FAINT),
    **dict.fromkeys(("axes.spines.right", "axes.spines.top", "legend.frameon"), False),
    **dict.fromkeys(("axes.labelsize", "font.size"), 9),
    "axes.grid": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a name is no formula
}


@dataclass(frozen=True)
class Plot:
    """A figure."""

    title: str
    note: str
    """How to read it, where its axes do not say so."""
    keys: tuple[tuple[str, str], ...]
    """The legend: each label with a small picture of its marker or line."""
    panels: tuple[str, ...]
    """Pictures for the page."""
    file: str
    """All of it as one picture that needs no page."""


Draw = Callable[[Axes], None]


@mpl.rc_context(STYLE)
def all_plots(report: ReportData) -> dict[str, Plot]:
    """By name, every plot that this report has data for."""
    plots = {f"ratio-{prompt}": score_by_ratio(report, prompt) for prompt in report.prompts}
    for prompt in report.prompts:
        if plot := compressors(report, prompt):
            plots[f"compressors-{prompt}"] = plot
    for name, draw, table in (
        ("distill", distillation, report.distill),
        ("sft", fine_tuning, report.sft),
        ("sampling", sampling, report.sampling),
        ("shapley", shapley, report.shapley),
    ):
        if table is not None and not table.empty:
            plots[name] = draw(table)
    return plots


def score_by_ratio(report: ReportData, prompt: str) -> Plot:
    """Scores against the share of visual tokens removed, a panel for each benchmark."""
    data = headline(report.scores, prompt).merge(report.systems, on="system")
    labels = {"distilled": "Student, distilled", "student": "Student, post-trained"}
    labels |= {name: LABELS.get(name, name) for name in TRAINING_FREE}
    data["series"] = data["role"].mask(data["system"] == report.student, "student").map(labels)
    title = titled("Score by share of visual tokens removed", prompt)
    teacher = data[data["role"] == "teacher"]
    data = data.dropna(subset="series")
    names = [label for label in labels.values() if label in set(data["series"])]
    return _in_bands(report, title, data, names, teacher)


def compressors(report: ReportData, prompt: str) -> Plot | None:
    """The ablation grid: scores of each compressor and seed by ratio, last stage."""
    if report.grid is None or (data := report.grid[report.grid["prompt"] == prompt]).empty:
        return None
    stage = max(data["stage"].unique(), key=lambda name: (name != "distilled", name))
    data = data[data["stage"] == stage].assign(series=data["compressor"].astype(str)).sort_values("seed")
    words = "distilled" if stage == "distilled" else f"post-trained, recipe {stage}"
    title = titled(f"Compressors by share of visual tokens removed ({words})", prompt)
    return _in_bands(report, title, data, sorted(data["series"].unique()), data.iloc[:0])


def _in_bands(report: ReportData, title: str, data: pd.DataFrame, names: list[str], teacher: pd.DataFrame) -> Plot:
    """Scores with intervals in one band for each ratio; those of one ratio stand side by side about its middle.

    Args:
        report: for the titles of the benchmarks.
        title: of the figure.
        data: series, ratio, benchmark, score, low, high.
        names: the series in order.
        teacher: benchmark, score, low, high of a line across all bands, or nothing.
    """
    ratios = sorted(data["ratio"].unique())
    top = 1.05 * max([1.0, *data["high"], *teacher["high"]])  # one scale, and no interval beyond it
    order = data["series"].map(names.index)
    data = data.assign(order=order).sort_values("order", kind="stable")
    data["x"] = side_by_side(data, ratios)

    def panel(name: str, heading: str) -> Draw:
        here, lines = data[data["benchmark"] == name], teacher[teacher["benchmark"] == name]

        def draw(axes: Axes) -> None:
            for row in lines.to_dict("records"):
                axes.axhspan(row["low"], row["high"], color=FAINT, alpha=0.15, lw=0)
                axes.axhline(row["score"], color=FAINT, lw=1.2, ls="--", label="Teacher")
            for index, label in enumerate(names):
                rows = here[here["series"] == label]
                look = {"fmt": cycle(MARKERS, index), "color": cycle(SERIES, index), "ms": 5, "elinewidth": 1.2}
                axes.errorbar(rows["x"], rows["score"], yerr=error_bars(rows, "score"), label=label, **look)
            for edge in range(1, len(ratios)):
                axes.axvline(edge - 0.5, color=FAINT, lw=0.8)
            axes.grid(visible=False, axis="x")
            axes.set_xticks(range(len(ratios)), [percent(ratio) for ratio in ratios])
            axes.tick_params(axis="x", length=0)
            axes.set(title=heading, xlabel="visual tokens removed", ylabel="score, %")
            axes.set(xlim=(-0.5, len(ratios) - 0.5), ylim=(-0.03 * top, top))  # a marker at 0 is whole

        return draw

    note = "All points of a band have the share removed that is written below it. Bars are 95 % intervals"
    note += ", and so is the area around the teacher's line." if len(teacher) else ", one for each seed."
    keys = [("Teacher", swatch(FAINT, dash=DASHES[1]))] if len(teacher) else []
    keys += [(name, swatch(cycle(SERIES, i), marker=cycle(MARKERS, i))) for i, name in enumerate(names)]
    return make_plot(title, [panel(*item) for item in report.benchmarks.items()], note=note, keys=keys, size=(3.3, 2.7))


def side_by_side(data: pd.DataFrame, ratios: list[float]) -> pd.Series[float]:
    """Where to draw each row: those of one benchmark and ratio lie evenly about the ratio's place in ``ratios``."""
    groups = data.groupby(["benchmark", "ratio"])
    among = groups["ratio"].transform("size")
    gap = min(0.16, 0.8 / max([1, *among]))
    return data["ratio"].map(ratios.index) + gap * (groups.cumcount() - (among - 1) / 2)


def distillation(table: pd.DataFrame) -> Plot:
    """The losses of distillation by step."""
    names = [name for name in ("loss", "kl", "ce") if name in table]
    words = {"loss": "total", "kl": "KL(teacher || student)", "ce": "cross-entropy"}
    series = [(words[name], table["step"], table[name]) for name in names]
    return curves(series, "Distillation loss", "nats per answer token")


def fine_tuning(table: pd.DataFrame) -> Plot:
    """The loss of each data set by step."""
    return curves(_by_dataset(table, "loss"), "Fine-tuning loss by data set", "nats per token")


def sampling(table: pd.DataFrame) -> Plot:
    """The sampling weight of each data set by step."""
    series = _by_dataset(table, "weight")
    return curves(series, "Sampling weight by data set", "share of samples", smooth=1, low=0.0)


def shapley(table: pd.DataFrame) -> Plot:
    """Shapley values of the checkpoints with their intervals."""
    names, values = table["checkpoint"].astype(str).tolist(), table["value"]

    def draw(axes: Axes) -> None:
        axes.bar(names, values, width=0.55, color=SERIES[0], alpha=0.85)
        bars = error_bars(table, "value")
        axes.errorbar(names, values, yerr=bars, fmt="none", ecolor=INK, elinewidth=1.2)
        axes.axhline(0, color=FAINT, lw=1)
        axes.grid(visible=False, axis="x")
        axes.set(ylabel="points of validation utility")

    return make_plot("Shapley values of the checkpoints", [draw], note="Bars are 95 % intervals.")


Curve = tuple[str, "pd.Series[float]", "pd.Series[float]"]


def _by_dataset(table: pd.DataFrame, value: str) -> list[Curve]:
    groups = table.groupby("dataset", sort=True)
    return [(str(name), part["step"], part[value]) for name, part in groups]


def curves(
    lines: Iterable[Curve],
    title: str,
    label: str,
    *,
    smooth: int = SMOOTH,
    low: float | None = None,
    axis: str = "step",
) -> Plot:
    """Lines by step: the running mean of ``smooth`` points over the faint points themselves."""
    series = list(lines)

    def draw(axes: Axes) -> None:
        for index, (name, steps, values) in enumerate(series):
            color = cycle(SERIES, index)
            if smooth > 1:
                axes.plot(steps, values, color=color, alpha=0.2, lw=0.7)
            mean = values.rolling(smooth, min_periods=1, center=True).mean()
            axes.plot(steps, mean, color=color, label=name, ls=(0, cycle(DASHES, index) or None))
        axes.set(xlabel=axis, ylabel=label, ylim=(low, None))

    note = f"Lines are running means over {smooth} recorded values; the values themselves are faint."
    keys = [(name, swatch(cycle(SERIES, i), dash=cycle(DASHES, i))) for i, (name, _, _) in enumerate(series)]
    return make_plot(title, [draw], note=note if smooth > 1 else "", keys=keys)


def swatch(color: str, *, marker: str = "", dash: Sequence[float | int] | None = None) -> str:
    """A line (with ``dash``) or a ``marker`` for a legend."""
    shapes = ""
    if dash is not None:
        style = f' stroke-dasharray="{" ".join(map(str, dash))}"' if dash else ""
        shapes += f'<path d="M0 6H26" stroke="{color}" stroke-width="2"{style}/>'
    if marker:
        found = MarkerStyle(marker)
        outline = np.asarray(found.get_path().transformed(found.get_transform()).to_polygons()[0])
        points = " ".join(f"{13 + 9 * x:.1f},{6 - 9 * y:.1f}" for x, y in outline)
        shapes += f'<polygon points="{points}" fill="{color}"/>'
    return _coloured(f'<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true">{shapes}</svg>')


def cycle(values: Sequence[Any], index: int) -> Any:
    """The value for series ``index``, from the start again where there are more series than values."""
    return values[index % len(values)]


def error_bars(rows: pd.DataFrame, value: str) -> list[pd.Series[float]]:
    """Lengths of error bars down and up; rounding must not make one negative."""
    ends = (rows[value] - rows["low"], rows["high"] - rows[value])
    return [length.clip(lower=0) for length in ends]


def make_plot(
    title: str,
    draws: Sequence[Draw],
    *,
    note: str,
    keys: Sequence[tuple[str, str]] = (),
    size: tuple[float, float] = (4.7, 2.9),
) -> Plot:
    """Each panel by itself for the page, and all beside each other above one legend for the file."""
    panels: list[str] = []
    for draw in draws:
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        panels.append(_for_page(_svg(figure, title), title, f"{title} {len(panels)}"))
    width, height = size
    together = Figure(figsize=(width * len(draws), height + 0.6), layout="constrained")
    for axes, draw in zip(together.subplots(1, len(draws), squeeze=False)[0], draws, strict=True):
        draw(axes)
    if keys:
        handles, labels = together.axes[0].get_legend_handles_labels()
        columns = min(len(labels), 2 * len(draws))
        together.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)
    return Plot(title, note, tuple(keys), tuple(panels), _for_file(_svg(together, title)))


def _svg(figure: Figure, title: str) -> str:
    """The figure as one element, the same bytes for the same data."""
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_alpha(0)
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": title}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)


def _for_page(svg: str, title: str, key: str) -> str:
    """``svg`` in the size, font and colours of the page, with ids that no other figure has."""
    prefix = re.sub(r"\W+", "-", key).lower()
    svg = re.sub(r' width="[^"]*" height="[^"]*"', "", svg, count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
    svg = re.sub(r"'DejaVu Sans'.*?(?=[;\"])", "inherit", svg)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    return _coloured(re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{prefix}-", svg))


def _for_file(svg: str) -> str:
    """``svg`` in fixed colours, on white."""
    svg = re.sub(r"'DejaVu Sans'.*?(?=[;\"])", "sans-serif", svg)
    svg = svg.replace("<svg", '<svg style="background: #ffffff"', 1)
    return svg.replace(INK, "#1c2126").replace(FAINT, "#8b949e") + "\n"


def _coloured(svg: str) -> str:
    """``svg`` with the variables of the page in place of colours."""
    svg = svg.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
    for color in SERIES:
        svg = svg.replace(color, f"var(--c-{color[1:]})")
    return svg
