"""The report of one experiment, and of the ablation grid, from the files that stages write."""

import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from fcotvl.core import config
from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.core.shards import write_shards
from fcotvl.stages import report
from tests.support import corpora
from tests.support import scores as support

STUDY = config.load(scale="smoke", mix="smoke")
BASELINES = [f"{name}-r{ratio}" for name in STUDY.baselines.methods for ratio in STUDY.baselines.ratios]


def write_scores(path, *systems, correct=4, predictions=None):
    support.write_scores(path, systems, STUDY.mix_config.benchmarks, correct=correct, predictions=predictions)


def write_variant(folder, correct):
    """A variant's folder with its recipe's."""
    write_scores(folder / "scores.parquet", "distilled", correct=correct, predictions=folder / "predictions.parquet")
    merged = folder / "full/merged.parquet"
    write_scores(folder / "full/merged-scores.parquet", "merged", "uniform", correct=correct + 1, predictions=merged)
    return folder


def write_benchmark(folder):
    """The images behind ``write_scores``: four, with two questions each."""
    records = [
        replace(corpora.record(n), id=str(n), turns=tuple(Turn(str(q), f"{q}?", ("a",), "extractive") for q in pair))
        for n, pair in enumerate([(0, 1), (2, 3), (4, 5), (6, 7)])
    ]
    write_shards(folder, records, shard_size=3)


@pytest.fixture
def data(tmp_path):
    """``data/<scale>``, ``data/<mix>`` and a variant as a finished run leaves them."""
    (tmp_path / "scale").mkdir()
    answers = tmp_path / "scale/predictions.parquet"
    write_scores(tmp_path / "scale/scores.parquet", "teacher", *BASELINES, correct=7, predictions=answers)
    for name in STUDY.mix_config.benchmarks:
        write_benchmark(tmp_path / "mix/benchmarks" / name)
    pd.DataFrame({"dataset": ["chart"], "kept": [3]}).to_csv(tmp_path / "scale/acceptance.csv", index=False)
    source = dict.fromkeys(["read", "kept", "duplicates", "contaminated", "quarantined"], 5)
    sources = {"sources": {"rendered": source | {"share_asked": 1.0, "share_kept": 1.0}}}
    audit = {"corpus": {"align": sources}, "benchmarks": {}}
    (tmp_path / "mix/audit.json").write_text(json.dumps(audit))
    variant = write_variant(tmp_path / "scale/cnn-r0.5-s0", correct=5)
    for name in STUDY.ablation_recipes:
        (variant / name).mkdir(exist_ok=True)
        answers = variant / name / "predictions.parquet"
        write_scores(variant / f"sft-scores/{name}.parquet", f"sft-{name}", predictions=answers)
    counts = {"replies": {"equal": 599, "total": 600, "different": ["docvqa / direct / 7"]}}
    (variant / "full/harness.json").write_text(json.dumps({"teacher": counts, "merged": counts}))
    interval = {"value": 0.1, "low": 0.0, "high": 0.2}
    weights = {"step-2": 0.5, "step-4": 0.5}
    methods = {name: {"utility": 0.5, "weights": weights} for name in ("shapley", "uniform")}
    merged = {
        "method": "shapley",
        "shapley": dict.fromkeys(weights, interval),
        "gaps": [{"one": "step-2", "other": "step-4"} | interval],
        "methods": methods,
    }
    (variant / "full/weights.json").write_text(json.dumps(merged))
    speed = {"system": "distilled", "part": "total", "time": 0.6, "low": 0.5, "high": 0.7}
    pd.DataFrame([speed | {"flops": 0.5, "pairs": 7}]).to_csv(variant / "speed.csv", index=False)
    steps = pd.DataFrame({"step": [1, 2], "dataset": "chart", "loss": [2.0, 1.0], "weight": 1.0})
    for name in ("distill", "full/sft", "full/sampling"):
        steps.to_csv(variant / f"{name}.csv", index=False)
    return tmp_path


def run(data, study=STUDY, **other):
    flags = {"shared": data / "scale", "curated": data / "mix", "output": data / "reports"}
    report.run(study, variant=data / "scale/cnn-r0.5-s0", **flags, **other)
    return data / "reports"


