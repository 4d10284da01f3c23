"""Every claim of the paper, judged by the study; the numbers alone decide.

A number holds, or does not, where its whole 95 % interval over questions and seeds lies on that side of the criterion;
of speed, the range of all rounds. Where it is undecided, the evidence says how large an effect would have been seen
with a chance of 80 %.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import pandas as pd

from fcotvl.report.claims import SPEED_UP, Claim, Evidence, verdict
from fcotvl.report.formatting import percent
from fcotvl.report.report_data import method
from fcotvl.report.study.data import DISTILLED, LONG, RECIPE, TEACHER, Pool, StudyData, System
from fcotvl.report.study.evidence import ALIKE, alike, beside, gain, kept
from fcotvl.report.study.merging import regret, regret_effect
from fcotvl.report.table import interval

KEPT = 98.0
"""Percent of the teacher's score from which on hardly anything is lost: our reading."""
SPANS: dict[str, dict[str, int]] = {
    "LLM up to the first token": {"prefill": 1},
    "whole model up to the first token": {"vit": 1, "connector": 1, "prefill": 1},
    "whole model, an answer of 32 tokens": {"vit": 1, "connector": 1, "prefill": 1, "decode": 4},
}
"""What is timed: how often each part of ``StudyData.speed`` is in it; ``decode`` is eight tokens."""
FASTV = "fastv"
"""The training-free system of the paper's comparison."""
RIVALS = ("fastv-equal-cost", FASTV, "divprune", "visionzip", "downsample", "untrained-pool", "random")
"""All training-free systems that are judged."""
_RUN = "Add it to a grid of workflow/study.yaml."


def claims(study: StudyData, prompt: str) -> list[Claim]:
    """Every claim, with its verdict under ``prompt``."""
    return [claim(study, prompt) for claim in CLAIMS]


def open_questions(study: StudyData, prompt: str) -> list[Claim]:
    """Every open question, with its verdict under ``prompt``."""
    return [question(study, prompt) for question in OPEN_QUESTIONS]


def half_keeps_all(study: StudyData, prompt: str) -> Claim:
    """Nearly nothing is lost with half of the tokens."""
    student, short = _trained_longest(study, 0.5), System("cnn", 0.5, RECIPE)
    evidence = [kept(study, student, prompt, KEPT)] if student else []
    words = f"The student that was trained longest keeps at least {KEPT:g} % of the teacher's mean score (our reading)."
    if student and student.stage == LONG:
        words += " Its recipe learns from the teacher's distribution alone, which is an extension of ours."
        if study.has(short):
            words += " That of the paper, which has fewer steps here, stands beside it."
            evidence.append(beside(kept(study, short, prompt, KEPT)))
    return Claim(
        "Half of the visual tokens can be removed at hardly any loss",
        "With 50 % of the visual tokens removed, performance stays close to 100 %.",
        words,
        tuple(evidence),
        _RUN,
        prompt,
        "retention",
    )


def three_quarters_lose_more(study: StudyData, prompt: str) -> Claim:
    """More is lost at 75 %, most of it on infographics."""
    evidence: list[Evidence] = []
    for stage in (DISTILLED, RECIPE):
        half, most = System("cnn", 0.5, stage), System("cnn", 0.75, stage)
        if not study.has(half, most):
            continue
        evidence.append(gain(f"{stage}: 50 % above 75 %", study.difference(half, most, prompt)))
        others = [name for name in study.benchmarks if name != "infovqa"]
        if "infovqa" in study.benchmarks and others:
            weights = {"infovqa": 1.0} | dict.fromkeys(others, -1 / len(others))
            lost = study.contrast({TEACHER: 1.0, most: -1.0}, prompt, weights)
            evidence.append(gain(f"{stage}, 75 %: loss on infographics above the others' mean", lost))
    return Claim(
        "With 75 % removed more is lost, most of it on infographics",
        "At 75 % the loss grows; InfoVQA drops most.",
        "The student at 50 % scores higher than that at 75 %, and the loss at 75 % is larger on infographics than on "
        "the mean of the other benchmarks.",
        tuple(evidence),
        _RUN,
        prompt,
        "scores",
    )


