"""Tables of the study; each has a prompt, and files of tidy numbers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from fcotvl.core.bootstrap import Interval
from fcotvl.evaluate.effects import Effect
from fcotvl.report.formatting import percent
from fcotvl.report.report_data import METHODS
from fcotvl.report.study import attention
from fcotvl.report.study.chains import SLIPS
from fcotvl.report.study.claims import claims
from fcotvl.report.study.data import DISTILLED, KINDS, LONG, RECIPE, RIGHT, TEACHER, StudyData, System
from fcotvl.report.study.merging import regret, regret_effect, values_by_source
from fcotvl.report.table import MISSING, PROMPTS, Table, interval, make_table
from fcotvl.report.table import number as shown

INTERVALS = "95 % intervals over questions and seeds"
MEAN = "Mean"
Number = Callable[[System, str | None], Effect]
"""An effect of a system on a benchmark, or on all of them."""


def all_tables(study: StudyData) -> list[Table]:
    """All tables that the study has data for, in order."""
    makers = (knees, scores, retention, modules, adaptive, pictures, cost, hard, recipes, kinds, merging, regrets)
    made = [verdicts(study)] + [make(study, prompt) for make in makers for prompt in study.prompts]
    made += [values(study), speed(study), chains(study)]
    made += [attention.table(study, prompt) for prompt in study.prompts]
    return [table for table in made if table is not None]


def verdicts(study: StudyData) -> Table | None:
    """Every claim of the paper with its verdict under each prompt; its file has the evidence."""
    judged = {prompt: claims(study, prompt) for prompt in study.prompts}
    rows = [
        {"Claim": group[0].title} | {PROMPTS.get(p, p): claim.verdict for p, claim in zip(judged, group, strict=True)}
        for group in zip(*judged.values(), strict=True)
    ]
    data = [
        {"claim": claim.title, "prompt": prompt, "subject": item.subject, "verdict": item.verdict}
        | {"counts": item.counts, "result": item.result, **item.numbers}
        for prompt, own in judged.items()
        for claim in own
        for item in claim.evidence
    ]
    note = (
        f"Each verdict follows from the numbers that count in the file of this table: effects with {INTERVALS}; of "
        "speed, the range of all rounds."
    )
    return make_table("claims", "Claims of the paper", note, rows, pd.DataFrame(data))


def knees(study: StudyData, prompt: str) -> Table | None:
    """The share of tokens from which on more is lost than before."""
    rows, data, ranges = [], [], dict[str, None]()
    for systems in study.curves().values():
        found = study.knee(systems, prompt)
        parts = {"Bend": _scaled(found.bend, 0.1)}
        if found.exists:
            parts |= {"Knee": _scaled(found.place, 100.0)}
            parts |= {"Before": _scaled(found.before, 0.1), "After": _scaled(found.after, 0.1)}
        cells = {name: interval(*part, sign="" if name == "Knee" else "+") for name, part in parts.items()}
        rows.append({"System": systems[0].label, "Knee": "none", "Before": MISSING, "After": MISSING} | cells)
        shared: dict[str, Any] = {"kind": systems[0].kind, "stage": systems[0].stage, "prompt": prompt}
        shared |= {"questions": found.bend.questions, "seeds": found.bend.seeds}
        ends = ("value", "low", "high")
        data += [shared | {"part": name.lower()} | dict(zip(ends, part, strict=True)) for name, part in parts.items()]
        ranges[f"{percent(systems[0].ratio)} and {percent(systems[-2].ratio)}"] = None
    note = (
        "The knee, in percent of the tokens removed, is where two lines meet that fit the mean scores of teacher and "
        "students best; slopes are points for each 10 % removed. The bend is the change of slope wherever it lies: "
        "only where its whole interval is below 0 is there a knee, otherwise one line fits as well as two. A knee is "
        f"sought between {' or '.join(ranges)}; one at an end may lie further out. {INTERVALS}; of knee and slopes, "
        "both are drawn anew."
    )
    return make_table("knee", "Knee", note, rows, pd.DataFrame(data), prompt=prompt)


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


def adaptive(study: StudyData, prompt: str) -> Table | None:
    """Two ratios around a mean, against one for all pictures."""
    scopes = {MEAN: list(study.benchmarks)} | {name: [name] for name in study.benchmarks}
    rows, data = [], []
    for system in study.systems(stage=DISTILLED):
        fixed = System("cnn", system.ratio, DISTILLED)
        if system.kind != "adaptive" or not study.has(TEACHER, fixed):
            continue
        for key, names in scopes.items():
            share, weights = study.share_removed(system, names), dict.fromkeys(names, 1 / len(names))
            found = {
                "cnn above the teacher": study.contrast({fixed: 1.0, TEACHER: -1.0}, prompt, weights),
                "Adaptive above cnn": study.contrast({system: 1.0, fixed: -1.0}, prompt, weights),
                "At the share removed": study.at_equal_share(system, "cnn", prompt, names),
            }
            cells = {words: _cell(effect, "+") if effect else MISSING for words, effect in found.items()}
            head = {"Benchmark": study.benchmarks.get(key, key), "Removed": percent(system.ratio)}
            rows.append(head | {"Really removed": percent(share)} | cells)
            shared = {"benchmark": key.lower(), "removed": share}
            data += [
                _tidy(system, prompt, effect) | shared | {"what": words} for words, effect in found.items() if effect
            ]
    note = (
        "Points of adaptive above cnn of the same mean ratio, both distilled; then above cnn that removes the share of "
        "the benchmark's tokens that adaptive really removes, on a straight line between the scores of its ratios. The "
        "threshold that tells tiles apart was set on training pictures: a benchmark whose pictures show more than "
        f"those loses less than the ratio. With {INTERVALS}."
    )
    return make_table("adaptive", "Adaptive and fixed ratios", note, rows, pd.DataFrame(data), prompt=prompt)


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
    """Systems by the FLOPs of their prefill, with the size of their KV cache."""
    systems = [s for s in study.systems() if s in study.costs and s.stage in ("", DISTILLED, RECIPE, LONG)]
    systems.sort(key=lambda system: (study.costs[system].prefill, system))
    note = (
        "Prefill: FLOPs of connector and LLM up to the first token, as a share of the teacher's. The ViT is left out: "
        "it costs the same in each system but smaller tiles. KV cache: bytes after prefill, as a share too. Scores in "
        f"percent with {INTERVALS}."
    )
    shares = [
        {"Prefill": f"{study.costs[system].prefill:.3f}", "KV cache": f"{study.costs[system].cache:.3f}"}
        for system in systems
    ]
    return _table(
        study, "cost", "Equal cost", systems, _scores(study, prompt), note=note, prompt=prompt, columns=shares
    )


def hard(study: StudyData, prompt: str) -> Table | None:
    """Systems on the questions that need what compression may lose, and on those that do not."""
    rows, data, counts = [], [], []
    for ratio in (0.5, 0.75):
        groups = {name: mask for name, mask in study.groups(prompt, ratio).items() if mask.any()}
        sizes = " and ".join(f"{mask.sum():,} {name}" for name, mask in groups.items())
        counts += [f"{percent(ratio)} removed, {sizes}"] if groups else []
        for system in study.systems():
            if system.ratio != ratio or system.kind == "downsample" or not groups:
                continue
            found = {name: study.score(system, prompt, among=mask) for name, mask in groups.items()}
            cells = {name.capitalize(): _cell(found[name]) if name in found else MISSING for name in ("easy", "hard")}
            rows.append(_head(system) | cells)
            data += [_tidy(system, prompt, effect) | {"group": name} for name, effect in found.items()]
    note = (
        "Questions that the teacher answers right from the whole picture. Hard are those that it answers wrong from "
        "one made smaller until it has as many visual tokens (Smaller tiles, left out here), easy those that it still "
        f"answers right: VTC-Bench, arXiv 2510.07143. Right is a score from {RIGHT:g} % on. Where nearly all are hard, "
        "it is smaller pictures that this teacher cannot read, and the split says little of the questions. Mean of the "
        f"benchmarks' scores in percent, with {INTERVALS}. Questions: {'; '.join(counts)}."
    )
    return make_table("hard", "Hard and easy to compress", note, rows, pd.DataFrame(data), prompt=prompt)


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
    known = {kind: words.capitalize() for kind, words in KINDS.items() if kind in asked}
    rows, data = [], []
    for system in study.systems():
        found = {kind: study.score(system, prompt, kind=kind) for kind in known}
        rows.append(_head(system) | {known[kind]: _cell(effect) for kind, effect in found.items()})
        data += [_tidy(system, prompt, effect) | {"kind": kind} for kind, effect in found.items()]
    note = f"Mean of the benchmarks' scores in percent, with {INTERVALS}."
    return make_table("kinds", "By kind of question", note, rows if known else [], pd.DataFrame(data), prompt=prompt)


def chains(study: StudyData) -> Table | None:
    """Where chains of thought go wrong that the teacher's answer right."""
    rows, data = [], []
    for system in filter(study.slips.__contains__, study.systems()):
        found = {"lost": study.slipped(system, SLIPS)} | {kind: study.slipped(system, [kind]) for kind in SLIPS}
        words = {"lost": "Lost"} | SLIPS
        rows.append(_head(system) | {words[kind]: _cell(effect) for kind, effect in found.items()})
        data += [_tidy(system, "cot", effect) | {"slip": kind} for kind, effect in found.items()]
    note = (
        "Of the questions that the teacher's chain of thought answers right, percent that the system's does not: mean "
        f"of the benchmarks, with {INTERVALS}. Each is counted where the chain first leaves the teacher's: in an item "
        "that is read from the picture, in a sum or difference of the same items, or in another conclusion, such as a "
        f"count or an order. Right is a score from {RIGHT:g} % on."
    )
    return make_table("chains", "Where chains of thought go wrong", note, rows, pd.DataFrame(data))


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
        found = values_by_source(pool.coalitions, pool.permutations)
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
            "Shape": str(row["shape"]),
            "System": str(row["system"]),
            "Part": str(row["part"]),
            "Time": interval(row["measured"], row["low"], row["high"], digits=3),
            "Predicted": shown(row["predicted"], 3),
            "Teacher": _absolute(str(row["part"]), row["teacher"]),
        }
        for row in study.speed.to_dict("records")
        if row["part"] in ("vit", "connector", "prefill", "decode", "kv")
    ]
    note = (
        "As a ratio to the teacher in the same round: the median, the least and the greatest. Measured on "
        f"{study.shape}. kv: bytes of the cache after prefill. The teacher's own figures hold for this machine only."
    )
    return make_table("speed", "Speed at true shapes", note, rows, study.speed)


def _absolute(part: str, figure: float) -> str:
    """The teacher's own figure: seconds, of ``decode`` for eight tokens, or bytes."""
    if part == "kv":
        return f"{figure / 2**20:.0f} MiB"
    return f"{figure / 8 * 1000:.3g} ms a token" if part == "decode" else f"{figure:.3g} s"


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


def _scaled(part: Interval | Effect, factor: float) -> tuple[float, float, float]:
    return factor * part.value, factor * part.low, factor * part.high


def _tidy(system: System, prompt: str, effect: Effect) -> dict[str, Any]:
    return system._asdict() | {"prompt": prompt} | asdict(effect)
