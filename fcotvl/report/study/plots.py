"""Figures of the study, one panel for each prompt."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from textwrap import fill
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes

from fcotvl.core.bootstrap import Interval
from fcotvl.evaluate.effects import Effect
from fcotvl.report.formatting import percent
from fcotvl.report.plots import (
    DASHES,
    FAINT,
    MARKERS,
    SERIES,
    STYLE,
    Plot,
    curves,
    cycle,
    error_bars,
    make_plot,
    swatch,
)
from fcotvl.report.study import attention
from fcotvl.report.study.claims import RIVALS
from fcotvl.report.study.data import DISTILLED, KINDS, LONG, RECIPE, TEACHER, StudyData, System
from fcotvl.report.study.merging import values_by_source
from fcotvl.report.table import PROMPTS

NOTE = "Bars are 95 % intervals over questions and seeds"
SCORE = "mean score of the benchmarks, %"
WIDE, NARROW = (4.6, 32), (3.4, 24)
"""Inches of a panel and characters of a line above it: of a panel for each prompt, and where there are more."""


@mpl.rc_context(STYLE)
def all_plots(study: StudyData) -> dict[str, Plot]:
    """By name, every figure that the study has data for."""
    made = {
        "ratios": by_ratio(study),
        "cost": by_cost(study, "prefill"),
        "cache": by_cost(study, "cache"),
        "modules": modules(study),
        "pictures": by_pictures(study),
        "distillation": distillation(study),
        "recipes": recipes(study),
        "values": values(study),
        "attention": attention.by_layer(study),
        "entropy": attention.entropy(study),
        "lift": attention.lift(study),
    }
    return {name: plot for name, plot in made.items() if plot}


def by_ratio(study: StudyData) -> Plot | None:
    """Mean score against the share of visual tokens removed."""
    series = _series(study)
    points = [(label, system.ratio, system) for label, systems in series.items() for system in systems]
    curve = study.curves().get("cnn", [])
    knees = {prompt: study.knee(curve, prompt) for prompt in study.prompts if curve}
    found = {prompt: knee.place for prompt, knee in knees.items() if knee.exists}
    title, axis = "Score by share of visual tokens removed", "visual tokens removed"
    band = (f"Knee of {curve[0].label}", found) if found else None
    return _lines(study, title, axis, points, shares="linear", band=band)


def by_cost(study: StudyData, part: Literal["prefill", "cache"]) -> Plot | None:
    """Mean score against the FLOPs of the prefill, or against the bytes of the KV cache."""
    title, axis = {
        "prefill": ("Score by FLOPs of the prefill", "prefill FLOPs without the ViT, share of the teacher's"),
        "cache": ("Score by size of the KV cache", "KV cache after prefill, share of the teacher's"),
    }[part]
    points = [
        (label, getattr(study.costs[system], part), system)
        for label, systems in _series(study).items()
        for system in systems
        if system in study.costs
    ]
    return _lines(study, title, axis, points)


def modules(study: StudyData) -> Plot | None:
    """Compressors beside each other, after distillation."""
    points = [
        (f"{percent(system.ratio)} removed", system.kind, system)
        for system in study.systems(stage=DISTILLED)
        if system.ratio in (0.5, 0.75)
    ]
    return _rows(study, "Compressors after distillation", points, study.score, SCORE)


def by_pictures(study: StudyData) -> Plot | None:
    """Compressors by the amount of data."""
    points = [
        (system.kind, study.share(scale), system)
        for scale in study.scales
        for system in study.systems(stage=DISTILLED, scale=scale)
        if system.ratio == 0.5  # noqa: PLR2004
    ]
    several = {label for label, *_ in points if sum(other == label for other, *_ in points) > 1}
    points = [point for point in points if point[0] in several]
    return _lines(study, "Score by share of the pictures, 50 % removed", "share of the pictures", points, shares="log")


def distillation(study: StudyData) -> Plot | None:
    """The KL of each compressor over the pictures that it has seen, mean over seeds."""
    if study.losses.empty:
        return None
    table = study.losses[(study.losses["scale"] == "") & (study.losses["ratio"] == 0.5)]  # noqa: PLR2004
    if table.empty:
        return None
    means = table.groupby(["compressor", "pictures"])["kl"].mean().reset_index()
    lines = [(str(name), part["pictures"], part["kl"]) for name, part in means.groupby("compressor")]
    return curves(lines, "Distillation by pictures seen, 50 % removed", "KL, nats per answer token", axis="pictures")


def recipes(study: StudyData) -> Plot | None:
    """What fine-tuning changes, by kind of question."""
    base = System("cnn", 0.5, DISTILLED)
    students = [s for s in study.systems() if s.stage.startswith("sft-") and s.ratio == base.ratio]
    if not study.has(base) or not students:
        return None
    points = [
        (words, system.stage.removeprefix("sft-"), (kind, system))
        for system in students
        for kind, words in KINDS.items()
    ]

    def change(chosen: tuple[str, System], prompt: str) -> Effect:
        return study.difference(chosen[1], base, prompt, kind=chosen[0])

    return _rows(study, "What fine-tuning changes", points, change, "points above the distilled student", zero=True)


def values(study: StudyData) -> Plot | None:
    """Shapley values of the checkpoints of each pool, for each source."""
    panels = {
        pool.title: [
            (source, player, e)
            for (player, source), e in values_by_source(pool.coalitions, pool.permutations).items()
            if source
        ]
        for pool in study.pools
    }
    title, axis = "What each checkpoint contributes, by source", "Shapley value, points of right answers"
    return _panels(title, panels, axis, zero=True)


def _series(study: StudyData) -> dict[str, list[System]]:
    """Systems of one kind and stage over the ratios, by label."""
    kinds = [
        ("cnn", DISTILLED),
        ("nested", DISTILLED),
        ("cnn", RECIPE),
        *((name, "") for name in RIVALS),
        ("cnn", LONG),  # last, so that all others look as they do without it
    ]
    found = {}
    for kind, stage in kinds:
        own = sorted((s for s in study.systems(stage=stage) if s.kind == kind), key=lambda system: system.ratio)
        if own:
            found[own[0].label] = own
    return found


def _lines(
    study: StudyData,
    title: str,
    axis: str,
    points: Sequence[tuple[str, float, System]],
    *,
    shares: str = "",
    band: tuple[str, Mapping[str, Interval]] | None = None,
) -> Plot | None:
    """Points of each label with their intervals, joined in their order; a panel for each prompt.

    With a scale for them, the places are ``shares`` of a whole. A ``band`` has a label and, by prompt, where it lies.
    """
    if not points:
        return None
    ticks = sorted({place for _, place, _ in points})
    labels = list(dict.fromkeys(label for label, *_ in points))

    def draw(prompt: str, axes: Axes) -> None:
        if study.has(TEACHER):
            axes.axhline(study.score(TEACHER, prompt).value, color=FAINT, lw=1.2, ls="--", label="Teacher")
        for index, label in enumerate(labels):
            rows = _frame((x, study.score(system, prompt)) for name, x, system in points if name == label)
            look = {"marker": cycle(MARKERS, index), "color": cycle(SERIES, index), "ms": 5, "elinewidth": 1.0}
            bars = error_bars(rows, "value")
            axes.errorbar(rows["x"], rows["value"], yerr=bars, label=label, lw=1.0, ls=_dash(index), **look)
        if band:
            axes.plot([], [], color=FAINT, lw=1.2, ls=":", label=band[0])  # the legend is that of the first panel
        if band and (place := band[1].get(prompt)):
            axes.axvspan(place.low, place.high, color=FAINT, alpha=0.15, lw=0)
            axes.axvline(place.value, color=FAINT, lw=1.2, ls=":")
        axes.set(title=PROMPTS.get(prompt, prompt), xlabel=axis, ylabel=SCORE)
        if shares:
            axes.set_xscale(shares)
            axes.set_xticks(ticks, [percent(tick) for tick in ticks], minor=False)
            axes.minorticks_off()

    keys = [("Teacher", swatch(FAINT, dash=DASHES[1]))]
    keys += [(label, swatch(cycle(SERIES, i), marker=cycle(MARKERS, i))) for i, label in enumerate(labels)]
    keys += [(band[0], swatch(FAINT, dash=DASHES[2]))] if band else []
    return make_plot(
        title, [partial(draw, prompt) for prompt in study.prompts], note=f"{NOTE}.", keys=keys, size=(4.6, 3.4)
    )


def _rows(
    study: StudyData,
    title: str,
    points: Sequence[tuple[str, str, Any]],
    number: Callable[[Any, str], Effect],
    axis: str,
    *,
    zero: bool = False,
) -> Plot | None:
    """A row for each name, a marker for each label; a panel for each prompt."""
    panels = {
        PROMPTS.get(prompt, prompt): [(label, name, number(chosen, prompt)) for label, name, chosen in points]
        for prompt in study.prompts
    }
    return _panels(title, panels if points else {}, axis, zero=zero)


def _panels(
    title: str, panels: Mapping[str, Sequence[tuple[str, str, Effect]]], axis: str, *, zero: bool = False
) -> Plot | None:
    """Panels by title, with a row for each name and a marker for each label."""
    if not panels:
        return None
    labels = list(dict.fromkeys(label for points in panels.values() for label, *_ in points))
    width, line = WIDE if len(panels) <= len(PROMPTS) else NARROW

    def draw(panel: str, axes: Axes) -> None:
        names = list(dict.fromkeys(name for _, name, _ in panels[panel]))
        for index, label in enumerate(labels):
            shift = 0.22 * (index - (len(labels) - 1) / 2)
            rows = _frame((names.index(name) + shift, e) for own, name, e in panels[panel] if own == label)
            look = {"fmt": cycle(MARKERS, index), "color": cycle(SERIES, index), "ms": 5, "elinewidth": 1.2}
            axes.errorbar(rows["value"], rows["x"], xerr=error_bars(rows, "value"), label=label, **look)
        if zero:
            axes.axvline(0, color=FAINT, lw=1)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        # The font of a label is smaller than that of a title.
        axes.set(title=fill(panel.replace(" %", "\N{NO-BREAK SPACE}%"), line), xlabel=fill(axis, line + 12))

    keys = [(label, swatch(cycle(SERIES, i), marker=cycle(MARKERS, i))) for i, label in enumerate(labels)]
    most = max(len({name for _, name, _ in points}) for points in panels.values())
    size = (width, 1.2 + 0.42 * most)
    return make_plot(title, [partial(draw, panel) for panel in panels], note=f"{NOTE}.", keys=keys, size=size)


def _frame(points: Iterable[tuple[float, Effect]]) -> pd.DataFrame:
    return pd.DataFrame([{"x": x, "value": e.value, "low": e.low, "high": e.high} for x, e in points])


def _dash(index: int) -> tuple[int, Sequence[float | int] | None]:
    return 0, cycle(DASHES, index) or None
