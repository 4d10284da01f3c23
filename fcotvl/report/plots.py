"""Plots as SVG for the page: small, in the page's own colours, readable in light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fcotvl.report.formatting import headline
from fcotvl.report.report_data import LABELS, TRAINING_FREE, ReportData
from fcotvl.report.table import titled

INK, FAINT = "#010101", "#020202"  # placeholders for the page's text colours
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette, safe for any colour vision; the page lightens it in dark mode."""
MARKERS = "osD^vP"

_STYLE = {
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
    """A figure for the page."""

    title: str
    svg: str


@mpl.rc_context(_STYLE)
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
    return {name: _with_prefix(name, plot) for name, plot in plots.items()}


def score_by_ratio(report: ReportData, prompt: str) -> Plot:
    """Scores against the share of visual tokens removed, a panel for each benchmark."""
    data = headline(report.scores, prompt).merge(report.systems, on="system")
    series = {
        "Student, distilled": data["role"] == "distilled",
        "Student, post-trained": data["system"] == report.student,
        **{LABELS.get(name, name): data["role"] == name for name in TRAINING_FREE},
    }

    def draw(axes: Axes, benchmark: str) -> None:
        here = data["benchmark"] == benchmark
        for row in data[here & (data["role"] == "teacher")].to_dict("records"):
            axes.axhspan(row["low"], row["high"], color=FAINT, alpha=0.15, lw=0)
            axes.axhline(row["score"], color=FAINT, lw=1.2, ls="--", label="Teacher")
        for index, (label, chosen) in enumerate(series.items()):
            if (rows := data[here & chosen]).empty:
                continue
            axes.errorbar(
                100 * rows["ratio"] + 1.6 * (index - 2),  # beside each other, not on top
                rows["score"],
                yerr=_errors(rows, "score"),
                fmt=MARKERS[index % len(MARKERS)],
                color=SERIES[index % len(SERIES)],
                ms=4.5,
                elinewidth=1.1,
                label=label,
            )

    ratios = [ratio for ratio in data["ratio"] if ratio]
    title = titled("Score by share of visual tokens removed", prompt)
    return _by_benchmark(report, ratios, title, draw)


def compressors(report: ReportData, prompt: str) -> Plot | None:
    """The ablation grid: scores by ratio of each compressor, seeds averaged, last stage."""
    if report.grid is None or (data := report.grid[report.grid["prompt"] == prompt]).empty:
        return None
    stage = max(data["stage"].unique(), key=lambda name: (name != "distilled", name))
    data = data[data["stage"] == stage]
    means = data.groupby(["benchmark", "compressor", "ratio"], as_index=False)["score"].mean()

    def draw(axes: Axes, benchmark: str) -> None:
        here = means[means["benchmark"] == benchmark]
        for index, (label, rows) in enumerate(here.groupby("compressor", sort=True)):
            (line,) = axes.plot(100 * rows["ratio"], rows["score"], label=str(label))
            line.set(color=SERIES[index % len(SERIES)], marker=MARKERS[index % len(MARKERS)])

    title = titled(f"Compressors, {stage}", prompt)
    return _by_benchmark(report, list(means["ratio"]), title, draw)


def _by_benchmark(report: ReportData, ratios: list[float], title: str, draw: Callable[[Axes, str], None]) -> Plot:
    """A panel for each benchmark, filled by ``draw``, with one legend for all.

    The legend leaves space for wider fonts than matplotlib knows of.
    """
    figure, panels = _panels(len(report.benchmarks), height=3.0)
    for axes, (benchmark, name) in zip(panels, report.benchmarks.items(), strict=True):
        draw(axes, benchmark)
        axes.set(title=name, xlabel="visual tokens removed, %", ylim=(0, None))
        axes.set_xticks(sorted({100 * ratio for ratio in ratios}))
    panels[0].set_ylabel("headline score, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, min(6, len(labels))),
        fontsize=8,
        columnspacing=1.6,
        handletextpad=0.3,
        handlelength=1.4,
    )
    return _svg(figure, title)


def distillation(table: pd.DataFrame) -> Plot:
    """The losses of distillation by step."""
    names = [name for name in ("loss", "kl", "ce") if name in table]
    words = {"loss": "total", "kl": "KL(teacher || student)", "ce": "cross-entropy"}
    series = [(words[name], table["step"], table[name]) for name in names]
    return _curves(series, "Distillation loss", "nats per answer token")


def fine_tuning(table: pd.DataFrame) -> Plot:
    """The loss of each data set by step."""
    return _curves(_by_dataset(table, "loss"), "Fine-tuning loss by data set", "nats per token")


def sampling(table: pd.DataFrame) -> Plot:
    """The sampling weight of each data set by step."""
    series = _by_dataset(table, "weight")
    return _curves(series, "Sampling weight by data set", "share of samples", smooth=1, low=0.0)


def shapley(table: pd.DataFrame) -> Plot:
    """Shapley values of the checkpoints with their intervals."""
    figure, (axes,) = _panels(1, height=2.6)
    names, values = table["checkpoint"].astype(str).tolist(), table["value"]
    axes.bar(names, values, width=0.55, color=SERIES[0], alpha=0.85)
    bars = _errors(table, "value")
    axes.errorbar(names, values, yerr=bars, fmt="none", ecolor=INK, elinewidth=1.2)
    axes.axhline(0, color=FAINT, lw=1)
    axes.grid(visible=False, axis="x")
    axes.set(ylabel="points of validation utility")
    return _svg(figure, "Shapley values of the checkpoints")


Curve = tuple[str, "pd.Series[float]", "pd.Series[float]"]


def _by_dataset(table: pd.DataFrame, value: str) -> list[Curve]:
    groups = table.groupby("dataset", sort=True)
    return [(str(name), part["step"], part[value]) for name, part in groups]


def _curves(series: Iterable[Curve], title: str, label: str, *, smooth: int = 9, low: float | None = None) -> Plot:
    """Lines by step: the running mean of ``smooth`` points over the faint points themselves."""
    figure, (axes,) = _panels(1, height=2.8)
    for index, (name, steps, values) in enumerate(series):
        color = SERIES[index % len(SERIES)]
        if smooth > 1:
            axes.plot(steps, values, color=color, alpha=0.25, lw=0.8)
        mean = values.rolling(smooth, min_periods=1, center=True).mean()
        axes.plot(steps, mean, color=color, label=name, ls="-" if index < len(SERIES) else "--")
    axes.set(xlabel="step", ylabel=label, ylim=(low, None))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return _svg(figure, title)


def _errors(rows: pd.DataFrame, value: str) -> list[pd.Series[float]]:
    """Lengths of error bars; rounding must not make one negative."""
    ends = (rows[value] - rows["low"], rows["high"] - rows[value])
    return [length.clip(lower=0) for length in ends]


def _panels(count: int, *, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8.6, height), layout="constrained")
    grid = figure.subplots(1, count, sharey=True, squeeze=False)
    return figure, list(grid[0])


def _svg(figure: Figure, title: str) -> Plot:
    """The figure as an element to put into a page, the same bytes for the same data."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": title}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' width="[^"]*" height="[^"]*"', "", svg, count=1)  # the page decides
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    svg = re.sub(r"'DejaVu Sans'.*?(?=[;\"])", "inherit", svg)
    for color, name in ((INK, "ink"), (FAINT, "faint"), *((c, c[1:]) for c in SERIES)):
        svg = svg.replace(color, f"var(--{name})" if color in (INK, FAINT) else f"var(--c-{name})")
    return Plot(title, svg)


def _with_prefix(name: str, plot: Plot) -> Plot:
    """The plot with ids that no other figure of the page has."""
    svg = re.sub(r'\bid="', f'id="{name}-', plot.svg)
    return Plot(plot.title, re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{name}-", svg))