def test_the_report_of_an_experiment_is_a_page_tables_plots_and_metrics(data):
    output = run(data)
    page = (output / "index.html").read_text(encoding="utf-8")
    assert "<dt>mix</dt><dd>smoke (a handful of renders)</dd>" in page
    assert "<dt>beyond the paper</dt><dd>hidden states are matched in distillation</dd>" in page
    assert "<dt>positions of visual tokens</dt><dd>spread</dd>" in page
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["docvqa_direct"] == 75
    assert metrics["docvqa_direct_retention"] == pytest.approx(100 * 6 / 7, abs=0.01)
    assert metrics["speedup"] == pytest.approx(1 / 0.6, abs=0.01)
    assert metrics["mean_direct_retention"] == pytest.approx(100 * 6 / 7, abs=0.01)
    # Few enough for the columns of a table: of each benchmark and prompt two, of each prompt a mean, and the speed-up.
    assert len(metrics) == 2 * 2 * len(STUDY.mix_config.benchmarks) + 2 + 1
    scores = json.loads((output / "scores.json").read_text())
    assert scores["merged"]["docvqa"]["direct"]["score"] == 75
    assert scores["teacher"]["docvqa"]["cot"]["low"] <= scores["teacher"]["docvqa"]["cot"]["score"] == 87.5
    found = (output / "tables/harness.md").read_text()
    assert re.search(r"Merged, shapley +\| +599 of 600 ", found)
    plots = {path.name for path in (output / "plots").iterdir()}
    assert plots == {"results.csv", "distill.csv", "sft.csv", "sampling.csv"}
    points = pd.read_csv(output / "plots/results.csv")
    fastv = points[(points["series"] == "FastV") & (points["benchmark"] == "DocVQA") & (points["prompt"] == "cot")]
    assert fastv[["tokens", "score", "n"]].values.tolist() == [[32, 87.5, 8], [16, 87.5, 8]]
    merged = points[points["series"] == "Merged, shapley"]
    assert set(merged["tokens"]) == {32}
    assert set(merged["score"]) == {75}
    figures = {path.name for path in (output / "figures").iterdir()}
    assert figures == {
        f"{name}.svg" for name in (*("ratio-direct", "ratio-cot"), "distill", "sft", "sampling", "shapley")
    }
    results = pd.read_csv(output / "tables/results-direct.csv")
    sft = [f"sft-{name}" for name in STUDY.ablation_recipes]
    expected = {"teacher", *BASELINES, "distilled", *sft, "merged", "uniform"}
    assert set(results["system"]) == expected
    methods = pd.read_csv(output / "tables/merge-direct.csv")
    assert methods[["method", "utility"]].drop_duplicates().values.tolist() == [["uniform", 50]]
    assert pd.read_csv(output / "tables/audit.csv")["kept"].tolist() == [5]
    assert not (output / "tables/ablation-direct.csv").exists()


def test_training_as_in_the_paper_is_not_said_to_be_beyond_it(data):
    distill = STUDY.distill.model_copy(update={"hidden_weight": 0.0})
    page = run(data, STUDY.model_copy(update={"distill": distill})) / "index.html"
    assert "beyond the paper" not in page.read_text(encoding="utf-8")
    recipes = STUDY.recipes | {STUDY.recipe: STUDY.recipes["matched"]}
    page = run(data, STUDY.model_copy(update={"distill": distill, "recipes": recipes})) / "index.html"
    assert "<dt>beyond the paper</dt><dd>fine-tuned towards the teacher</dd>" in page.read_text(encoding="utf-8")


def test_a_baseline_stands_with_its_true_number_of_tokens(data):
    """The tiny teacher has 64 a tile; 50 % removed is a grid of 5 x 6."""
    baselines = STUDY.baselines.model_copy(update={"methods": ("downsample", "fastv-equal-cost")})
    names = [f"{name}-r{ratio}" for name in baselines.methods for ratio in baselines.ratios]
    write_scores(data / "scale/scores.parquet", "teacher", *names, predictions=data / "scale/predictions.parquet")
    output = run(data, STUDY.model_copy(update={"baselines": baselines}))
    points = pd.read_csv(output / "plots/results.csv")
    points = points[(points["benchmark"] == "DocVQA") & (points["prompt"] == "cot")]
    tokens = points.groupby("series")["tokens"].agg(list)
    assert tokens["Smaller tiles"] == [30, 16]
    assert tokens["FastV at the student's cost"] == [19, 11]
    assert "FastV" not in tokens


