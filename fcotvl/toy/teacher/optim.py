"""Muon for matrices and AdamW for the rest, in float32, behind one small face."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

MATRIX = 2
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(
    update: Float[Tensor, "many rows columns"], steps: int = 5
) -> Float[Tensor, "many rows columns"]:
    """Each matrix with its singular values pushed to about one.

    Source: Keller Jordan, Muon (2024): Newton-Schulz iterations of a quintic.
    """
    a, b, c = _QUINTIC
    flat = update.size(1) > update.size(2)
    x = update.mT if flat else update
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if flat else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, scaled to the size of an AdamW update."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Take one step; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["momentum"] = torch.zeros_like(param)
                velocity = state["momentum"].lerp_(param.grad, 1 - group["momentum"])
                shapes[param.shape].append((param, param.grad.lerp(velocity, group["momentum"])))
            for shape, pairs in shapes.items():
                updates = orthogonalise(torch.stack([update for _, update in pairs]))
                scale = -group["lr"] * 0.2 * max(shape) ** 0.5
                for (param, _), update in zip(pairs, updates, strict=True):
                    param.add_(update, alpha=scale)


class Optimizers:
    """Muon and AdamW as one: ``step(lr)`` clips, steps both and clears the gradients."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        matrices: dict[int, nn.Parameter] = {}
        others: dict[int, nn.Parameter] = {}
        for module in modules:
            for name, param in module.named_parameters():
                if param.requires_grad:
                    hidden = (
                        param.ndim > 1
                        and "conv" not in name
                        and "embed" not in name
                        and "head" not in name
                    )
                    (matrices if hidden else others)[id(param)] = param
        self.params = [*matrices.values(), *others.values()]
        self.optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            self.optimizers.append(Muon(matrices.values(), lr=0.0))
        if others:
            self.optimizers.append(
                torch.optim.AdamW(others.values(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.0)
            )

    def step(self, lr: float) -> float:
        """Take one step and return the norm of the gradient before clipping."""
        norm = nn.utils.clip_grad_norm_(self.params, 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(norm)


def warm_decay(step: int, steps: int, peak: float, *, warmup: int = 100) -> float:
    """Learning rate that rises, stays, and falls to a twentieth over the last fifth."""
    tail = max(1, steps // 5)
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, max(0.05, (steps - step) / tail))
    return peak * min(rise, fall)
