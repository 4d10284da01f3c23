"""Where the layers look while a reply is written, and what compression and fine-tuning change about it.

Every system writes the teacher's replies, so that differences are paired by question and seed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from fcotvl.evaluate.effects import Effect, effect
from fcotvl.report.formatting import percent
from fcotvl.report.plots import DASHES, FAINT, MARKERS, SERIES, Plot, cycle, error_bars, make_plot, swatch
from fcotvl.report.study.data import DISTILLED, KINDS, RECIPE, TEACHER, StudyData, System
from fcotvl.report.table import MISSING, PROMPTS, Table, interval, make_table, number

READING = {"direct": "answer", "cot": "reasoning"}
"""By prompt, the part of a reply that only the picture can tell."""
QUESTION = ["benchmark", "image_id", "question_id"]
BARS = "Bars are 95 % intervals over questions and seeds."


class Look(NamedTuple):
    """What is asked of the tables of ``StudyData.attention``."""

    what: str
    """``mass``, ``place`` and ``chance`` in percent, ``entropy`` in 0..1, or ``lift``: place by chance."""
    prompt: str
    part: str
    kind: str
    layer: int | None = None
    """None: the mean over layers."""


def looked(study: StudyData, system: System, look: Look) -> Effect | None:
    """What was measured of ``system``, the mean of the benchmarks; None where no question tells."""
    return _effect(_rows(study, system, look))


def changed(study: StudyData, system: System, base: System, look: Look) -> Effect | None:
    """How much more that is than of ``base``."""
    return _effect(_changes(study, system, base, look))


def apart(study: StudyData, system: System, base: System, look: Look) -> Effect | None:
    """How much more it changes where the answer is written in the picture than where it is to be worked out."""
    written, other = (_changes(study, system, base, look._replace(kind=kind)) for kind in KINDS)
    if written.empty or other.empty:
        return None
    # Each benchmark counts twice, once for each kind: their mean is half of the difference.
    both = pd.concat({"written": 2 * written, "other": -2 * other}, axis=1)
    kinds, names = (both.columns.get_level_values(level) for level in (0, "benchmark"))
    return effect(both.to_numpy(), _images(both), (kinds + names).tolist())


def reading_layer(study: StudyData) -> int | None:
    """The layer in which the teacher looks most at the place of an answer that is written in the picture."""
    rows = study.attention[TEACHER].query("part == 'answer' and kind == 'extractive' and prompt == 'direct'")
    means = rows.groupby("layer")["place"].mean().dropna()
    return int(means.index.to_numpy()[means.argmax()]) if len(means) else None


def findings(study: StudyData, prompt: str) -> list[str]:
    """What compression, and then fine-tuning, changes, in sentences."""
    found: list[str] = []
    for system in study.attention:
        distilled = system._replace(stage=DISTILLED)
        if system == System("cnn", 0.75, DISTILLED):
            found += _compared(study, prompt, (system, TEACHER), ("With 75 % removed", "the teacher"))
        if system == System("cnn", 0.5, RECIPE) and distilled in study.attention:
            found += _compared(study, prompt, (system, distilled), ("Fine-tuned at 50 %", "the distilled student"))
    return [f"{PROMPTS.get(prompt, prompt)}:", *found] if found else []


def _compared(study: StudyData, prompt: str, pair: tuple[System, System], names: tuple[str, str]) -> Iterator[str]:
    look = Look("mass", prompt, READING[prompt], "extractive")
    written, other = (changed(study, *pair, look._replace(kind=kind)) for kind in KINDS)
    gap = apart(study, *pair, look)
    if written and other and gap:
        order = "the two cannot be told apart"
        if gap.low > 0 or gap.high < 0:
            order = f"the first is {'higher' if gap.low > 0 else 'lower'}"
        yield (
            f"{names[0]}, attention on visual tokens differs from that of {names[1]} by {_shown(written, '+')} points "
            f"for answers that are written in the picture and by {_shown(other, '+')} points for those to be worked "
            f"out; {order} (by {_shown(gap, '+')} points)."
        )
    look = look._replace(what="place", layer=reading_layer(study))
    own, base = (looked(study, system, look) for system in pair)
    chances = [looked(study, system, look._replace(what="chance")) for system in pair]
    if own and base and look.layer is not None:
        yield (
            f"Layer {look.layer} has {_shown(own)} % of this attention on the place of a written answer, {names[1]} "
            f"{_shown(base)} % (by chance {' and '.join(number(c.value) for c in chances if c)} %)."
        )


def table(study: StudyData, prompt: str) -> Table | None:
    """Every system that was measured, by kind of question and part of the reply."""
    rows, data = [], []
    layer = reading_layer(study) if study.attention else None
    for system, look in _asked(study, prompt):
        layers = dict.fromkeys(("mass", "entropy", "lift"), None) | dict.fromkeys(
            ("place", "chance") if layer is not None else (), layer
        )
        found = {what: looked(study, system, look._replace(what=what, layer=one)) for what, one in layers.items()}
        cells = {what.capitalize(): _shown(e, digits=2 if what == "entropy" else 1) for what, e in found.items()}
        asked = {"n": found["mass"], "n placed": found["lift"]}
        counts = {name: str(e.questions if e else 0) for name, e in asked.items()}
        head = {"System": system.label, "Removed": percent(system.ratio), "Answer": KINDS[look.kind], "Part": look.part}
        rows.append(head | cells | counts)
        shared = {"system": system.kind, "ratio": system.ratio, "stage": system.stage}
        shared |= {"prompt": prompt, "part": look.part, "kind": look.kind}
        data += [shared | {"what": what} | asdict(e) for what, e in found.items() if e]
    note = (
        "Attention of the positions that predict the teacher's reply, mean over heads, layers and benchmarks. Mass: on "
        "visual tokens, in percent; the rest is on text. Entropy: of that attention over the tokens, 0 on one of them, "
        "1 on all alike. Lift: its share on the tokens that cover the place where the answer is written, as a multiple "
        "of their share of all tokens; 1 is chance, and tokens that read more of the picture leave less room above it. "
        "n placed: questions whose answer is written in a picture that can be drawn again. 95 % intervals over "
        "questions and seeds."
    )
    if layer is not None:
        note += (
            f" Place and chance: those shares in percent, in layer {layer} (from 0), where the teacher's is largest."
        )
    return make_table("attention", "Attention to the picture", note, rows, pd.DataFrame(data), prompt=prompt)


def by_layer(study: StudyData) -> Plot | None:
    """The attention on visual tokens over the layers, by prompt and kind of question."""
    note = " ".join([BARS, *(text for prompt in study.prompts for text in findings(study, prompt))])
    axis = "attention on visual tokens, %"
    return _over_layers(study, "Attention to the picture by layer", axis, _looks(study, "mass"), note)


def entropy(study: StudyData) -> Plot | None:
    """How evenly that attention is spread over the visual tokens, by layer, prompt and kind of question."""
    note = f"0 is on one of the visual tokens, 1 on all alike. {BARS}"
    title, axis = "Spread of attention over the picture by layer", "entropy, of its greatest"
    return _over_layers(study, title, axis, _looks(study, "entropy"), note)


def lift(study: StudyData) -> Plot | None:
    """The attention on the answer's place over the layers, by prompt."""
    note = f"1 is chance; tokens that read more of the picture leave less room above it. {BARS}"
    looks = _looks(study, "lift", ["extractive"])
    return _over_layers(study, "Attention to the answer's place by layer", "times the share by chance", looks, note)


