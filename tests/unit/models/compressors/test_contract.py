"""What every compressor in the folder must do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fcotvl.errors import ParamsError
from fcotvl.geometry import compressed
from fcotvl.models import compressors

WIDTH = 24
OPTIONS = {"qformer": {"hidden": 32, "heads": 4}}
CASES = [
    (name, ratio, tokens)
    for name in compressors.available()
    for ratio in compressors.ratios(name)
    for tokens in (64, 256)
]


def build(name, ratio, tokens=64, seed=0):
    torch.manual_seed(seed)
    options = OPTIONS.get(name, {})
    return compressors.build(name, width=WIDTH, tokens=tokens, ratio=ratio, **options)


def tiles(tokens=64, count=3):
    return torch.randn(count, tokens, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_it_keeps_as_many_tokens_as_the_prompt_expects(name, ratio, tokens):
    out = build(name, ratio, tokens)(tiles(tokens))
    assert out.shape == (3, compressed(tokens, ratio), WIDTH)
    assert compressors.check(name, ratio=ratio, tokens=tokens) == out.shape[1]


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_no_tile_sees_another(name, ratio, tokens):
    compress = build(name, ratio, tokens)
    changed = tiles(tokens)
    changed[1] += 1
    before, after = compress(tiles(tokens)), compress(changed)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
    assert not torch.allclose(after[1], before[1])


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_every_token_counts_and_every_parameter_learns(name, ratio, tokens):
    compress = build(name, ratio, tokens)
    given = tiles(tokens).requires_grad_()
    # Squares, since the sum of a normalised output may not depend on its input.
    compress(given).square().sum().backward()
    assert (given.grad.abs().sum(dim=-1) > 0).all()
    unused = [n for n, p in compress.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_the_seed_alone_decides_its_start(name, ratio, tokens):
    first, again = build(name, ratio, tokens), build(name, ratio, tokens)
    assert torch.equal(first(tiles(tokens)), again(tiles(tokens)))


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_its_state_says_all(name, ratio, tokens):
    first, other = build(name, ratio, tokens), build(name, ratio, tokens, seed=1)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(torch.randn_like(parameter))
    other.load_state_dict(first.state_dict())
    assert torch.equal(first(tiles(tokens)), other(tiles(tokens)))


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_it_is_built_without_memory_and_takes_bfloat16(name, ratio, tokens):
    with torch.device("meta"):
        assert all(p.is_meta for p in build(name, ratio, tokens).parameters())
    out = build(name, ratio, tokens).bfloat16()(tiles(tokens).bfloat16())
    assert out.dtype == torch.bfloat16


def test_each_ratio_of_the_study_is_offered_by_a_compressor_and_identity_changes_nothing():
    offered = {ratio for name in compressors.available() for ratio in compressors.ratios(name)}
    assert offered == {0.0, 0.25, 0.5, 0.75, 0.875}
    assert torch.equal(build("identity", 0.0)(tiles()), tiles())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ParamsError, match="no compressor 'cmn'; there are cnn, cnn-default"):
        compressors.build("cmn", width=WIDTH, tokens=64, ratio=0.5)


def test_a_ratio_that_it_does_not_offer_lists_those_it_does():
    with pytest.raises(ParamsError, match=r"has no ratio 0\.25; choose one of 0\.5, 0\.75, 0\.875"):
        compressors.check("cnn2d", ratio=0.25, tokens=64)


def test_an_option_that_it_does_not_take_is_named():
    with pytest.raises(ParamsError, match="'pool': got an unexpected keyword argument 'layers'"):
        compressors.build("pool", width=WIDTH, tokens=64, ratio=0.5, layers=2)


def test_names_and_ratios_are_read_without_torch():
    code = (
        "import sys, fcotvl.models.compressors as c;"
        "print([c.ratios(n) for n in c.available()], 'torch' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.endswith("False\n")
