"""Queries read the whole tile, in places they can tell apart."""

from __future__ import annotations

import pytest
import torch

from fcotvl.compress import compressors
from fcotvl.core.errors import ParamsError


def test_every_query_sees_every_token_and_its_place():
    torch.manual_seed(0)
    compress = compressors.build("qformer", width=6, tokens=16, ratio=0.75, hidden=16, heads=2)
    with torch.no_grad():
        for parameter in compress.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    tiles = torch.randn(1, 16, 6)
    changed = tiles.clone()
    changed[:, 5] += 1
    assert ((compress(changed) - compress(tiles)).abs().sum(dim=-1) > 1e-4).all()
    assert not torch.allclose(compress(tiles.flip(1)), compress(tiles), atol=1e-4)


def test_heads_must_divide_the_channels():
    with pytest.raises(ParamsError, match="16 channels do not divide among 3 heads"):
        compressors.build("qformer", width=6, tokens=16, ratio=0.75, hidden=16, heads=3)


@pytest.mark.parametrize("options", [{"layers": 10**9}, {"layers": 2.5}, {"heads": "4"}, {"heads": 0}, {"hidden": -8}])
def test_wrong_sizes_are_one_line(options):
    with pytest.raises(ParamsError, match=f"compressor 'qformer': .*{next(iter(options.values()))}"):
        compressors.build("qformer", width=6, tokens=16, ratio=0.75, **options)
