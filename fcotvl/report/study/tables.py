"""Tables of the study; each has a prompt, and files of tidy numbers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from fcotvl.evaluate.effects import Effect
from fcotvl.report.formatting import percent
from fcotvl.report.report_data import METHODS
from fcotvl.report.study.claims import RECIPE
from fcotvl.report.study.data import DISTILLED, TEACHER, StudyData, System
from fcotvl.report.study.merging import regret, regret_effect, values_by_source
from fcotvl.report.table import Table, interval, make_table
from fcotvl.report.table import number as shown

INTERVALS = "95 % intervals over questions and seeds"
MEAN = "Mean"
KINDS = {"extractive": "Written in the picture", "reason": "To be worked out"}
Number = Callable[[System, str | None], Effect]
"""An effect of a system on a benchmark, or on all of them."""


def all_tables(study: StudyData) -> list[Table]:
    """All tables that the study has data for, in order."""
    makers = (scores, retention, modules, pictures, cost, recipes, kinds, merging, regrets)
    made = [make(study, prompt) for make in makers for prompt in study.prompts] + [values(study), speed(study)]
    return [table for table in made if table is not None]


def scores(study: StudyData, prompt: str) -> Table | None:
    """Every system trained at the study's own scale, and those without training."""
    note = f"Scores in percent with {INTERVALS}. The mean counts each benchmark the same."
    number = _scores(study, prompt)
    return _table(study, "scores", "Scores", study.systems(), number, note=note, prompt=prompt)


def retention(study: StudyData, prompt: str) -> Table | None:
    """What each system keeps of the teacher's score."""

    def number(system: System, benchmark: str | None) -> Effect:
        return study.retention(system, prompt, benchmark=benchmark)

    note = f"Score in percent of the teacher's on the same questions, with {INTERVALS}."
    others = [system for system in study.systems() if system != TEACHER]
    return _table(study, "retention", "Retention", others, number, note=note, prompt=prompt)


def modules(study: StudyData, prompt: str) -> Table | None:
    """Compressors after distillation, against ``cnn`` at the same ratio."""
    systems = [s for s in study.systems(stage=DISTILLED) if study.has(System("cnn", s.ratio, DISTILLED))]

    def number(system: System, benchmark: str | None) -> Effect:
        return study.difference(system, System("cnn", system.ratio, DISTILLED), prompt, benchmark=benchmark)

    note = f"Points above the distilled cnn of the same ratio and seed, with {INTERVALS}."
    others = [system for system in systems if system.kind != "cnn"]
    return _table(study, "modules", "Compressors", others, number, note=note, prompt=prompt, sign="+")


def pictures(study: StudyData, prompt: str) -> Table | None:
    """Compressors by the amount of data."""
    distilled = [system for scale in study.scales for system in study.systems(stage=DISTILLED, scale=scale)]
    small = {(system.kind, system.ratio) for system in distilled if system.scale}
    systems = [system for system in distilled if (system.kind, system.ratio) in small]
    note = f"Distilled on a share of the pictures, each once. Scores in percent with {INTERVALS}."
    shares = [{"Pictures": percent(study.share(system.scale))} for system in systems]
    return _table(
        study, "pictures", "Amount of data", systems, _scores(study, prompt), note=note, prompt=prompt, columns=shares
    )


def cost(study: StudyData, prompt: str) -> Table | None:
    """Systems by the FLOPs of their prefill."""
    systems = [s for s in study.systems() if s in study.prefill and s.stage in ("", DISTILLED, RECIPE)]
    systems.sort(key=lambda system: (study.prefill[system], system))
    note = (
        "Prefill: FLOPs of connector and LLM up to the first token, as a share of the teacher's. The ViT is left out: "
        f"it costs the same in each system but smaller tiles. Scores in percent with {INTERVALS}."
    )
    shares = [{"Prefill": f"{study.prefill[system]:.3f}"} for system in systems]
    return _table(
        study, "cost", "Equal cost", systems, _scores(study, prompt), note=note, prompt=prompt, columns=shares
    )


def recipes(study: StudyData, prompt: str) -> Table | None:
    """Recipes of fine-tuning, against the distilled student."""
    systems = [s for s in study.systems() if s.stage.startswith("sft-")]
    systems = [s for s in systems if study.has(System(s.kind, s.ratio, DISTILLED))]

    def number(system: System, benchmark: str | None) -> Effect:
        return study.difference(system, System(system.kind, system.ratio, DISTILLED), prompt, benchmark=benchmark)

    note = f"Points above the distilled student of the same seed, with {INTERVALS}."
    return _table(study, "recipes", "Fine-tuning", systems, number, note=note, prompt=prompt, sign="+")


def kinds(study: StudyData, prompt: str) -> Table | None:
    """Fine-tuning and compression by kind of question: mean over the benchmarks."""
    asked = set(study.questions[prompt]["kind"])
    known = {kind: words for kind, words in KINDS.items() if kind in asked}
    rows, data = [], []
    for system in study.systems():
        found = {kind: study.score(system, prompt, kind=kind) for kind in known}
        rows.append(_head(system) | {known[kind]: _cell(effect) for kind, effect in found.items()})
        data += [_tidy(system, prompt, effect) | {"kind": kind} for kind, effect in found.items()]
    note = f"Mean of the benchmarks' scores in percent, with {INTERVALS}."
    return make_table("kinds", "By kind of question", note, rows if known else [], pd.DataFrame(data), prompt=prompt)


