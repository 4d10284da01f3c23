"""Muon for matrices and AdamW for other parameters, as one optimizer in float32."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ADAMW_NAMES = ("conv", "embed", "head")
"""Matrices that AdamW updates: their names contain one of these."""


def orthogonalise(update: Float[Tensor, "many rows columns"], steps: int = 5) -> Float[Tensor, "many rows columns"]:
    """Each matrix with its singular values pushed to about one.

    Source: Keller Jordan, Muon (2024): Newton-Schulz iterations of a quintic.
    """
    a, b, c = _QUINTIC
    tall = update.size(1) > update.size(2)
    x = update.mT if tall else update
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class MuonAdamW(torch.optim.Optimizer):
    """Muon (orthogonalised momentum, scaled to the size of an AdamW update) beside AdamW.

    The first parameter group is Muon's. Both keep their moments in ``state``.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], momentum: float = 0.95) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in parameters.items():
            by_muon = parameter.ndim > 1 and not any(part in name for part in _ADAMW_NAMES)
            (matrices if by_muon else others).append(parameter)
        super().__init__([{"params": matrices}], {"lr": 0.0, "momentum": momentum})
        self.adamw = torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0)
        self.adamw.state = self.state
        self.param_groups += self.adamw.param_groups

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Take one step; matrices of one shape are orthogonalised together."""
        muon = self.param_groups[0]
        shapes: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for parameter in muon["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            velocity = state["momentum"].lerp_(parameter.grad, 1 - muon["momentum"])
            update = parameter.grad.lerp(velocity, muon["momentum"])
            shapes[parameter.shape].append((parameter, update))
        for shape, pairs in shapes.items():
            updates = orthogonalise(torch.stack([update for _, update in pairs]))
            scale = -muon["lr"] * 0.2 * max(shape) ** 0.5
            for (parameter, _), update in zip(pairs, updates, strict=True):
                parameter.add_(update, alpha=scale)
        self.adamw.step()


def warmup_stable_decay(step: int, steps: int, peak: float, *, warmup: int = 100) -> float:
    """Learning rate that rises, stays, and falls to a twentieth over the last fifth."""
    decay = max(1, steps // 5)
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, max(0.05, (steps - step) / decay))
    return peak * min(rise, fall)
