"""The page of claims from the files that stages write."""

import io
import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from PIL import Image

from fcotvl.compress.checkpoints import StudentHeader, write_student_tensors
from fcotvl.core import config
from fcotvl.core.config import Grid
from fcotvl.core.errors import DataError, ParamsError
from fcotvl.core.shards import write_shards
from fcotvl.report.study.chains import SLIPS
from fcotvl.report.study.data import System
from fcotvl.stages import study
from tests.support import corpora, models
from tests.support import scores as support

PARAMS = config.load(scale="smoke", mix="smoke")
GRIDS = {
    "modules": Grid(title="Compressors", compressor=("cnn", "qformer"), ratio=(0.5,), seed=(0, 1)),
    "pictures": Grid(title="Less", scale=("tiny",), compressor=("cnn", "qformer"), ratio=(0.5,), seed=(0, 1)),
    "nested": Grid(title="All", compressor=("nested",), ratio=(0.5,), seed=(0,), serve=(0.75,)),
    "merging": Grid(title="Merged", compressor=("cnn",), ratio=(0.5,), seed=(0, 1), recipe=("full",), merged=True),
}
GRIDS["runs"] = Grid(title="Runs", compressor=("cnn",), ratio=(0.5,), seed=(0, 1), pool={"cot": (-1,), "full": (0, 1)})
MERGED = PARAMS.merge.methods
STEPS = ("step-00002", "step-00004")
RUNS = ("cot", "full-step-00002", "full-step-00004")
BASELINES = PARAMS.baselines.model_copy(update={"methods": ("fastv", "visionzip"), "ratios": (0.5,)})
MERGE = PARAMS.merge.model_copy(update={"singles": True})
STUDY = PARAMS.model_copy(update={"grids": GRIDS, "baselines": BASELINES, "merge": MERGE})


def write_scores(path, *systems, predictions=None, **asked):
    kinds, asked = ("extractive", "reason"), {"questions": 8} | asked
    replies = predictions or path.with_name("predictions.parquet")
    support.write_scores(path, systems, PARAMS.mix_config.benchmarks, kinds=kinds, predictions=replies, **asked)


@pytest.fixture
def data(tmp_path):
    """What Snakemake leaves below data/."""
    write_scores(tmp_path / "smoke/scores.parquet", "teacher", "fastv-r0.5", "visionzip-r0.5", correct=8)
    losses = pd.DataFrame({"step": [1, 2], "kl": [2.0, 1.0]})
    for scale in ("smoke", "tiny"):
        for compressor, correct in (("cnn", 6), ("qformer", 3)):
            for seed in (0, 1):
                folder = tmp_path / scale / f"{compressor}-r0.5-s{seed}"
                write_scores(folder / "scores.parquet", "distilled", correct=correct + seed)
                losses.to_csv(folder / "distill.csv", index=False)
    nested = tmp_path / "smoke/nested-r0.5-s0"
    write_scores(nested / "scores.parquet", "distilled", correct=5)
    write_scores(nested / "at-0.75/scores.parquet", "distilled", correct=2)
    losses.to_csv(nested / "distill.csv", index=False)
    for seed in (0, 1):
        folder = tmp_path / f"smoke/cnn-r0.5-s{seed}"
        replies = folder / "full/predictions.parquet"
        write_scores(folder / "sft-scores/full.parquet", "sft-full", predictions=replies, correct=5)
        for home, checkpoints, correct in (("full", STEPS, 7), ("runs", RUNS, 6)):
            file, replies = (folder / home / name for name in ("merged-scores.parquet", "merged.parquet"))
            write_scores(file, "merged", *MERGED, *checkpoints, correct=correct, predictions=replies)
        support.write_coalitions(folder / "full/coalitions.csv", STEPS)
        support.write_coalitions(folder / "runs/coalitions.csv", RUNS)
    return tmp_path