def cnn_beats_qformer(study: StudyData, prompt: str) -> Claim:
    """A convolution learns faster than a Q-Former."""
    evidence = [
        gain(
            f"{kind}, {percent(study.share(scale))} of the pictures, {percent(ratio)} removed",
            study.difference(System(kind, ratio, DISTILLED, scale), System("qformer", ratio, DISTILLED, scale), prompt),
        )
        for scale in study.scales
        for ratio in (0.5, 0.75)
        for kind in ("cnn", "cnn-default")
        if study.has(System(kind, ratio, DISTILLED, scale), System("qformer", ratio, DISTILLED, scale))
    ]
    return Claim(
        "With little data, a CNN compresses better than a Q-Former",
        "ChartQA: 75.04 with the CNN, 42.32 with the Q-Former (table 3, limited data).",
        "The distilled CNN scores higher at each amount of data, started as an average (cnn) or by PyTorch's default "
        "(cnn-default). With less data there are fewer steps, too. Where a student scores no more than FastV without "
        "visual tokens behind its first layer, it has not begun to read, and its differences say little.",
        tuple(evidence),
        _RUN,
        prompt,
        "pictures",
    )


def cnn_equals_pooling(study: StudyData, prompt: str) -> Claim:
    """A convolution and pooling are alike."""
    evidence = []
    for kind in ("cnn", "cnn-default"):
        for ratio in (0.5, 0.75):
            if study.has(one := System(kind, ratio, DISTILLED), other := System("pool", ratio, DISTILLED)):
                subject = f"{kind} and pool, {percent(ratio)} removed"
                item = alike(subject, study.difference(one, other, prompt))
                evidence.append(item if kind == "cnn" else beside(item))
    return Claim(
        "A CNN and pooling compress about equally well",
        "The two are close in the module ablation.",
        f"The difference lies within {ALIKE:g} points, with its whole interval (our reading); it does not hold where "
        "the whole interval lies beyond. We start the CNN as an average, which is what pooling is; started by "
        "PyTorch's default (cnn-default), it stands beside.",
        tuple(evidence),
        _RUN,
        prompt,
        "modules",
    )


def beats_training_free(study: StudyData, prompt: str) -> Claim:
    """Training pays off against training-free systems at equal cost."""
    evidence = []
    for ratio in (0.5, 0.75):
        if not (student := _trained_longest(study, ratio)):
            continue
        evidence += [
            gain(f"{System(kind).label}, at the cost of {student.label}, {percent(ratio)} removed", above)
            for kind in RIVALS
            if (above := study.at_equal_cost(student, kind, prompt))
        ]
        if study.has(rival := System(FASTV, ratio)):
            cost = study.costs[rival].prefill / study.costs[student].prefill
            subject = f"{rival.label}, {percent(ratio)} removed too, {cost:.2f} times the student's prefill FLOPs"
            evidence.append(beside(gain(subject, study.difference(student, rival, prompt))))
    return Claim(
        "Learned compression beats training-free pruning",
        "The paper compares with FastV; its numbers for FastV are not known to us.",
        "The student that was trained longest scores higher on the mean of the benchmarks than each training-free "
        "system whose prefill costs as much. Between two of its ratios, a system scores what it does where each "
        "question draws one of them; where all of its ratios cost more, there is no equal cost. FastV of the student's "
        "ratio costs more, and stands beside. Its first layers read every token, so at equal cost it keeps the fewer, "
        "the fewer layers an LLM has. With many, the two rows come near to each other.",
        tuple(evidence),
        _RUN,
        prompt,
        "cost",
    )


def is_faster(study: StudyData, prompt: str) -> Claim:
    """Fewer tokens take less time, at true shapes."""
    del prompt  # answers play no part
    evidence = []
    for shape, rows in study.speed.groupby("shape", sort=False) if len(study.speed) else ():
        for ratio in (0.5, 0.75):
            if f"cnn {ratio}" not in set(rows["system"]):
                continue
            for words, parts in SPANS.items():
                value, low, high = _speedup(rows, f"cnn {ratio}", parts)
                result = f"{interval(value, low, high, digits=2)} times as fast"
                subject = f"{shape}: {words}, {percent(ratio)} removed"
                numbers = {"value": value, "low": low, "high": high}
                evidence.append(Evidence(subject, result, verdict(low, high, SPEED_UP), numbers=numbers))
    return Claim(
        "The compressed model is faster",
        "1.5 to 2.4 times as fast as the uncompressed model.",
        f"At least {SPEED_UP:g} times as fast as the teacher in the same run. Measured on "
        f"{study.shape or 'true shapes'}; brackets are the least and the greatest of all rounds.",
        tuple(evidence),
        _RUN,
        table="speed",
    )


