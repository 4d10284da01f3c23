"""DivPrune keeps what a plain search by its rule keeps."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from fcotvl.compress.student import encode_tiles, project_visual_tokens
from fcotvl.inference.generate import generate
from fcotvl.inference.pruning.divprune import DivPrune, farthest
from tests.support import models
from tests.unit.inference.test_generate import queries


def distance(one, other):
    """1 - cosine of two lists of numbers."""
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return 1 - product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def spread(tokens):
    """The smallest angle between two tokens."""
    return min(math.acos(1 - distance(one, other)) for one, other in itertools.combinations(tokens, 2))


def greedy(tokens, count):
    """The rule in plain Python: first the loneliest token, then always the one farthest from all that are kept."""
    everyone = range(len(tokens))
    kept = [max(everyone, key=lambda i: min(distance(tokens[i], tokens[j]) for j in everyone if j != i))]
    while len(kept) < count:
        rest = [i for i in everyone if i not in kept]
        kept.append(max(rest, key=lambda i: min(distance(tokens[i], tokens[j]) for j in kept)))
    return kept


@pytest.fixture(scope="module")
def tiles():
    """Projected tokens of the three tiles of a picture."""
    model = models.teacher()
    pixels = models.processor().image_processor([models.picture(112, 56)], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return list(project_visual_tokens(model.model, encode_tiles(model.model, pixels)))


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75, 0.875])
def test_the_kept_tokens_are_those_of_the_rule_over_the_whole_picture(tiles, ratio):
    everything = torch.cat(tiles)
    expected = greedy(everything.double().tolist(), round(48 * (1 - ratio)))
    kept = DivPrune(ratio).choose(tiles)
    assert torch.equal(torch.cat(kept), everything[sorted(expected)])
    assert [len(tile) for tile in kept] == [sum(index // 16 == tile for index in expected) for tile in range(3)]


def test_greedy_choice_is_at_least_half_as_good_as_the_best_of_all_subsets():
    """The bound of greedy max-min dispersion (Ravi et al. 1994) holds for the angle, which is a metric."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        tokens = torch.randn(9, 5, generator=generator)
        best = max(spread(tokens[list(chosen)].tolist()) for chosen in itertools.combinations(range(9), 4))
        assert spread(tokens[farthest(tokens, 4)].tolist()) >= best / 2 - 1e-6


def test_copies_of_a_token_go_first():
    one, other, third = torch.eye(3)
    assert sorted(farthest(torch.stack([one, other, one, third, other]), 3).tolist()) in ([0, 1, 3], [0, 3, 4])


def test_ratio_0_replies_as_the_teacher():
    teacher, processor = models.teacher(), models.processor()
    replies = generate(teacher, processor, queries(), max_new_tokens=8, pruning=DivPrune(0.0))
    assert replies == generate(teacher, processor, queries(), max_new_tokens=8)
