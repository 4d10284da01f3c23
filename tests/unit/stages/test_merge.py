"""Stage merge without a model: which coalitions it scores, and what the merged files say."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from fcotvl.compress.checkpoints import StudentHeader, read_student_tensors, write_student_tensors
from fcotvl.core import config
from fcotvl.merge.shapley import EXACT_PLAYERS
from fcotvl.stages import merge
from tests.support import corpora
from tests.support.imports import ROOT

QUESTIONS = 6


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the stage on a pool of so many checkpoints; a student's one number decides its score."""
    monkeypatch.chdir(tmp_path)
    corpus = corpora.write(tmp_path / "corpus")
    study = config.load(ROOT / "params.yaml", scale="smoke")

    def run(count, *, main=True, **changed):
        scored = []
        for index in range(count):
            tensors = {"x": torch.tensor([float(index)])}
            path = tmp_path / f"checkpoints/step-{index:05d}.safetensors"
            write_student_tensors(path, tensors, StudentHeader("sft", "cnn", 0.5))

        def score(shares, _folder):
            value = sum(int(name.removeprefix("step-")) * share for name, share in shares.items()) if shares else -1.0
            scored.append(value)
            return [float(value > count * question / QUESTIONS) for question in range(QUESTIONS)]

        monkeypatch.setattr(merge, "make_scorer", lambda *_: score)
        monkeypatch.setattr(merge, "is_main", lambda: main)
        (tmp_path / "teacher").mkdir()
        (tmp_path / "student").touch()
        params = study.merge.model_copy(update=changed)
        merge.run(
            study.model_copy(update={"merge": params}),
            corpus=corpus,
            teacher=tmp_path / "teacher",
            student=tmp_path / "student",
            checkpoints=tmp_path / "checkpoints",
            merged=tmp_path / "merged",
            coalitions=tmp_path / "coalitions.csv",
            weights=tmp_path / "weights.json",
        )
        if not main:
            return SimpleNamespace(scored=scored)
        return SimpleNamespace(
            scored=scored,
            table=pd.read_csv(tmp_path / "coalitions.csv", keep_default_na=False),
            weights=json.loads((tmp_path / "weights.json").read_text()),
            merged=tmp_path / "merged",
        )

    return run


def test_a_small_pool_is_valued_exactly(run):
    found = run(3)
    assert set(found.table.groupby("coalition").size()) == {QUESTIONS}
    assert found.table["coalition"].nunique() == 8
    assert list(found.weights) == [*("method", "questions", "empty_coalition", "shapley", "gaps", "methods")]
    assert found.weights["empty_coalition"] == 0
    assert {tuple(one) for one in found.weights["shapley"].values()} == {("value", "low", "high")}
    assert {tuple(one) for one in found.weights["gaps"]} == {("one", "other", "value", "low", "high")}


def test_a_large_pool_is_valued_by_permutations_and_scores_few_coalitions(run):
    count = EXACT_PLAYERS + 2
    found = run(count, permutations=4)
    assert found.scored[0] == -1.0  # the distilled student, before anything is loaded over it
    assert found.scored.count(-1.0) == 1
    assert found.table["coalition"].nunique() < 2**count / 4
    assert list(found.table["size"]) == sorted(found.table["size"])
    values = found.weights["shapley"].values()
    assert len(values) == count
    assert all(tuple(one) == ("value", "low", "high", "standard_error") for one in values)
    assert max(one["standard_error"] for one in values) > 0
    everyone = found.table[found.table["size"] == count]["utility"].mean()
    gain = everyone - found.weights["empty_coalition"]
    assert sum(one["value"] for one in values) == pytest.approx(gain)
    for method, row in found.weights["methods"].items():
        assert sum(row["weights"].values()) == pytest.approx(1), method


def test_a_process_that_writes_nothing_takes_part_in_scoring_what_values_need(run, tmp_path):
    count = EXACT_PLAYERS + 2
    found = run(count, main=False, permutations=4, methods=("uniform",), headline="uniform")
    assert len(found.scored) > 2 * count
    assert not (tmp_path / "weights.json").exists()


def test_merged_students_say_that_merge_made_them(run):
    found = run(2)
    names = {path.stem for path in found.merged.iterdir()}
    assert names == {"merged", "best", "greedy", "shapley", "uniform"}
    for path in found.merged.iterdir():
        tensors, header = read_student_tensors(path)
        assert header == StudentHeader("merge", "cnn", 0.5)
        assert list(tensors) == ["x"]
    best = found.weights["methods"]["best"]["weights"]
    (winner,) = (name for name, weight in best.items() if weight)
    kept, _ = read_student_tensors(found.merged.parent / f"checkpoints/{winner}.safetensors")
    assert torch.equal(read_student_tensors(found.merged / "best.safetensors")[0]["x"], kept["x"])


def test_each_checkpoint_alone_is_a_student_too_where_it_is_asked_for(run):
    found = run(2, singles=True, methods=("search", "shapley"))
    names = {path.stem for path in found.merged.iterdir()}
    assert names == {"merged", "search", "shapley", "step-00000", "step-00001"}
    assert sorted(found.weights["methods"]) == ["search", "shapley"]
    alone, _ = read_student_tensors(found.merged / "step-00001.safetensors")
    assert float(alone["x"]) == 1


def test_drafts_are_the_replies_to_the_average_before_also_in_a_run_that_goes_on(tmp_path, monkeypatch):
    study = config.load(ROOT / "params.yaml", scale="smoke")
    questions = merge.choose_questions(corpora.write(tmp_path / "corpus") / "val", QUESTIONS, 0)
    pool = {name: tmp_path / name for name in "ab"}
    seen = []

    def generate(_model, _processor, queries, *, drafts, **_):
        seen.append(drafts)
        return [f"{len(seen)} {query.prompt}" for query in queries]

    nothing = SimpleNamespace(to=lambda _: None, config=None)
    loading = ("load_teacher", "load_student", "load_processor", "processor_for", "load_tensors", "keep_visual_tokens")
    for name in (*loading, "average_files"):
        monkeypatch.setattr(merge, name, lambda *_, **__: nothing)
    monkeypatch.setattr(merge, "read_student_tensors", lambda _: ({}, None))
    monkeypatch.setattr(merge, "generate", generate)

    def score_all(folder):
        score = merge.make_scorer(study, tmp_path, tmp_path, pool, questions)
        return [score(shares, folder / "".join(shares)) for shares in ({}, {"a": 1.0}, {"a": 0.5, "b": 0.5})]

    once = score_all(tmp_path / "state")
    first, second, third = seen
    assert set(first) == {""}
    assert [draft.split()[0] for draft in (second[0], third[0])] == ["1", "2"]
    (tmp_path / "state/ab").rename(tmp_path / "gone")
    seen.clear()
    assert score_all(tmp_path / "state") == once
    assert seen == [third]
