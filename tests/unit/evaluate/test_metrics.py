"""Every metric keeps one contract, and the published ones agree with their published scripts."""

from pathlib import Path

import pytest
import yaml

from fcotvl.core.errors import ParamsError
from fcotvl.data.ocr_tasks import ocrbench_answers
from fcotvl.evaluate import metrics

GOLDEN = Path(__file__).parents[2] / "golden" / "evaluate"
ANLS = yaml.safe_load((GOLDEN / "anls.yaml").read_text(encoding="utf-8"))
RELAXED = yaml.safe_load((GOLDEN / "relaxed.yaml").read_text(encoding="utf-8"))
VQA = yaml.safe_load((GOLDEN / "vqa_accuracy.yaml").read_text(encoding="utf-8"))
OCRBENCH = yaml.safe_load((GOLDEN / "ocrbench.yaml").read_text(encoding="utf-8"))
CONSENSUS = {"vqa_accuracy"}
"""Metrics that count how many references agree; of the others, the best reference counts."""


def test_finds_every_metric_of_the_folder():
    assert metrics.available() == (
        "anls",
        "exact_match",
        "ocrbench",
        "relaxed_internvl",
        "relaxed_lmms",
        "relaxed_strict",
        "relaxed_vlmevalkit",
        "vqa_accuracy",
    )


def test_an_unknown_metric_is_answered_with_the_known_ones():
    with pytest.raises(ParamsError, match=r"no metric 'bleu'; there are anls, exact_match, "):
        metrics.get("bleu")


@pytest.mark.parametrize("name", metrics.available())
def test_no_references_means_no_score(name):
    with pytest.raises(ValueError, match="no score"):
        metrics.get(name)("a", [])


@pytest.mark.parametrize("name", sorted({*metrics.available()} - CONSENSUS))
def test_the_best_reference_counts(name):
    assert metrics.get(name)("north", ["south", "north", "east"]) == 1


@pytest.mark.parametrize("name", sorted(CONSENSUS))
def test_the_consensus_counts(name):
    scores = [metrics.get(name)("north", ["north"] * agreeing + ["south"] * (10 - agreeing)) for agreeing in range(11)]
    assert scores == sorted(scores)
    assert (scores[0], scores[10]) == (0, 1)
    assert 0 < scores[1] < 1


def test_all_published_vectors_are_here():
    assert [len(vectors) for vectors in (ANLS, RELAXED, VQA, OCRBENCH)] == [9, 17, 26, 15]


@pytest.mark.parametrize("case", ANLS, ids=lambda case: case["why"])
def test_anls_agrees_with_the_official_script(case):
    score = metrics.get("anls")(case["prediction"], case["references"])
    assert score == pytest.approx(case["score"])


@pytest.mark.parametrize("dialect", ["internvl", "vlmevalkit", "lmms"])
@pytest.mark.parametrize("case", RELAXED, ids=lambda c: f"{c['reference']}-{c['prediction']}")
def test_relaxed_accuracy_agrees_with_its_script(case, dialect):
    score = metrics.get(f"relaxed_{dialect}")(case["prediction"], [case["reference"]])
    assert score == case[dialect]


@pytest.mark.parametrize("case", VQA, ids=lambda case: case["why"])
def test_vqa_accuracy_agrees_with_its_scripts(case):
    answers = [answer for answer, count in case["votes"].items() for _ in range(count)]
    assert metrics.get("vqa_accuracy")(case["prediction"], answers) == pytest.approx(case["score"])


@pytest.mark.parametrize("case", OCRBENCH, ids=lambda case: case["why"])
def test_ocrbench_agrees_with_its_script(case):
    references = ocrbench_answers(case["dataset"], [reference.strip() for reference in case["references"]])
    assert metrics.get("ocrbench")(case["prediction"], references) == case["score"]