def _looks(study: StudyData, what: str, kinds: Iterable[str] = KINDS) -> list[Look]:
    return [Look(what, prompt, READING[prompt], kind) for prompt in study.prompts for kind in kinds]


def _over_layers(study: StudyData, title: str, axis: str, looks: Sequence[Look], note: str) -> Plot | None:
    """A line for the teacher and each student, distilled and fine-tuned, a panel for each of ``looks``."""
    systems = {"Teacher": TEACHER} | {f"{s.label}, {percent(s.ratio)} removed": s for s in _students(study)}
    if not study.attention:
        return None
    layers = sorted(study.attention[TEACHER]["layer"].unique())

    def draw(look: Look, axes: Axes) -> None:
        for index, (label, system) in enumerate(systems.items()):
            found = {layer: looked(study, system, look._replace(layer=layer)) for layer in layers}
            rows = pd.DataFrame([{"layer": layer} | asdict(e) for layer, e in found.items() if e])
            if rows.empty:
                continue
            style = {"marker": cycle(MARKERS, index), "color": cycle(SERIES, index), "ms": 5, "elinewidth": 1.0}
            bars, dash = error_bars(rows, "value"), (0, cycle(DASHES, index) or None)
            axes.errorbar(rows["layer"], rows["value"], yerr=bars, label=label, lw=1.0, ls=dash, **style)
        if look.what == "lift":
            axes.axhline(1, color=FAINT, lw=1)
        axes.set_xticks(layers)
        axes.set_ylim(0, {"mass": 100, "entropy": 1}.get(look.what))
        title = f"{PROMPTS.get(look.prompt, look.prompt)}, {KINDS[look.kind]}"
        axes.set(title=title, xlabel="layer of the LLM, from 0", ylabel=axis)

    keys = [
        (label, swatch(cycle(SERIES, i), marker=cycle(MARKERS, i), dash=cycle(DASHES, i)))
        for i, label in enumerate(systems)
    ]
    return make_plot(title, [partial(draw, look) for look in looks], note=note, keys=keys, size=(3.7, 2.9))