def test_the_grids_become_a_page_tables_and_figures(data, tmp_path):
    row = {"system": "cnn 0.5", "part": "prefill", "measured": 0.5, "low": 0.4, "high": 0.6, "predicted": None}
    cost = {"architecture": "internvl2-1b", "tiles": "4", "dtype": "float32", "device": "cpu"}
    cost |= {"extrapolate": "False", "pairs": "3"}
    rows = [row | {"part": part, "teacher": 1.0} for part in ("vit", "connector", "prefill", "decode")]
    (tmp_path / "cost.json").write_text(json.dumps(cost | {"rows": rows}))
    more = cost | {"architecture": "internvl2-2b", "extrapolate": "True", "rows": rows}
    (tmp_path / "more.json").write_text(json.dumps(more))
    study.run(STUDY, data=data, output=tmp_path / "page", cost=(tmp_path / "cost.json", tmp_path / "more.json"))
    page = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert "Compressors: compressor cnn, qformer; ratio 0.5; seed 0, 1." in page
    scores = pd.read_csv(tmp_path / "page/tables/scores-direct.csv")
    rows = scores[scores["benchmark"] == "docvqa"].set_index(["kind", "stage"])
    assert rows.loc[("cnn", "distilled"), ["value", "questions", "seeds"]].tolist() == [100 * 6.5 / 8, 8, 2]
    assert rows.loc[("qformer", "distilled"), "value"] == 100 * 3.5 / 8
    assert rows.loc[("cnn", "shapley"), "value"] == 100 * 7 / 8
    assert rows.loc[("cnn", "runs/shapley"), "value"] == rows.loc[("cnn", "runs/cot"), "value"] == 100 * 6 / 8
    regret = pd.read_csv(tmp_path / "page/tables/regret-direct.csv").set_index("stage")["value"]
    assert regret[["shapley", "runs/best"]].tolist() == [0, 0]
    values = pd.read_csv(tmp_path / "page/tables/values.csv").set_index(["pool", "checkpoint"])
    assert values.loc[("Runs, 50 % removed", "cot"), "value"].tolist() == pytest.approx([100 / 3] * 2, abs=1e-3)
    assert "internvl2-1b with random weights, 4 tiles, float32, cpu, in 3 rounds; internvl2-2b with random" in page
    assert "cpu, extrapolated from models of one and of two layers, in 3 rounds" in page
    assert "internvl2-2b: LLM up to the first token, 50 % removed" in page
    nested = scores[(scores["kind"] == "nested") & (scores["benchmark"] == "docvqa")].set_index("ratio")["value"]
    assert nested.to_dict() == {0.5: 100 * 5 / 8, 0.75: 100 * 2 / 8}
    chains = pd.read_csv(tmp_path / "page/tables/chains.csv").set_index(["kind", "ratio", "slip"])["value"]
    assert chains["qformer", 0.5, "lost"] == chains["qformer", 0.5, "read"] == pytest.approx(100 * 4.5 / 8)
    less = pd.read_csv(tmp_path / "page/tables/pictures-cot.csv")
    assert set(less["scale"].fillna("")) == {"", "tiny"}
    cost = pd.read_csv(tmp_path / "page/tables/cost-direct.csv").drop_duplicates(["kind", "stage"])
    assert cost.set_index("kind").loc["teacher", "value"] == 100
    assert (tmp_path / "page/figures/cost.svg").is_file()
    assert 'id="attention"' not in page


def test_chains_that_go_wrong_are_counted_among_those_of_the_teacher(data):
    found = study._read(STUDY, data)
    # Of the eight that the teacher answers, the mean of two seeds.
    lost = {("cnn", "distilled"): 1.5, ("qformer", "distilled"): 4.5, ("cnn", "sft-full"): 3, ("fastv", ""): 0}
    for (kind, stage), count in lost.items():
        assert found.slipped(System(kind, 0.5, stage), SLIPS).value == pytest.approx(100 * count / 8)
        assert found.slipped(System(kind, 0.5, stage), ["read"]).value == pytest.approx(100 * count / 8)
    assert found.slipped(System("nested", 0.75, "distilled"), SLIPS).value == pytest.approx(100 * 6 / 8)
    (data / "smoke/cnn-r0.5-s1/full/predictions.parquet").unlink()
    with pytest.raises(DataError, match=r"full/predictions\.parquet .*run predict again"):
        study._read(STUDY, data)


