"""Stages distill, rscot, sft and merge on a random teacher: what they write, and resuming."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from accelerate.state import AcceleratorState

from fcotvl.compress.checkpoints import read_student_tensors
from fcotvl.compress.tile_complexity import tile_complexity
from fcotvl.core import config
from fcotvl.core.config.scale import ComputeParams, LaunchParams
from fcotvl.core.errors import CheckpointError
from fcotvl.core.shards import read_records
from fcotvl.inference.generate import generate
from fcotvl.stages import distill, merge, predict, rscot, sft, speed
from fcotvl.train import loop, resampling
from fcotvl.train.resampling import LossRow, windows
from fcotvl.train.rscot import SamplingResult, write_rationales
from tests.support import corpora, models
from tests.support.imports import ROOT

STUDY = Path(__file__).parents[3] / "params.yaml"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Corpus, teacher and rationales."""
    folder = tmp_path_factory.mktemp("inputs")
    corpus = corpora.write(folder / "corpus")
    rationales = [
        SamplingResult(f"instruct-{i}-e", f"instruct-{i}", "s", "extractive", 2, 1, {"accepted": [f"So\nAnswer: {i}"]})
        for i in range(6)
    ]
    write_rationales(folder / "rationales.parquet", rationales)
    return SimpleNamespace(
        corpus=corpus, teacher=corpora.write_teacher(folder / "teacher"), rationales=folder / "rationales.parquet"
    )


@pytest.fixture(scope="module")
def study():
    """Recipe full, whose sampling weights move."""
    return config.load(STUDY, scale="smoke", recipe="full")


@pytest.fixture(autouse=True)
def own_scratch_folder(tmp_path, monkeypatch):
    """Resume state goes into the test's own folder, after every step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)


def run_distill(study, inputs, out):
    student, losses = out / "student.safetensors", out / "distill.csv"
    distill.run(study, corpus=inputs.corpus, teacher=inputs.teacher, student=student, losses=losses)
    return student


def run_sft(study, inputs, student, out):
    made = {"checkpoints": out / "checkpoints", "losses": out / "sft.csv", "sampling": out / "sampling.csv"}
    sft.run(study, corpus=inputs.corpus, rationales=inputs.rationales, teacher=inputs.teacher, student=student, **made)


def run_merge(study, inputs, pool, out):
    made = {"merged": out / "merged", "coalitions": out / "coalitions.csv", "weights": out / "weights.json"}
    given = {"corpus": inputs.corpus, "teacher": inputs.teacher, "student": pool.student}
    merge.run(study, **given, checkpoints=pool.checkpoints, **made)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextmanager
def stopped(module, name, calls):
    """Make ``module.name`` raise at call ``calls + 1``, as a kill stops it, and expect that."""
    original, left = getattr(module, name), iter(range(calls))

    def call(*args, **kwargs):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, call)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.fixture(scope="module")
def student(study, inputs, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("distill"))
        return run_distill(study, inputs, Path.cwd())


@pytest.fixture(scope="module")
def pool(study, inputs, student, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("sft"))
        run_sft(study, inputs, student, Path.cwd())
        return SimpleNamespace(student=student, folder=Path.cwd(), checkpoints=Path.cwd() / "checkpoints")


def test_distill_writes_what_was_trained_and_its_losses(study, student):
    tensors, trained = read_student_tensors(student)
    assert (trained.stage, trained.compressor, trained.ratio) == ("distill", "cnn", 0.5)
    assert all("compressor" in name or "multi_modal_projector" in name for name in tensors)
    table = pd.read_csv(student.parent / "distill.csv")
    assert list(table) == ["step", "loss", "kl", "ce", "hidden", "lr"]
    assert list(table["step"]) == list(range(1, study.scale_config.distill.steps + 1))


def test_distill_leaves_nothing_in_scratch(student):
    assert not list((student.parent / ".scratch").iterdir())


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_distill_stopped_and_run_again_writes_the_same_bytes(study, inputs, student, tmp_path, steps):
    out = tmp_path / "out"
    with stopped(loop, "_step", steps):
        run_distill(study, inputs, out)
    assert not out.exists()
    run_distill(study, inputs, out)
    for name in ("student.safetensors", "distill.csv"):
        assert (out / name).read_bytes() == (student.parent / name).read_bytes()


def test_distill_does_not_resume_from_another_setting(study, inputs, student, tmp_path):
    with stopped(loop, "_step", 2):
        run_distill(study.model_copy(update={"seed": 5}), inputs, tmp_path / "out")
    run_distill(study, inputs, tmp_path / "out")
    assert (tmp_path / "out/student.safetensors").read_bytes() == student.read_bytes()


def test_sft_keeps_a_pool_of_checkpoints(study, pool):
    names = sorted(path.name for path in pool.checkpoints.iterdir())
    assert names == ["step-00002.safetensors", "step-00004.safetensors"]
    tensors, trained = read_student_tensors(pool.checkpoints / "step-00004.safetensors")
    assert trained.stage == "sft"
    assert not any("vision_tower" in name for name in tensors)
    for part in ("compressor", "multi_modal_projector", "language_model"):
        assert any(part in name for name in tensors)


def test_the_sampling_weights_follow_from_the_loss_table_alone(study, pool):
    losses = pd.read_csv(pool.folder / "sft.csv")
    sampling = pd.read_csv(pool.folder / "sampling.csv")
    assert set(losses.groupby("step")["n"].sum()) == {study.scale_config.sft.batch_size}
    first = sampling[sampling["step"] == 1].set_index("dataset")["weight"].to_dict()
    rows = [LossRow(**row) for row in losses[losses["step"] <= 2].to_dict("records")]
    weigh = resampling.get(study.recipes[study.recipe].resampling)
    expected = weigh(first, windows(rows, 2), study.resampling)
    second = sampling[sampling["step"] == 3].set_index("dataset")["weight"].to_dict()
    assert second == pytest.approx(expected, abs=1e-5)
    assert second != first


@pytest.fixture
def other_precision():
    """A process computes in one precision, unless it is told to forget it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("other_precision")