def _students(study: StudyData) -> list[System]:
    return sorted((s for s in study.attention if s.stage), key=lambda s: (s.kind, s.stage, s.ratio))


def _asked(study: StudyData, prompt: str) -> Iterator[tuple[System, Look]]:
    """Every system with every part of a reply and kind of question of which something is known."""
    for system in study.attention:
        for part in dict.fromkeys([READING[prompt], "answer"]):
            for kind in KINDS:
                look = Look("mass", prompt, part, kind)
                if not _rows(study, system, look).empty:
                    yield system, look


def _rows(study: StudyData, system: System, look: Look) -> pd.DataFrame:
    """A row for each seed, a column for each question that tells; the mean over the layers, or one of them."""
    found = study.attention[system]
    found = found[(found["prompt"] == look.prompt) & (found["part"] == look.part) & (found["kind"] == look.kind)]
    if look.layer is not None:
        found = found[found["layer"] == look.layer]
    if look.what == "lift":
        values = found["place"] / found["chance"]
    else:
        values = found[look.what] * (1 if look.what == "entropy" else 100)
    return found.assign(value=values).pivot_table("value", "seed", QUESTION)


def _changes(study: StudyData, system: System, base: System, look: Look) -> pd.DataFrame:
    """What ``system`` has above ``base`` for each question, seed by seed where both have seeds."""
    own, other = (_rows(study, one, look) for one in (system, base))
    if own.empty or other.empty:
        return own.iloc[:0]
    changes = own - (other if base.stage else other.iloc[0])
    return changes.dropna(how="all").dropna(axis=1)


def _effect(rows: pd.DataFrame) -> Effect | None:
    if rows.empty:
        return None
    return effect(rows.to_numpy(), _images(rows), rows.columns.get_level_values("benchmark").tolist())


def _images(rows: pd.DataFrame) -> list[str]:
    images: list[str] = rows.columns.get_level_values("image_id").tolist()
    return images


def _shown(found: Effect | None, sign: str = "", digits: int = 1) -> str:
    return interval(found.value, found.low, found.high, sign=sign, digits=digits) if found else MISSING