def rationales_lift_reasoning(study: StudyData, prompt: str) -> Claim:
    """Rationales in the mix help with questions that must be worked out."""
    direct = System("cnn", 0.5, "sft-direct")
    mixes = [System("cnn", 0.5, f"sft-{name}") for name in ("cot-quarter", "cot", "cot-most")]
    return Claim(
        "Rationales in fine-tuning lift reasoning",
        "Chain-of-thought data in post-training improve reasoning.",
        "Students that were fine-tuned with rationales answer more questions that must be worked out than one that was "
        "fine-tuned without.",
        tuple(
            gain(f"{mix.label} against {direct.label}", study.difference(mix, direct, prompt, kind="reason"))
            for mix in _asked(study, mixes)
            if study.has(direct)
        ),
        _RUN,
        prompt,
        "recipes",
    )


def rejection_helps(study: StudyData, prompt: str) -> Claim:
    """Samples that end in the right answer teach more than any samples."""
    accepted, unchecked = System("cnn", 0.5, "sft-cot"), System("cnn", 0.5, "sft-unchecked")
    evidence: tuple[Evidence, ...] = ()
    if study.has(accepted, unchecked):
        every = study.difference(accepted, unchecked, prompt)
        reason = study.difference(accepted, unchecked, prompt, kind="reason")
        evidence = (gain("all questions", every), gain("those that must be worked out", reason))
    return Claim(
        "Rejecting samples with a wrong answer helps",
        "Rationales are sampled from the teacher and kept where they end in the right answer.",
        "The student that was fine-tuned on accepted rationales scores higher than one that was fine-tuned on as many "
        "per question whatever they answer.",
        evidence,
        _RUN,
        prompt,
        "recipes",
    )


def resampling_beats_static(study: StudyData, prompt: str) -> Claim:
    """Loss-driven resampling beats fixed shares."""
    static = System("cnn", 0.5, "sft-cot")
    rules = {"DoReMi": System("cnn", 0.5, "sft-full"), "power of the loss": System("cnn", 0.5, "sft-power")}
    return Claim(
        "Loss-driven resampling beats fixed shares",
        "Data sets are sampled by their losses during post-training.",
        "The student with resampled data sets scores higher on the mean of the benchmarks, all else equal.",
        tuple(
            gain(name, study.difference(system, static, prompt))
            for name, system in rules.items()
            if study.has(system, static)
        ),
        _RUN,
        prompt,
        "recipes",
    )


def merging_helps(study: StudyData, prompt: str) -> Claim:
    """A Shapley merge beats its rivals on the mean."""
    evidence = [
        _of(pool, gain(f"against {method(name)}", study.difference(pool.methods["shapley"], rival, prompt)))
        for pool in study.pools
        for name, rival in pool.methods.items()
        if name != "shapley" and study.has(pool.methods["shapley"], rival)
    ]
    return Claim(
        "Merging checkpoints by Shapley values helps",
        "Checkpoints are merged with weights from Shapley values, which beats single checkpoints and soups.",
        "The merged student scores higher than the best single checkpoint (chosen on validation questions), the soups "
        "and a search for weights at equal cost, on the mean of the benchmarks. Points of one run differ too little "
        "for weights to matter: they are a control, and stand beside runs that differ.",
        tuple(evidence),
        _RUN,
        prompt,
        "merging",
    )


def merging_softens_the_see_saw(study: StudyData, prompt: str) -> Claim:
    """A Shapley merge loses less on the benchmark where it loses most."""
    evidence = []
    for pool in study.pools:
        asked = [*pool.methods.values(), *pool.members.values()]
        if not pool.members or "shapley" not in pool.methods or not study.has(*asked):
            continue
        own = regret(study, pool.methods["shapley"], pool.members, prompt)
        for name, rival in pool.methods.items():
            if name != "shapley":
                other = regret(study, rival, pool.members, prompt)
                less = regret_effect(study, own, prompt, other)
                evidence.append(_of(pool, gain(f"less regret than {method(name)}", less)))
    return Claim(
        "Merging by Shapley values softens the see-saw between benchmarks",
        "Merging balances abilities that single checkpoints have in different measure.",
        "The merged student stays less far behind the best single checkpoint of a benchmark, on the benchmark where it "
        "does most, than other merged students do.",
        tuple(evidence),
        _RUN,
        prompt,
        "regret",
    )