def merging(study: StudyData, prompt: str) -> Table | None:
    """Merge methods, against the last checkpoint."""
    systems = [s for s in study.systems() if s.stage.rpartition("/")[2] in METHODS]
    systems = [s for s in systems if study.has(System(s.kind, s.ratio, RECIPE))]

    def number(system: System, benchmark: str | None) -> Effect:
        return study.difference(system, System(system.kind, system.ratio, RECIPE), prompt, benchmark=benchmark)

    note = f"Points above the last checkpoint of the same seed, with {INTERVALS}."
    return _table(study, "merging", "Merging", systems, number, note=note, prompt=prompt, sign="+")


def regrets(study: StudyData, prompt: str) -> Table | None:
    """How far merged students stay behind the best single checkpoint of each benchmark."""
    rows, data = [], []
    for pool in study.pools:
        systems = {METHODS.get(name, name): one for name, one in pool.methods.items() if study.has(one)}
        if not pool.members or not study.has(*pool.members.values()):
            continue
        for label, system in systems.items():
            worst = regret(study, system, pool.members, prompt)
            found, mean = regret_effect(study, worst, prompt), study.score(system, prompt)
            where = f"{study.benchmarks[worst.benchmark]}, behind {worst.best.stage.rpartition('/')[2]}"
            cells = {"Mean score": _cell(mean), "Worst regret": _cell(found, "+"), "Where": where}
            rows.append({"Pool": pool.title, "Method": label} | cells)
            data.append(_tidy(system, prompt, found) | {"pool": pool.title, "benchmark": worst.benchmark})
    note = (
        "Points behind the best single checkpoint of a benchmark, on the benchmark where they are most, with "
        f"{INTERVALS}. Below 0, the merged student is above all checkpoints on every benchmark."
    )
    return make_table("regret", "Regret", note, rows, pd.DataFrame(data), prompt=prompt)


def values(study: StudyData) -> Table | None:
    """What each checkpoint contributes, to all questions and to those of each source."""
    rows, data = [], []
    for pool in study.pools:
        found = values_by_source(pool.coalitions)
        for player in dict.fromkeys(player for player, _ in found):
            own = {source: value for (name, source), value in found.items() if name == player}
            cells = {MEAN if source is None else source: _cell(value, "+") for source, value in own.items()}
            rows.append({"Pool": pool.title, "Checkpoint": player} | cells)
            data += [
                {"pool": pool.title, "checkpoint": player, "source": source or MEAN.lower()} | asdict(value)
                for source, value in own.items()
            ]
    note = f"Shapley values in points of the validation questions answered correctly, with {INTERVALS}."
    return make_table("values", "Shapley values by source", note, rows, pd.DataFrame(data))


def speed(study: StudyData) -> Table | None:
    """Measured time of each part, and what counting operations predicts."""
    rows = [
        {
            "System": str(row["system"]),
            "Part": str(row["part"]),
            "Time": interval(row["measured"], row["low"], row["high"], digits=3),
            "Predicted": shown(row["predicted"], 3),
        }
        for row in study.speed.to_dict("records")
        if row["part"] in ("vit", "connector", "prefill", "decode", "kv")
    ]
    note = (
        "As a ratio to the teacher in the same round: the median, the least and the greatest. Measured on "
        f"{study.shape}. kv: bytes of the cache after prefill."
    )
    return make_table("speed", "Speed at a true shape", note, rows, study.speed)


def _scores(study: StudyData, prompt: str) -> Number:
    return lambda system, benchmark: study.score(system, prompt, benchmark=benchmark)


def _table(
    study: StudyData,
    name: str,
    title: str,
    systems: Iterable[System],
    number: Number,
    *,
    note: str,
    prompt: str,
    sign: str = "",
    columns: Sequence[dict[str, str]] = (),
) -> Table | None:
    """A row for each system, with the mean of the benchmarks and each of them."""
    rows, data = [], []
    for index, system in enumerate(systems):
        found = {MEAN: number(system, None)} | {name: number(system, name) for name in study.benchmarks}
        shown = {study.benchmarks.get(key, key): _cell(effect, sign) for key, effect in found.items()}
        rows.append(_head(system) | (columns[index] if columns else {}) | shown)
        data += [_tidy(system, prompt, effect) | {"benchmark": key.lower()} for key, effect in found.items()]
    asked = study.questions[prompt].groupby("benchmark").size()
    note += f" Questions: {', '.join(f'{study.benchmarks[str(key)]} {count:,}' for key, count in asked.items())}."
    return make_table(name, title, note, rows, pd.DataFrame(data), prompt=prompt)


def _head(system: System) -> dict[str, str]:
    return {"System": system.label, "Removed": percent(system.ratio)}


def _cell(effect: Effect, sign: str = "") -> str:
    return interval(effect.value, effect.low, effect.high, sign=sign)


def _tidy(system: System, prompt: str, effect: Effect) -> dict[str, Any]:
    return system._asdict() | {"prompt": prompt} | asdict(effect)
