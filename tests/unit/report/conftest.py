"""An invented run: synthetic answers, scored and summarised by the evaluate package."""

import numpy as np
import pandas as pd
import pytest

from fcotvl.core.bootstrap import Bootstrap
from fcotvl.evaluate import summary
from fcotvl.evaluate.scoring import score_predictions
from fcotvl.report.report_data import ReportData, system

BENCHMARKS = {"docvqa": "DocVQA", "chartqa": "ChartQA", "infovqa": "InfographicVQA"}
METRICS = {"docvqa": "ANLS", "chartqa": "relaxed accuracy (internvl)", "infovqa": "ANLS"}
SYSTEMS = [
    (system("teacher", "teacher", ratio=0.0, tokens=64), 0.80),
    (system("distilled", "distilled", ratio=0.5, tokens=32), 0.60),
    (system("sft-direct", "sft", ratio=0.5, tokens=32, detail="recipe direct"), 0.68),
    (system("sft-full", "sft", ratio=0.5, tokens=32, detail="recipe full"), 0.72),
    (system("shapley", "merged", ratio=0.5, tokens=32, detail="shapley"), 0.76),
    (system("uniform", "merged", ratio=0.5, tokens=32, detail="uniform"), 0.74),
    (system("fastv-r0.5", "fastv", ratio=0.5, tokens=32), 0.50),
    (system("fastv-r0.75", "fastv", ratio=0.75, tokens=16), 0.30),
    (system("fastv-equal-cost-r0.5", "fastv-equal-cost", ratio=0.5, tokens=12), 0.45),
    (system("fastv-equal-cost-r0.75", "fastv-equal-cost", ratio=0.75, tokens=0), 0.10),
    (system("random-r0.5", "random", ratio=0.5, tokens=32), 0.35),
    (system("untrained-pool-r0.5", "untrained-pool", ratio=0.5, tokens=32), 0.40),
]
PAIRS = [
    ("shapley", "teacher"),
    ("shapley", "distilled"),
    ("shapley", "fastv-r0.5"),
    ("shapley", "fastv-equal-cost-r0.5"),
    ("shapley", "fastv-equal-cost-r0.75"),
    ("shapley", "sft-full"),
    ("shapley", "uniform"),
]
QUICK = Bootstrap(resamples=100)


def scores(questions=60):
    """Per-question scores: a system answers the questions correctly that are easy enough for it."""
    rng = np.random.default_rng(0)
    rows = []
    for benchmark in BENCHMARKS:
        hard = rng.random(questions)
        for entry, skill in SYSTEMS:
            luck = hard + rng.normal(0, 0.1, questions)
            for prompt, gain in (("direct", 0.0), ("cot", -0.05)):
                rows += [
                    {
                        "system": entry["system"],
                        "benchmark": benchmark,
                        "prompt": prompt,
                        "kind": ("extractive", "reason")[number % 2],
                        "image_id": f"{benchmark}-{number // 4}",
                        "question_id": f"{benchmark}-{number}",
                        "prediction": "7" if luck[number] < skill + gain else "12",
                        "references": ["7"],
                    }
                    for number in range(questions)
                ]
    return score_predictions(pd.DataFrame(rows))


def grid():
    """Two compressors at two ratios, and their paired differences."""
    worth = {"cnn": 0, "cnn-default": 4, "qformer": 22}
    common = {"seed": 0, "stage": "full", "prompt": "direct", "n": 60}
    cells = [
        {"compressor": name, "ratio": ratio, "benchmark": benchmark, "score": score}
        | {"low": score - 5, "high": score + 5}
        | common
        for name, loss in worth.items()
        for ratio in (0.5, 0.75)
        for benchmark in BENCHMARKS
        for score in [75.0 - loss - 20 * (ratio - 0.5)]
    ]
    gaps = [
        {"compressor": name, "baseline": "qformer", "ratio": ratio, "benchmark": benchmark}
        | {"difference": 22.0 - loss, "low": 15.0 - loss, "high": 29.0 - loss}
        | common
        for name, loss in worth.items()
        if name != "qformer"
        for ratio in (0.5, 0.75)
        for benchmark in BENCHMARKS
    ]
    return pd.DataFrame(cells), pd.DataFrame(gaps)