def reasoning_rises_perception_falls(study: StudyData, prompt: str) -> Claim:
    """Post-training trades perception for reasoning."""
    before, evidence = System("cnn", 0.5, DISTILLED), list[Evidence]()
    for after in _asked(study, [System("cnn", 0.5, RECIPE), System("cnn", 0.5, LONG)]):
        if study.has(before):
            up = study.difference(after, before, prompt, kind="reason")
            down = study.difference(before, after, prompt, kind="extractive")
            evidence.append(gain(f"{after.label}: gain on what must be worked out", up))
            evidence.append(gain(f"{after.label}: loss on what is written in the picture", down))
    return Claim(
        "Post-training lifts reasoning and costs perception",
        "After post-training, reasoning benchmarks rise while perception falls.",
        "Fine-tuned students, as in the paper and longest, answer more questions that must be worked out than the "
        "distilled one, and fewer whose answer is written in the picture.",
        tuple(evidence),
        _RUN,
        prompt,
        "kinds",
    )


def adaptive_beats_fixed(study: StudyData, prompt: str) -> Claim:
    """Pictures that show more keep more tokens, at the same mean ratio."""
    evidence: list[Evidence] = []
    for ratio in (0.5, 0.75):
        adaptive, fixed = System("adaptive", ratio, DISTILLED), System("cnn", ratio, DISTILLED)
        if not study.has(TEACHER, adaptive, fixed):
            continue
        worst = _most_lost(study, adaptive, fixed)
        for words, names in (("all benchmarks", list(study.benchmarks)), (study.benchmarks[worst], [worst])):
            share = f"removes {percent(study.share_removed(adaptive, names))}"
            weights = dict.fromkeys(names, 1 / len(names))
            above = study.contrast({adaptive: 1.0, fixed: -1.0}, prompt, weights)
            evidence.append(gain(f"{percent(ratio)} on average, {words}: adaptive {share}", above))
        if equal := study.at_equal_share(adaptive, "cnn", prompt, [worst]):
            evidence.append(gain(f"{percent(ratio)} on average, {study.benchmarks[worst]}: cnn {share} too", equal))
    return Claim(
        "A ratio that adapts to the picture beats a fixed one",
        "Every picture loses the same share; whether the ratio should adapt is left open.",
        "The adaptive student scores higher than cnn of the same mean ratio, on the mean of the benchmarks and on the "
        "one where the two lose most; there also than cnn that removes as much as it really does.",
        tuple(evidence),
        _RUN,
        prompt,
        "adaptive",
    )


CLAIMS: tuple[Callable[[StudyData, str], Claim], ...] = (
    half_keeps_all,
    three_quarters_lose_more,
    cnn_beats_qformer,
    cnn_equals_pooling,
    beats_training_free,
    is_faster,
    rationales_lift_reasoning,
    rejection_helps,
    resampling_beats_static,
    merging_helps,
    merging_softens_the_see_saw,
    reasoning_rises_perception_falls,
)
OPEN_QUESTIONS: tuple[Callable[[StudyData, str], Claim], ...] = (adaptive_beats_fixed,)
"""What the paper does not claim, judged in the same way but not counted."""


def _most_lost(study: StudyData, *systems: System) -> str:
    """The benchmark on which ``systems`` together lose most against the teacher, over all prompts.

    Together, since the worst of one alone is in part its bad luck, and would favour the other.
    """

    def lost(benchmark: str) -> float:
        found = [study.difference(TEACHER, s, p, benchmark=benchmark).value for s in systems for p in study.prompts]
        return sum(found)

    return max(study.benchmarks, key=lost)


def _speedup(speed: pd.DataFrame, system: str, parts: Mapping[str, int]) -> tuple[float, float, float]:
    """How many times as fast ``system`` is over ``parts``, each so many times; and the ends where all are at theirs."""
    rows = speed[speed["system"].isin([system, "all"])].set_index("part").loc[list(parts)]
    teacher = rows["teacher"] * pd.Series(parts)
    value, low, high = (float(teacher.sum() / (teacher * rows[end]).sum()) for end in ("measured", "high", "low"))
    return value, low, high


def _trained_longest(study: StudyData, ratio: float) -> System | None:
    """The one with the most steps, whatever it scores."""
    return next(_asked(study, [System("cnn", ratio, stage) for stage in (LONG, RECIPE, DISTILLED)]), None)


def _of(pool: Pool, item: Evidence) -> Evidence:
    """Evidence of a pool; that of a control is no part of the verdict."""
    named = replace(item, subject=f"{pool.title}: {item.subject}")
    return beside(named) if pool.control else named


def _asked(study: StudyData, systems: Iterable[System]) -> Iterator[System]:
    return (system for system in systems if study.has(system))