def test_the_page_has_cases_with_the_answers_of_every_step_to_the_student(data):
    page = (run(data) / "index.html").read_text(encoding="utf-8")
    assert page.count('<article class="case"') == 24
    case = re.search(r'<article class="case" [^>]*data-outcome="teacher".*?</article>', page, re.DOTALL)[0]
    assert "<h3>6?</h3>" in case  # the teacher has seven right, the student six
    labels = ["Teacher", "Distilled student", "Fine-tuned, recipe full", "Merged, shapley", "FastV, 75 % removed"]
    assert all(f">{label}</th>" in case for label in labels)
    assert re.search(r'>Teacher</th><td data-label="Tokens">64</td>\s*<td data-label="Reply">a<', case)


def test_grid_points_are_named_by_their_folders_and_compared_in_pairs(data):
    other = write_variant(data / "scale/qformer-r0.5-s0", correct=1)
    output = run(data, variants=(data / "scale/cnn-r0.5-s0/full", other / "full"))
    grid = pd.read_csv(output / "tables/ablation-direct.csv")
    rows = grid[grid["benchmark"] == "chartqa"]
    assert rows[["compressor", "ratio", "seed", "stage", "score"]].values.tolist() == [
        ["cnn", 0.5, 0, "distilled", 62.5],
        ["cnn", 0.5, 0, "full", 75],
        ["qformer", 0.5, 0, "distilled", 12.5],
        ["qformer", 0.5, 0, "full", 25],
    ]
    page = (output / "index.html").read_text(encoding="utf-8")
    assert 'id="gallery"' not in page  # it is on the experiment's own page
    assert "<dt>grid</dt><dd>compressor cnn, qformer; ratio 0.5; seed 0</dd>" in page
    assert re.search(
        r"compressor cnn, ratio 0.5, stage full, seed 0</th>\s*<td [^>]*><span .*?</span>\s+\+50\.0 \[", page
    )


def test_a_folder_that_is_not_a_grid_point_is_named(data):
    with pytest.raises(DataError, match=r"somewhere is not <compressor>-r<ratio>-s<seed>/<recipe>"):
        run(data, variants=(data / "somewhere",))


def test_a_system_without_scores_is_named(data):
    write_scores(data / "scale/scores.parquet", "teacher", *BASELINES[1:])
    with pytest.raises(DataError, match=f"no scores of {BASELINES[0]}; run score again"):
        run(data)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("mix/audit.json", "{", "is not an audit (Invalid JSON"),
        ("mix/audit.json", '{"corpus": {"align": 3}, "benchmarks": {}}', "is not an audit (corpus.align: "),
        ("scale/cnn-r0.5-s0/full/weights.json", "[" * 5000, "is not the weights of a merge (Invalid JSON"),
        ("scale/cnn-r0.5-s0/full/weights.json", '{"methods": {}}', "(shapley: Field required); run merge again"),
        ("scale/acceptance.csv", "", "is not a table of kept rationales (No columns"),
        ("scale/cnn-r0.5-s0/speed.csv", "system\nx\n", "it has no flops, high, low, pairs, part, time"),
        ("scale/cnn-r0.5-s0/distill.csv", "step,loss\n1,low\n", "is not a table of losses (Unable to parse"),
        ("scale/scores.parquet", "PAR1", "is not a table of scores ("),
        ("scale/cnn-r0.5-s0/scores.parquet", None, "is not a table of scores ("),
        ("scale/predictions.parquet", "PAR1", "is not a table of replies ("),
        ("scale/cnn-r0.5-s0/full/merged.parquet", None, "is not a table of replies ("),
        ("mix/benchmarks/docvqa/00000.parquet", "PAR1", "is not a readable shard ("),
    ],
)
def test_a_damaged_input_is_one_line(data, file, content, message):
    (data / file).unlink()
    if content is not None:
        (data / file).write_text(content)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        run(data)
    assert "\n" not in str(caught.value)