def test_a_student_costs_what_its_tokens_do(data):
    found = study._read(STUDY, data).costs
    by_kind = {(system.kind, system.stage): cost for system, cost in found.items()}
    assert by_kind["teacher", ""] == (1, 1)
    # A third of the sequence is text; FastV's first two of four layers read everything.
    visual, text = 64, study.TEXT_TOKENS
    assert by_kind["cnn", "distilled"].cache == pytest.approx((visual / 2 + text) / (visual + text))
    assert by_kind["fastv", ""].cache == pytest.approx((1 + by_kind["cnn", "distilled"].cache) / 2)
    assert 0.5 < by_kind["cnn", "distilled"].prefill < by_kind["fastv", ""].prefill < 1
    assert by_kind["cnn", "distilled"] == pytest.approx(by_kind["cnn", "sft-full"])


def test_other_questions_than_the_teachers_are_one_line(data, tmp_path):
    write_scores(data / "smoke/cnn-r0.5-s1/scores.parquet", "distilled", correct=6, questions=7)
    with pytest.raises(DataError, match=r"cnn, distilled was not asked the questions of the teacher \(21 scores, 24"):
        study.run(STUDY, data=data, output=tmp_path / "page")


def test_where_systems_look_is_read_of_grids_that_ask_for_it(data):
    kind, what = {"kind": ["extractive", "reason"]}, {"layer": 0, "entropy": 0.5, "place": 0.2, "chance": 0.1}
    names = {"benchmark": "docvqa", "image_id": "0", "question_id": ["0", "1"], "prompt": "direct", "part": "answer"}
    folders = {".": 0.5, "cnn-r0.5-s0": 0.3, "cnn-r0.5-s1": 0.4, "cnn-r0.5-s0/full": 0.6, "cnn-r0.5-s1/full": 0.6}
    for folder, mass in folders.items():
        table = pd.DataFrame(kind | names | what | {"mass": mass})
        table.to_parquet(data / "smoke" / folder / "attention.parquet")
    merging = GRIDS["merging"].model_copy(update={"attention": True})
    found = study._attention(STUDY.model_copy(update={"grids": GRIDS | {"merging": merging}}), data)
    means = {
        (system.kind, system.stage): table.groupby("seed")["mass"].mean().to_dict() for system, table in found.items()
    }
    assert means == {
        ("teacher", ""): {-1: 0.5},
        ("cnn", "distilled"): {0: 0.3, 1: 0.4},
        ("cnn", "sft-full"): {0: 0.6, 1: 0.6},
    }
    assert study._attention(STUDY, data) == {}
    (data / "smoke/cnn-r0.5-s1/attention.parquet").unlink()
    with pytest.raises(DataError, match=r"attention\.parquet is not a table of attention .* run attention again"):
        study._attention(STUDY.model_copy(update={"grids": {"merging": merging}}), data)


def test_without_grids_it_says_where_some_are(data, tmp_path):
    with pytest.raises(ParamsError, match=r"--params workflow/study\.yaml"):
        study.run(PARAMS, data=data, output=tmp_path / "page")


def test_what_adaptive_really_removes_is_measured_on_the_benchmarks_pictures(data):
    white = io.BytesIO()
    Image.new("RGB", (56, 56), "white").save(white, "PNG")
    corpora.write_teacher(data / "smoke/teacher")
    for name, count in {"docvqa": 2, "chartqa": 3, "infovqa": 0}.items():
        noise = map(corpora.record, range(3))
        pictures = [replace(one, image=white.getvalue()) if i < count else one for i, one in enumerate(noise)]
        write_shards(data / "smoke/benchmarks" / name, pictures, shard_size=5)
    header = StudentHeader("distill", "adaptive", 0.5, models.OPTIONS["adaptive"])
    write_student_tensors(data / "smoke/adaptive-r0.5-s0/student.safetensors", {"w": torch.zeros(1)}, header)
    grid = Grid(title="Compressors", compressor=("cnn", "adaptive"), ratio=(0.5,), seed=(0, 1))
    found = study._removed(STUDY.model_copy(update={"grids": {"modules": grid}}), data)
    assert found == {
        (System("adaptive", 0.5, "distilled"), name): pytest.approx(share)
        for name, share in {"docvqa": (0.75 + 0.75 + 0.25) / 3, "chartqa": 0.75, "infovqa": 0.25}.items()
    }
    assert study._removed(STUDY, data) == {}
