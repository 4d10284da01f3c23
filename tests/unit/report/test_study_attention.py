"""What the study says of attention follows from the measured tables."""

import re

import numpy as np
import pandas as pd
import pytest

from fcotvl.report.study import attention
from fcotvl.report.study.attention import Look
from fcotvl.report.study.data import DISTILLED, TEACHER, Scores, StudyData, System

QUARTER, HALF, TUNED = System("cnn", 0.75, DISTILLED), System("cnn", 0.5, DISTILLED), System("cnn", 0.5, "sft-full")
MASS = {
    TEACHER: {"extractive": 0.6, "reason": 0.5},
    QUARTER: {"extractive": 0.3, "reason": 0.4},
    HALF: {"extractive": 0.4, "reason": 0.4},
    TUNED: {"extractive": 0.4, "reason": 0.4},
}
PARTS = (("direct", "answer"), ("cot", "reasoning"), ("cot", "answer"))


def table(system, seeds):
    """Mass as above, more for later questions and seeds; attention on the place grows by layer, by chance it is 0.1."""
    return pd.DataFrame(
        {
            "benchmark": name,
            "prompt": prompt,
            "kind": kind,
            "image_id": f"{name}-{number}",
            "question_id": f"{name}-{kind}-{number}",
            "part": part,
            "layer": layer,
            "seed": seed,
            "mass": mass + number / 100 + seed / 100,
            "entropy": 0.5,
            "place": 0.1 * (1 + layer) if kind == "extractive" and number else float("nan"),
            "chance": 0.1 if kind == "extractive" and number else float("nan"),
        }
        for kind, mass in MASS[system].items()
        for name in ("docvqa", "chartqa")
        for number in range(5)
        for prompt, part in PARTS
        for layer in range(3)
        for seed in seeds
    )


def study(*systems):
    tables = {system: table(system, (0, 1) if system.stage else (-1,)) for system in systems}
    asked = dict.fromkeys(("direct", "cot"), pd.DataFrame())
    return StudyData(facts={}, grids=(), benchmarks={}, questions=asked, scores={}, attention=tables)


def test_numbers_are_means_over_questions_layers_and_seeds():
    found = study(TEACHER, QUARTER)
    mass = attention.looked(found, QUARTER, Look("mass", "cot", "reasoning", "reason"))
    assert mass.value == pytest.approx(40 + 2 + 0.5)
    assert (mass.questions, mass.seeds) == (10, 2)
    lift = attention.looked(found, TEACHER, Look("lift", "direct", "answer", "extractive"))
    assert lift.value == pytest.approx(2)
    assert lift.questions == 8
    place = attention.looked(found, TEACHER, Look("place", "direct", "answer", "extractive", layer=2))
    assert place.value == pytest.approx(30)
    assert attention.looked(found, TEACHER, Look("lift", "direct", "answer", "reason")) is None
    assert attention.reading_layer(found) == 2


def test_changes_are_paired_by_question_and_seed():
    found, look = study(TEACHER, QUARTER, HALF, TUNED), Look("mass", "direct", "answer", "extractive")
    assert attention.changed(found, QUARTER, TEACHER, look).value == pytest.approx(-30 + 1.5)
    against_students = attention.changed(found, TUNED, HALF, look)
    assert (against_students.value, against_students.high) == (pytest.approx(0), pytest.approx(0))
    gap = attention.apart(found, QUARTER, TEACHER, look)
    assert gap.value == pytest.approx(-30 + 10)
    assert gap.questions == 20
    assert attention.apart(found, QUARTER, TEACHER, look._replace(part="reasoning")) is None


@pytest.mark.parametrize("prompt", ["direct", "cot"])
def test_the_sentences_say_what_the_intervals_say(prompt):
    heading, change, place, tuned, _ = attention.findings(study(TEACHER, QUARTER, HALF, TUNED), prompt)
    assert heading == {"direct": "Direct answers:", "cot": "Chain of thought:"}[prompt]
    numbers = r"^With 75 % removed, .* by -28\.5 \[.* written .* by -8\.5 \[.*; the first is lower \(by -20\.0 \["
    assert re.search(numbers, change)
    assert place.startswith("Layer 2 has 30.0 [30.0, 30.0] % of this attention on the place")
    assert place.endswith("the teacher 30.0 [30.0, 30.0] % (by chance 10.0 and 10.0 %).")
    assert tuned.startswith("Fine-tuned at 50 %, attention")
    assert "the two cannot be told apart" in tuned


def test_the_table_has_every_system_part_and_kind():
    found = attention.table(study(TEACHER, QUARTER, TUNED), "cot")
    assert found.name == "attention-cot"
    assert len(found.shown) == 3 * 2 * 2
    assert found.shown["n placed"].tolist() == ["8", "0"] * 6
    assert "Part" in found.shown
    assert set(found.data["what"]) == {"mass", "entropy", "lift", "place", "chance"}


def test_figures_have_a_panel_for_each_prompt_and_kind():
    found = study(TEACHER, QUARTER, HALF, TUNED)
    plot = attention.by_layer(found)
    assert len(plot.panels) == 4
    assert [label for label, _ in plot.keys] == [
        "Teacher",
        "cnn, distilled, 50 % removed",
        "cnn, distilled, 75 % removed",
        "cnn, recipe full, 50 % removed",
    ]
    assert "With 75 % removed" in plot.note
    assert len(attention.entropy(found).panels) == 4
    assert len(attention.lift(found).panels) == 2


def test_a_study_that_did_not_measure_it_shows_nothing():
    nothing = study()
    assert attention.table(nothing, "direct") is None
    assert attention.by_layer(nothing) is None
    assert attention.entropy(nothing) is None
    assert attention.lift(nothing) is None
    assert attention.findings(nothing, "direct") == []


def test_a_model_whose_pictures_cannot_be_drawn_again_still_has_mass_and_entropy():
    found = study(TEACHER, QUARTER)
    for system, own in found.attention.items():
        found.attention[system] = own.assign(place=float("nan"), chance=float("nan"))
    shown = attention.table(found, "direct").shown
    assert set(shown["n placed"]) == {"0"}
    assert len(attention.findings(found, "direct")) == 2
    assert "Place" not in shown
    assert "Layer" not in attention.by_layer(found).note


def test_systems_come_as_read_with_the_ratios_of_each_together():
    pool, less = System("pool", 0.5, DISTILLED), System("cnn", 0.5, DISTILLED, "less")
    read = [TEACHER, HALF, TUNED, pool, QUARTER, less]
    tables = {(system, "cot"): Scores((), np.zeros((1, 1))) for system in read}
    found = StudyData(facts={}, grids=(), benchmarks={}, questions={"cot": pd.DataFrame()}, scores=tables)
    assert found.systems() == [TEACHER, HALF, QUARTER, TUNED, pool]
    assert found.systems(scale="less") == [less]
