"""Area-weighted averages, by hand."""

from __future__ import annotations

import pytest
import torch

from fcotvl.compress import compressors
from fcotvl.compress.compressors._area_weights import area_weights


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.25, [0.25, 1.5, 2.75, 4.25, 5.5, 6.75]), (0.5, [0.5, 2.5, 4.5, 6.5]), (0.75, [1.5, 5.5]), (0.875, [3.5])],
)
def test_the_tokens_0_to_7_are_averaged(ratio, expected):
    pool = compressors.build("pool", width=1, tokens=8, ratio=ratio)
    assert pool(torch.arange(8.0)[None, :, None])[0, :, 0].tolist() == expected


@pytest.mark.parametrize(("g", "m"), [(2, 1), (4, 3), (5, 2), (8, 1)])
def test_all_tokens_have_equal_weight(g, m):
    weights = area_weights(g, m)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(m))
    torch.testing.assert_close(weights.sum(dim=0), torch.full((g,), m / g))
