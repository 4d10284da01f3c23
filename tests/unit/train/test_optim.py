"""Muon equals torch's, which iterates in bfloat16; kernels count as matrices; tables and vectors are AdamW's."""

import pytest
import torch
from torch import nn

from fcotvl.train.optim import Muon, orthogonalise


def parameters(**shapes):
    torch.manual_seed(0)
    return {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}


def steps(optimizer, trained, count=3):
    for step in range(count):
        for index, parameter in enumerate(trained):
            generator = torch.Generator().manual_seed(100 * step + index)
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in trained]


@pytest.mark.parametrize("fast", [False, True])
def test_orthogonalised_matrices_have_singular_values_near_one(monkeypatch, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast})
    torch.manual_seed(0)
    for shape in ((3, 8, 20), (2, 20, 8), (256, 600), (600, 256)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_large_matrices_are_iterated_in_bfloat16_where_that_is_faster(monkeypatch):
    torch.manual_seed(0)
    for rows, differ in ((255, False), (256, True)):
        found = []
        for capabilities in ({}, {"avx512_bf16": True}, {"amx_bf16": True}, {"avx512_bf16": False, "avx512_f": True}):
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
            torch.manual_seed(0)
            found.append(orthogonalise(torch.randn(rows, 300)))
        exact, *fast, slow = found
        assert torch.equal(exact, slow)
        assert all(one.dtype == torch.float32 for one in found)
        for one in fast:
            assert torch.equal(one, exact) is not differ
            assert (one - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_matrices_move_as_by_torchs_muon(decay):
    ours, theirs, starts = (parameters(tall=(48, 16), wide=(16, 48), square=(24, 24)) for _ in range(3))
    settings = {"lr": 0.02, "weight_decay": decay}
    reference = torch.optim.Muon(theirs.values(), **settings, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    moved = steps(Muon(ours, **settings), list(ours.values()))
    expected = steps(reference, list(theirs.values()))
    for mine, other, start in zip(moved, expected, starts.values(), strict=True):
        # bfloat16 keeps 8 bits: the updates differ by per cent, not by more.
        assert (mine - other).norm() < 0.03 * (other - start).norm()


def test_a_kernel_moves_as_its_matrix_does():
    kernel, matrix = parameters(weight=(6, 4, 3)), parameters(weight=(6, 12))
    (one,), (other,) = (steps(Muon(each, lr=0.1), list(each.values()), 1) for each in (kernel, matrix))
    torch.manual_seed(0)
    assert torch.equal(one.view(6, 12), other)


def test_a_kernel_that_makes_several_tokens_moves_as_a_matrix_for_each():
    kernel = parameters(weight=(12, 4, 3))  # three tokens of four channels
    matrices = {f"token{i}": nn.Parameter(part.clone()) for i, part in enumerate(kernel["weight"].view(3, 4, 12))}
    gradient = torch.randn(12, 4, 3, generator=torch.Generator().manual_seed(1))
    kernel["weight"].grad = gradient.clone()
    for matrix, part in zip(matrices.values(), gradient.view(3, 4, 12), strict=True):
        matrix.grad = part.clone()
    for trained in (kernel, matrices):
        Muon(trained, lr=0.1).step()
    together = torch.stack([matrix.detach() for matrix in matrices.values()])
    assert torch.allclose(kernel["weight"].detach().view(3, 4, 12), together, atol=1e-6)


def test_a_two_dimensional_kernel_is_one_matrix():
    """Patches of three colours have no tokens to tell apart, even where the channels out are a multiple of three."""
    kernel, matrix = parameters(weight=(12, 3, 2, 2)), parameters(weight=(12, 12))
    (one,), (other,) = (steps(Muon(each, lr=0.1), list(each.values()), 1) for each in (kernel, matrix))
    assert torch.equal(one.view(12, 12), other)


def test_vectors_and_tables_move_as_by_adamw():
    shapes = {"embed_tokens.weight": (9, 4), "lm_head.weight": (9, 4), "norm.bias": (4,)}
    ours, theirs = parameters(**shapes), parameters(**shapes)
    *tables, vector = theirs.values()
    groups = [{"params": tables, "weight_decay": 0.1}, {"params": [vector], "weight_decay": 0.0}]
    reference = steps(torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95)), list(theirs.values()))
    for mine, other in zip(steps(Muon(ours, lr=0.01, weight_decay=0.1), list(ours.values())), reference, strict=True):
        assert torch.equal(mine, other)


def test_many_matrices_move_as_one_does(monkeypatch):
    """However many are orthogonalised together."""
    shapes = {f"layer-{i}": (8, 8) for i in range(5)}
    together, apart = parameters(**shapes), parameters(**shapes)
    moved = steps(Muon(together, lr=0.1), list(together.values()))
    monkeypatch.setattr("fcotvl.train.optim._STACKED", 1)
    for mine, other in zip(moved, steps(Muon(apart, lr=0.1), list(apart.values())), strict=True):
        torch.testing.assert_close(mine, other)


def test_a_loaded_state_goes_on_with_the_rates_of_its_groups():
    """As accelerate does with every optimizer, which replaces state and groups."""
    shapes = {"matrix": (4, 4), "bias": (4,)}
    plain, loaded = parameters(**shapes), parameters(**shapes)
    optimizer = Muon(loaded, lr=0.1)
    optimizer.load_state_dict(optimizer.state_dict())
    for each, trained in ((Muon(plain, lr=0.1), plain), (optimizer, loaded)):
        for group in each.param_groups:
            group["lr"] = 0.01
        steps(each, list(trained.values()))
    assert all(torch.equal(plain[name], loaded[name]) for name in shapes)
