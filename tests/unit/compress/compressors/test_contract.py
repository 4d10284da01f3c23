"""What every compressor in the folder must do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fcotvl.compress import compressors
from fcotvl.core.errors import ParamsError
from fcotvl.core.geometry import compressed
from tests.support.models import OPTIONS

WIDTH = 24
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


def counts(name, ratio, tokens, count=6):
    """Visual tokens of each tile: equal for all, or in turn those that the compressor offers."""
    few = [compressed(tokens, each) for each in compressors.tile_ratios(name, ratio)]
    # Every third or every second tile loses less, which gives the mean ratio of 0.75 or 0.5.
    return [few[0 if i % (3 if ratio == 0.75 else 2) == 0 else -1] for i in range(count)]


def run(compress, name, ratio, given):
    """The output tokens of each tile."""
    expected = counts(name, ratio, given.shape[1], len(given))
    several = len(compressors.tile_ratios(name, ratio)) > 1
    output = compress(given, expected) if several else compress(given)
    assert [len(tile) for tile in output] == expected
    return torch.cat(list(output)).split(expected)


def tiles(tokens=64, count=6):
    return torch.randn(count, tokens, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_it_keeps_as_many_tokens_as_the_prompt_expects(name, ratio, tokens):
    out = run(build(name, ratio, tokens), name, ratio, tiles(tokens))
    assert {tile.shape[1] for tile in out} == {WIDTH}
    expected = compressors.output_tokens(name, ratio=ratio, tokens=tokens)
    assert expected == compressed(tokens, ratio)
    assert sum(map(len, out)) == 6 * expected


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_tiles_do_not_influence_each_other(name, ratio, tokens):
    compress = build(name, ratio, tokens)
    changed = tiles(tokens)
    changed[1] += 1
    before, after = (run(compress, name, ratio, given) for given in (tiles(tokens), changed))
    for tile in (0, 2, 3, 4, 5):
        torch.testing.assert_close(after[tile], before[tile])
    assert not torch.allclose(after[1], before[1])


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_every_token_and_every_parameter_has_a_gradient(name, ratio, tokens):
    compress = build(name, ratio, tokens)
    drawn = [compressed(tokens, each) for each in compressors.train_ratios(name)]
    given = tiles(tokens, len(drawn) or 6).requires_grad_()
    output = compress(given, drawn) if drawn else run(compress, name, ratio, given)
    # Squares, since the sum of a normalised output may not depend on its input.
    torch.cat(list(output)).square().sum().backward()
    assert (given.grad.abs().sum(dim=-1) > 0).all()
    unused = [n for n, p in compress.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


@pytest.mark.parametrize("name", [name for name in compressors.available() if compressors.train_ratios(name)])
def test_one_set_of_weights_makes_the_tokens_of_every_ratio_that_training_draws(name):
    ratios = compressors.train_ratios(name)
    assert set(ratios) == set(compressors.ratios(name))
    one, given = build(name, ratios[0]), tiles(count=len(ratios))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.normal_(std=0.1)
    together = one(given, [compressed(64, ratio) for ratio in ratios])
    for ratio, tile, output in zip(ratios, given, together, strict=True):
        other = build(name, ratio)
        other.load_state_dict(one.state_dict())
        torch.testing.assert_close(output, other(tile[None])[0])


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_the_seed_alone_decides_its_initial_weights(name, ratio, tokens):
    first, again = build(name, ratio, tokens), build(name, ratio, tokens)
    outputs = [torch.cat(run(one, name, ratio, tiles(tokens))) for one in (first, again)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_its_state_dict_restores_it(name, ratio, tokens):
    first, other = build(name, ratio, tokens), build(name, ratio, tokens, seed=1)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(torch.randn_like(parameter))
    other.load_state_dict(first.state_dict())
    outputs = [torch.cat(run(one, name, ratio, tiles(tokens))) for one in (first, other)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize(("name", "ratio", "tokens"), CASES)
def test_it_is_built_without_memory_and_takes_bfloat16(name, ratio, tokens):
    with torch.device("meta"):
        assert all(p.is_meta for p in build(name, ratio, tokens).parameters())
    out = run(build(name, ratio, tokens).bfloat16(), name, ratio, tiles(tokens).bfloat16())
    assert {tile.dtype for tile in out} == {torch.bfloat16}


def test_each_ratio_of_the_study_is_offered_by_a_compressor_and_identity_changes_nothing():
    offered = {ratio for name in compressors.available() for ratio in compressors.ratios(name)}
    assert offered == {0.0, 0.25, 0.5, 0.75, 0.875}
    assert torch.equal(build("identity", 0.0)(tiles()), tiles())


def test_an_unknown_name_suggests_a_close_one_or_lists_all():
    with pytest.raises(ParamsError, match=r"no compressor 'cmn'; did you mean cnn\?"):
        compressors.build("cmn", width=WIDTH, tokens=64, ratio=0.5)
    with pytest.raises(ParamsError, match="no compressor 'vit'; there are adaptive, cnn"):
        compressors.build("vit", width=WIDTH, tokens=64, ratio=0.5)


def test_a_ratio_that_it_does_not_offer_lists_those_it_does():
    with pytest.raises(ParamsError, match=r"has no ratio 0\.25; choose one of 0\.5, 0\.75, 0\.875"):
        compressors.output_tokens("cnn2d", ratio=0.25, tokens=64)


def test_an_option_that_it_does_not_take_is_named():
    with pytest.raises(ParamsError, match="'pool': got an unexpected keyword argument 'layers'"):
        compressors.build("pool", width=WIDTH, tokens=64, ratio=0.5, layers=2)


def test_names_and_ratios_are_read_without_torch():
    code = (
        "import sys, fcotvl.compress.compressors as c;"
        "print([c.ratios(n) for n in c.available()], 'torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.endswith("False\n")
