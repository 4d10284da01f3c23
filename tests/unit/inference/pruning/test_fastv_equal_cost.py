"""FastV at a student's cost: within a token of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from fcotvl.compress.config import FcotvlConfig, full_tokens
from fcotvl.evaluate.cost import cost
from fcotvl.inference import pruning
from fcotvl.inference.generate import generate
from fcotvl.inference.pruning.fastv import FastV
from fcotvl.internvl.architectures import teacher_config
from tests.support import models
from tests.unit.inference.test_generate import queries


@dataclass(frozen=True)
class Fixed(FastV):
    """FastV that keeps a given number of tokens."""

    number: int = 0

    def kept(self, tokens):
        return self.number


def equal(config, ratio, layer=2):
    with torch.device("meta"):
        teacher = models.InternVLForConditionalGeneration(config)
    return pruning.build("fastv-equal-cost", teacher, ratio=ratio, layer=layer).pruning


def prefill(config, **asked):
    """FLOPs up to the first token, ViT left out."""
    found = cost(config, **asked)
    return found.connector + found.prefill


def student_prefill(config, ratio, tiles, text):
    student = FcotvlConfig.from_teacher(config, compressor="cnn", ratio=ratio)
    return prefill(student, tiles=tiles, text_tokens=text)


@pytest.mark.parametrize("tiles", [1, 5, 13])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75, 0.875])
@pytest.mark.parametrize("architecture", ["internvl2-1b", "internvl2-2b", "internvl2-8b"])
def test_it_costs_what_the_student_costs_and_one_token_more_costs_more(architecture, ratio, tiles):
    config = teacher_config(architecture)
    system = equal(config, ratio)
    assert system.layer == 2
    kept = system.kept(tiles * full_tokens(config))
    assert 0 < kept < tiles * full_tokens(config)
    for text in (0, 60, 400):
        ours = prefill(config, tiles=tiles, text_tokens=text, pruning=system)
        assert 0.97 < ours / student_prefill(config, ratio, tiles, text) < 1.01
    more = Fixed(ratio, 2, kept + 1)
    assert prefill(config, tiles=tiles, text_tokens=0, pruning=more) > student_prefill(config, ratio, tiles, 0)


@pytest.mark.parametrize(
    ("architecture", "ratio", "layer"),
    [("internvl2-2b", 0.875, 2), ("tiny", 0.25, 2), ("tiny", 0.5, 2), ("tiny", 0.75, 1)],
)
def test_k_is_the_papers_where_the_llm_is_deep_enough(architecture, ratio, layer):
    """Of 4 layers, two that read everything cost more than a student's 4 at a quarter of the tokens."""
    config = teacher_config(architecture)
    chosen = equal(config, ratio)
    assert chosen.layer == layer
    assert chosen.kept(full_tokens(config)) > 0


@pytest.mark.parametrize(("architecture", "removed"), [("internvl2-2b", 0.54), ("tiny", 0.7)])
def test_so_many_are_removed_where_a_student_removes_half(architecture, removed):
    config = teacher_config(architecture)
    full = full_tokens(config)
    assert 1 - equal(config, 0.5).kept(full) / full == pytest.approx(removed, abs=0.008)


def test_where_nothing_reaches_the_cost_all_tokens_go_after_the_first_layer():
    config = teacher_config("tiny")
    chosen = equal(config, 0.875)
    assert (chosen.layer, chosen.kept(64), chosen.kept(5 * 64)) == (1, 0, 0)
    assert prefill(config, tiles=1, text_tokens=60, pruning=chosen) > student_prefill(config, 0.875, 1, 60)


def test_it_ranks_as_fastv():
    teacher, processor = models.teacher(), models.processor()
    chosen = pruning.build("fastv-equal-cost", teacher, ratio=0.5, layer=2).pruning
    asked = [query for query in queries() if query.picture_id == "0"]  # of one tile

    def replies(one):
        return generate(teacher, processor, asked, max_new_tokens=8, pruning=one)

    layer, kept = chosen.layer, chosen.kept(16)
    assert replies(chosen) == replies(Fixed(0.5, layer, kept)) != replies(Fixed(0.5, layer, 16))


def test_ratio_0_replies_as_the_teacher():
    teacher, processor = models.teacher(), models.processor()
    chosen = pruning.build("fastv-equal-cost", teacher, ratio=0.0, layer=2).pruning
    replies = generate(teacher, processor, queries(), max_new_tokens=8, pruning=chosen)
    assert replies == generate(teacher, processor, queries(), max_new_tokens=8)
