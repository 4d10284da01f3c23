"""A study whose systems answer as well as they are told to."""

from dataclasses import replace

import numpy as np
import pandas as pd

from fcotvl.report.study.data import DISTILLED, TEACHER, Cost, Pool, Scores, StudyData, System

BENCHMARKS = {"docvqa": "DocVQA", "chartqa": "ChartQA", "infovqa": "InfographicVQA"}
PROMPTS = ("direct", "cot")
N = 400
QUESTIONS = pd.DataFrame(
    [
        {
            "benchmark": name,
            "kind": ("extractive", "reason")[number % 2],
            "image_id": f"{name}-{number // 2}",
            "question_id": f"{name}-{number}",
        }
        for name in BENCHMARKS
        for number in range(N)
    ]
)
FULL, HALF, QUARTER = (
    System("cnn", ratio, stage) for ratio, stage in ((0.5, "sft-full"), (0.5, DISTILLED), (0.75, DISTILLED))
)
UNCHECKED = System("cnn", 0.5, "sft-unchecked")
ADAPTIVE = System("adaptive", 0.5, DISTILLED)
SHAPLEY, BEST = System("cnn", 0.5, "shapley"), System("cnn", 0.5, "best")
MEMBERS = {name: System("cnn", 0.5, f"full/{name}") for name in ("page", "chart")}
SKILLS = {
    TEACHER: 0.9,
    HALF: 0.89,
    QUARTER: {"docvqa": 0.8, "chartqa": 0.8, "infovqa": 0.6},
    System("pool", 0.5, DISTILLED): 0.89,
    System("qformer", 0.5, DISTILLED): 0.5,
    System("cnn", 0.5, DISTILLED, "less"): 0.8,
    System("qformer", 0.5, DISTILLED, "less"): 0.3,
    FULL: {"reason": 0.93, "extractive": 0.83},
    System("cnn", 0.5, "sft-direct"): {"reason": 0.7, "extractive": 0.9},
    System("cnn", 0.5, "sft-cot"): {"reason": 0.85, "extractive": 0.75},
    UNCHECKED: {"reason": 0.6, "extractive": 0.7},
    SHAPLEY: 0.95,
    BEST: 0.85,
    MEMBERS["page"]: {"docvqa": 0.92, "chartqa": 0.6, "infovqa": 0.6},
    MEMBERS["chart"]: {"docvqa": 0.6, "chartqa": 0.92, "infovqa": 0.7},
    System("fastv", 0.5): 0.7,
    System("fastv-equal-cost", 0.5): 0.4,
    System("fastv-equal-cost", 0.75): 0.99,
}
CURVE = {System("cnn", ratio, DISTILLED): 0.9 - 0.1 * ratio - max(0, ratio - 0.6) for ratio in (0.25, 0.5, 0.75, 0.875)}
"""Skills whose knee is at 60 %."""


def by_question(skill):
    """The skill for each question, where it differs by benchmark or by kind."""
    if isinstance(skill, float):
        return skill
    return np.maximum(*(QUESTIONS[key].map(skill).fillna(0).to_numpy() for key in ("benchmark", "kind")))


def coalitions():
    """Two checkpoints: each answers a fifth more of its own source, and page a tenth less of the other."""
    gain = {("page", "page"): 0.2, ("page", "chart"): -0.1, ("chart", "page"): 0.0, ("chart", "chart"): 0.2}
    rng = np.random.default_rng(0)
    rows = []
    for seed in (0, 1, 2):
        for members in ((), ("page",), ("chart",), ("chart", "page")):
            for source in ("page", "chart"):
                utility = 0.5 + sum(gain[member, source] for member in members)
                for number, luck in enumerate(rng.normal(0, 0.01, 200)):
                    names = {"image_id": f"{source}-{number // 2}", "question_id": f"{source}-{number}"}
                    row = {"seed": seed, "coalition": "+".join(members), "source": source, **names}
                    rows.append(row | {"utility": utility + luck})
    return pd.DataFrame(rows)


def invented(**changes):
    """A study whose systems answer the questions that are easy enough for them, with luck of its own for each seed."""
    rng = np.random.default_rng(0)
    hard = rng.random(len(QUESTIONS))
    scores = {}
    for system, skill in (SKILLS | changes.pop("skills", {})).items():
        seeds = (0, 1, 2) if system.stage else ()
        luck = rng.normal(0, 0.03, (max(1, len(seeds)), len(QUESTIONS)))
        rows = 100.0 * (hard + luck < by_question(skill))
        scores |= {(system, prompt): Scores(seeds, rows) for prompt in PROMPTS}
    costs = dict.fromkeys(SKILLS, Cost(0.5, 0.6)) | {TEACHER: Cost(1, 1), System("fastv", 0.5): Cost(0.74, 0.8)}
    costs |= {QUARTER: Cost(0.3, 0.4), System("fastv-equal-cost", 0.75): Cost(0.31, 0.4)}
    steps = pd.DataFrame({"step": [1, 2, 3], "pictures": [8, 16, 24], "kl": [2.0, 1.0, 0.5]})
    losses = pd.concat([steps.assign(scale="", compressor=c, ratio=0.5, seed=0) for c in ("cnn", "qformer")])
    parts = {
        "vit": (1.0, 1.0, 1.0),
        "connector": (0.5, 0.5, 0.5),
        "prefill": (0.4, 0.3, 0.6),
        "decode": (0.9, 0.8, 1.0),
    }
    speed = pd.DataFrame(
        {"shape": "internvl2-1b", "system": "all" if part == "vit" else "cnn 0.5"}
        | {"part": part, "predicted": 0.5, "teacher": 2.0}
        | dict(zip(("measured", "low", "high"), ratios, strict=True))
        for part, ratios in parts.items()
    )
    study = StudyData(
        facts={"scale": "<small>"},
        grids=("Compressors: compressor cnn, qformer.",),
        benchmarks=BENCHMARKS,
        questions=dict.fromkeys(PROMPTS, QUESTIONS),
        scores=scores,
        losses=losses,
        costs=costs,
        shares={"less": 0.25},
        speed=speed,
        shape="a shape",
        pools=(Pool("Two runs", {"shapley": SHAPLEY, "best": BEST}, MEMBERS, coalitions()),),
    )
    return replace(study, **changes)