def test_checkpoints_are_of_the_number_type_that_the_model_computes_in(study, inputs, student, tmp_path):
    assert {tensor.dtype for tensor in read_student_tensors(student)[0].values()} == {torch.float32}
    model = study.scale_config.model.model_copy(update={"dtype": "bfloat16"})
    scale = study.scale_config.model_copy(update={"model": model})
    study = study.model_copy(update={"scale_config": scale})
    run_sft(study, inputs, run_distill(study, inputs, tmp_path), tmp_path)
    for path in (tmp_path / "student.safetensors", *(tmp_path / "checkpoints").iterdir()):
        assert {tensor.dtype for tensor in read_student_tensors(path)[0].values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("steps", "machine"), [(1, {}), (3, {"workers": 1, "activation_checkpointing": True, "micro_batch_tokens": 10**6})]
)
def test_sft_goes_on_on_another_machine_and_writes_the_same_bytes(study, inputs, pool, steps, machine):
    out, done, step = Path("out"), [], loop._step
    with stopped(loop, "_step", steps):
        run_sft(study, inputs, pool.student, out)
    launch = LaunchParams(sft=ComputeParams(**{"workers": 0, **machine}))
    scale = study.scale_config.model_copy(update={"launch": launch})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", lambda *a, **k: done.append(1) or step(*a, **k))
        run_sft(study.model_copy(update={"scale_config": scale}), inputs, pool.student, out)
    assert len(done) == study.scale_config.sft.steps - steps
    assert digests(out) == {k: v for k, v in digests(pool.folder).items() if not k.startswith(".")}


def test_a_recipe_is_trained_for_steps_and_at_a_rate_of_its_own(study, inputs, pool, tmp_path):
    assert study.scale_config.sft.steps != 6
    recipe = study.recipes[study.recipe].model_copy(update={"steps": 6, "lr": 1e-12})
    study = study.model_copy(update={"recipes": study.recipes | {study.recipe: recipe}})
    run_sft(study, inputs, pool.student, tmp_path)
    assert pd.read_csv(tmp_path / "sft.csv")["step"].max() == 6
    before, after = (
        read_student_tensors(file)[0] for file in (pool.student, tmp_path / "checkpoints/step-00006.safetensors")
    )
    assert all(torch.allclose(tensor, after[name], atol=1e-6) for name, tensor in before.items())


def test_sft_publishes_only_the_due_checkpoints(study, inputs, pool, tmp_path):
    """A kill while a checkpoint is saved leaves a temporary folder beside it."""
    with stopped(loop, "_step", 3):
        run_sft(study, inputs, pool.student, tmp_path / "out")
    (scratch,) = (tmp_path / ".scratch").iterdir()
    (scratch / ".step-00004.safetensors.x1").mkdir()
    (scratch / "step-00003.safetensors").touch()
    run_sft(study, inputs, pool.student, tmp_path / "out")
    assert digests(tmp_path / "out/checkpoints") == digests(pool.checkpoints)