def curves():
    """Losses by step."""
    rng = np.random.default_rng(1)
    steps = np.arange(120)
    kl = np.exp(-steps / 30) + 0.2 + rng.normal(0, 0.03, 120)
    distill = pd.DataFrame({"step": steps, "loss": kl + 0.2, "kl": kl, "ce": kl + 0.4})
    sft, sampling = [], []
    for index, name in enumerate(["rendered/chart", "rendered/document", "rendered/infographic"]):
        loss = np.exp(-steps / 40) + 0.1 * index + rng.normal(0, 0.04, 120)
        weight = 1 / 3 + (index - 1) * steps / 1000
        sft.append(pd.DataFrame({"step": steps, "dataset": name, "loss": loss}))
        sampling.append(pd.DataFrame({"step": steps, "dataset": name, "weight": weight}))
    return distill, pd.concat(sft), pd.concat(sampling)


def audited(kept):
    return {
        "sources": {
            f"rendered family={family}": {
                "share_asked": 0.333333,
                "share_kept": 0.333333,
                "read": kept + 3,
                "kept": kept,
                "duplicates": 2,
                "contaminated": 1,
                "quarantined": 0,
                "ran_dry": False,
            }
            for family in ("document", "chart", "infographic")
        }
    }


def example():
    """Everything that a report can have."""
    scored = scores()
    distill, sft, sampling = curves()
    cells, gaps = grid()
    return ReportData(
        facts={
            "scale": "tiny, rendered documents, charts and infographics",
            "compressor": "cnn",
            "removed": "50 % (64 to 32 visual tokens per tile)",
            "seed": 0,
            "commit": "0123abc",
        },
        params="scale: tiny\nratio: 0.5\n",
        benchmarks=BENCHMARKS,
        metrics=METRICS,
        student="shapley",
        systems=pd.DataFrame([entry for entry, _ in SYSTEMS]),
        scores=summary.summarise(scored, bootstrap=QUICK),
        retention=summary.retention(scored, "teacher", bootstrap=QUICK),
        differences=summary.compare(scored, PAIRS, bootstrap=QUICK),
        kinds=summary.summarise(scored, by=["kind"], bootstrap=QUICK),
        grid=cells,
        grid_differences=gaps,
        methods=pd.DataFrame(
            {"method": ["shapley", "uniform"], "utility": [71.0, 69.5], "system": ["shapley", "uniform"]}
        ),
        shapley=pd.DataFrame(
            {
                "checkpoint": ["30", "60", "90", "120"],
                "value": [1.2, 2.4, 3.9, 4.1],
                "low": [-0.4, 0.6, 2.0, 2.2],
                "high": [2.9, 4.0, 5.7, 6.1],
                "weight_shapley": [0.103, 0.207, 0.336, 0.353],
                "weight_uniform": [0.25] * 4,
            }
        ),
        gaps=pd.DataFrame(
            {"one": ["30", "90"], "other": ["120", "120"], "value": [-2.9, -0.2]}
            | {"low": [-4.8, -2.0], "high": [-1.0, 1.5]}
        ),
        speed=pd.DataFrame(
            {
                "system": ["distilled", "distilled", "distilled", "fastv-r0.5"],
                "part": ["prefill", "decode", "total", "total"],
                "time": [0.55, 0.97, 0.61, 0.80],
                "low": [0.53, 0.95, 0.58, 0.77],
                "high": [0.57, 0.99, 0.64, 0.83],
                "flops": [0.52, 0.99, 0.57, 0.70],
                "pairs": [7] * 4,
            }
        ),
        audit={
            "corpus": {"align": audited(800), "instruct": audited(500), "val": audited(40)},
            "benchmarks": {name: audited(60) for name in BENCHMARKS},
        },
        acceptance=pd.DataFrame(
            {
                "dataset": ["rendered/chart", "rendered/document"],
                "questions": [200, 200],
                "sampled": [1600, 1600],
                "right": [612, 840],
                "kept": [300, 340],
                "accepted_share": [0.3825, 0.525],
            }
        ),
        distill=distill,
        sft=sft,
        sampling=sampling,
    )


@pytest.fixture(scope="session")
def report():
    return example()
