"""Coarser tokens are merged of finer ones, with one set of weights."""

import pytest
import torch

from fcotvl.compress import compressors
from fcotvl.core.errors import ParamsError


def build(ratio=0.5, tokens=64):
    return compressors.build("nested", width=12, tokens=tokens, ratio=ratio)


def tiles(count=2):
    return torch.randn(count, 64, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.875])
def test_it_starts_equal_to_pooling(ratio):
    pool = compressors.build("pool", width=12, tokens=64, ratio=ratio)
    torch.testing.assert_close(build(ratio)(tiles()), pool(tiles()))


def test_a_quarter_less_is_every_second_pair_merged():
    kept = build(0.25)(tiles())
    first, second, third, fourth = tiles().unflatten(1, (16, 4)).unbind(2)
    expected = torch.stack([first, second, (third + fourth) / 2], dim=2).flatten(1, 2)
    torch.testing.assert_close(kept, expected)


def test_nothing_removed_leaves_the_tokens_as_they_are():
    assert torch.equal(build(0.0)(tiles()), tiles())


def test_a_coarser_rate_reads_the_finer_one():
    """Whatever weights are learned, the last merge at 0.875 has the tokens of 0.75 to read, and that those of 0.5."""
    fine, coarse = build(0.5), build(0.875)
    with torch.no_grad():
        for parameter in coarse.parameters():
            parameter.normal_(std=0.1)
    fine.load_state_dict(coarse.state_dict())
    _, second, third = coarse.merges
    torch.testing.assert_close(third(second(fine(tiles()))), coarse(tiles()))


def test_a_merge_that_no_tile_takes_has_a_gradient_of_zero():
    """Processes that share a step wait for each other's gradients of every parameter."""
    compress = build()
    torch.cat(compress(tiles(), [48, 32])).square().sum().backward()
    assert [bool(merge.weight.grad.any()) for merge in compress.merges] == [True, False, False]


def test_other_numbers_of_tokens_are_refused():
    with pytest.raises(ValueError, match="2 tiles need 64 or 48 or 32 or 16 or 8 tokens each, but tile_tokens is"):
        build()(tiles(), [32, 31])


def test_tiles_must_divide_at_every_rate():
    with pytest.raises(ParamsError, match="'nested': 36 visual tokens do not divide into groups of 8"):
        build(0.5, tokens=36)