def test_sft_fails_if_a_checkpoint_is_missing(study, inputs, pool, tmp_path):
    with stopped(loop, "_step", 3):
        run_sft(study, inputs, pool.student, tmp_path / "out")
    (checkpoint,) = tmp_path.glob(".scratch/*/step-*.safetensors")
    checkpoint.unlink()
    with pytest.raises(CheckpointError, match=r"step-00002\.safetensors is missing; delete"):
        run_sft(study, inputs, pool.student, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_merge_scores_every_coalition_once(study, inputs, pool, tmp_path):
    run_merge(study, inputs, pool, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/coalitions.csv", keep_default_na=False)
    sizes = table.groupby("coalition").size()
    assert set(sizes.index) == {"", "step-00002", "step-00004", "step-00002+step-00004"}
    assert set(sizes) == {study.scale_config.merge.questions}
    account = json.loads((tmp_path / "out/weights.json").read_text())
    for method, found in account["methods"].items():
        assert sum(found["weights"].values()) == pytest.approx(1), method
    merged = tmp_path / "out/merged"
    headline = study.merge.headline
    files = {path.stem for path in merged.iterdir()}
    assert files == {"merged", "best", "greedy", "shapley", "uniform"}
    assert (merged / "merged.safetensors").read_bytes() == (merged / f"{headline}.safetensors").read_bytes()


def test_the_questions_of_a_source_take_two_prompts_in_turn(study, inputs, pool, tmp_path):
    asked = study.merge.model_copy(update={"prompts": ("direct", "cot")})
    run_merge(study.model_copy(update={"merge": asked}), inputs, pool, tmp_path / "both")
    both = pd.read_csv(tmp_path / "both/coalitions.csv", keep_default_na=False)
    for _, prompts in both.groupby(["coalition", "source"])["prompt"]:
        assert list(prompts) == (["direct", "cot"] * len(prompts))[: len(prompts)]
    for prompt in asked.prompts:
        one = study.model_copy(update={"merge": asked.model_copy(update={"prompts": (prompt,)})})
        run_merge(one, inputs, pool, tmp_path / prompt)
        alone = pd.read_csv(tmp_path / f"{prompt}/coalitions.csv", keep_default_na=False)
        assert set(alone["prompt"]) == {prompt}
        assert both[both["prompt"] == prompt].equals(alone[both["prompt"] == prompt])


def test_what_each_merge_method_costs_is_measured(inputs, pool):
    given = {"teacher": inputs.teacher, "student": pool.student, "questions": inputs.corpus / "val"}
    given |= {"checkpoints": pool.checkpoints, "scale": "smoke"}
    flags = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, str(ROOT / "benchmarks/merge_rules.py"), *flags]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    assert {row[0]: row[1] for row in rows} == {
        "uniform": "0",
        "best": "2",
        "greedy": "3",
        "search": "1",
        "shapley": "4",
    }


def test_merge_stopped_and_run_again_scores_only_what_is_missing(study, inputs, pool, tmp_path, monkeypatch):
    run_merge(study, inputs, pool, tmp_path / "whole")
    with stopped(merge, "generate", 3):
        run_merge(study, inputs, pool, tmp_path / "out")
    asked = []
    monkeypatch.setattr(merge, "generate", lambda *a, **k: asked.append(a) or generate(*a, **k))
    run_merge(study, inputs, pool, tmp_path / "out")
    assert len(asked) == 1
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_mean_budget_goes_through_all_stages(study, inputs, tmp_path, caplog):
    """Distill calibrates a threshold, which whatever comes later reads from the checkpoint."""
    study = study.model_copy(update={"compressor": "adaptive"})
    with caplog.at_level("INFO"):
        student = run_distill(study, inputs, tmp_path)
    _, trained = read_student_tensors(student)
    images = models.processor().image_processor
    pictures = [record.decode() for record in read_records(inputs.corpus / "align")]
    tiles = images(pictures, max_tiles=study.scale_config.model.max_tiles)["pixel_values"]
    below = sum(tile_complexity(tile) < trained.options["threshold"] for tile in tiles)
    assert below == len(tiles) / 2
    assert "of corpus/val on average (n = 12 tiles; the budget is 0.5)" in caplog.text

    run_sft(study, inputs, student, tmp_path)
    pool = SimpleNamespace(student=student, checkpoints=tmp_path / "checkpoints")
    run_merge(study, inputs, pool, tmp_path)
    assert read_student_tensors(tmp_path / "merged/merged.safetensors")[1].options == trained.options

    for name in study.mix_config.benchmarks:
        shutil.copytree(inputs.corpus / "val", tmp_path / "benchmarks" / name)
    asked = {"benchmarks": tmp_path / "benchmarks", "teacher": inputs.teacher}
    answers = tmp_path / "predictions.parquet"
    predict.run(study, **asked, student=tmp_path / "merged", predictions=answers)
    assert set(pd.read_parquet(answers)["system"]) >= {"merged", "uniform"}
    speed.run(study, **asked, student=student, speed=tmp_path / "speed.csv")
    table = pd.read_csv(tmp_path / "speed.csv")
    distilled = table[table["system"] == "distilled"]
    assert set(distilled["removed"]) <= {0.25, 0.75}  # one picture of one tile
    assert set(distilled["tiles"]) == {1}


def test_one_student_serves_every_ratio(study, inputs, tmp_path):
    """The ratio that a nested student is trained at is where it starts from: its weights are those of any other."""
    at = {ratio: study.model_copy(update={"compressor": "nested", "ratio": ratio}) for ratio in (0.5, 0.75)}
    one, other = (run_distill(at[ratio], inputs, tmp_path / f"{ratio}") for ratio in at)
    with stopped(loop, "_step", 2):
        run_distill(at[0.5], inputs, tmp_path / "again")
    assert run_distill(at[0.5], inputs, tmp_path / "again").read_bytes() == one.read_bytes()
    (tensors, _), (others, header) = map(read_student_tensors, (one, other))
    assert header.ratio == 0.75
    assert all(tensor.equal(others[name]) for name, tensor in tensors.items())
    run_sft(at[0.5], inputs, one, tmp_path / "sft")
    assert len(digests(tmp_path / "sft/checkpoints")) == study.scale_config.sft.checkpoints

    for name in study.mix_config.benchmarks:
        shutil.copytree(inputs.corpus / "val", tmp_path / "benchmarks" / name)
    asked = {"benchmarks": tmp_path / "benchmarks", "teacher": inputs.teacher}

    def replies(student, **options):
        predict.run(study, **asked, student=student, system="nested", predictions=tmp_path / "replies", **options)
        return list(pd.read_parquet(tmp_path / "replies")["prediction"])

    assert replies(one, ratio=0.75) == replies(other)
    speed.run(study, **asked, student=one, speed=tmp_path / "speed.csv", ratio=0.25)
    table = pd.read_csv(tmp_path / "speed.csv").set_index("system")
    assert set(table.loc["distilled", "removed"]) == {0.25}
    assert "fastv-r0.25" in table.index


def run_rscot(study, inputs, out):
    rscot.run(
        study,
        corpus=inputs.corpus,
        teacher=inputs.teacher,
        rationales=out / "rationales.parquet",
        acceptance=out / "acceptance.csv",
    )


def test_rscot_warns_if_the_teacher_is_never_right(study, inputs, tmp_path, caplog):
    run_rscot(study, inputs, tmp_path / "out")
    assert "direct answers only" in caplog.text
    assert pq.read_table(tmp_path / "out/rationales.parquet").num_rows == 0
    table = pd.read_csv(tmp_path / "out/acceptance.csv")
    assert table["questions"].sum() == study.scale_config.rscot.questions
    assert table["samples"].sum() == study.scale_config.rscot.questions * study.scale_config.rscot.samples
    assert (table["all_wrong"] == table["questions"]).all()


def test_rscot_keeps_what_ends_right_and_resumes(study, inputs, tmp_path, monkeypatch):
    def replies_of_four(_model, _processor, queries, *, samples, **_):
        """Every reply gives the value 4, each sample in other words."""
        asked.extend(query.prompt for query in queries)
        return [[f"{'so ' * i}\nAnswer: 4" for i in range(samples)] for _ in queries]

    asked: list[str] = []
    monkeypatch.setattr(rscot, "sample", replies_of_four)
    monkeypatch.setattr(rscot, "window_size", lambda *_: 5)
    with stopped(rscot, "keep_correct", 7):
        run_rscot(study, inputs, tmp_path / "out")
    assert len(asked) == 10
    run_rscot(study, inputs, tmp_path / "out")
    assert len(asked) == 10 + 7  # the first window of five was not asked again
    rows = pq.read_table(tmp_path / "out/rationales.parquet").to_pylist()
    assert rows
    assert {row["record_id"] for row in rows if row["selection"] == "accepted"} <= {"instruct-2", "instruct-4"}
    unchecked = [row["question_id"] for row in rows if row["selection"] == "all"]
    assert set(unchecked) > {row["question_id"] for row in rows if row["selection"] == "accepted"}
    assert all(row["rationale"].startswith("so") for row in rows)
    per_question = pd.DataFrame(rows).groupby(["selection", "question_id"]).size()
    assert set(per_question) == {study.rscot.max_per_question}
