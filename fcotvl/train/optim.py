"""Muon for matrices and AdamW for other parameters, as one optimizer."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from math import prod
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

_QUINTIC = (3.4445, -4.7750, 2.0315)
_STACKED = 2**24
"""Elements of the matrices that are orthogonalised together, which bounds the memory of a step."""
_LARGE = 256
"""Rows and columns from which a matrix may be orthogonalised in bfloat16; smaller ones take little time."""


def orthogonalise(update: Float[Tensor, "*many rows columns"], steps: int = 5) -> Float[Tensor, "*many rows columns"]:
    """Each matrix with its singular values pushed to about one.

    Source: Keller Jordan, Muon (2024), https://kellerjordan.github.io/posts/muon/: Newton-Schulz iterations of a
    quintic. ``torch.optim.Muon`` iterates in bfloat16; this does so where a matrix is large and the device multiplies
    bfloat16 faster, so that small models lose nothing by it.
    """
    a, b, c = _QUINTIC
    tall = update.size(-2) > update.size(-1)
    x = update.mT if tall else update
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if min(x.shape[-2:]) >= _LARGE and _bfloat16_is_fast(x.device):
        x = x.bfloat16()
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(update.dtype)


def _bfloat16_is_fast(device: torch.device) -> bool:
    """Whether ``device`` has instructions for it; a CPU without them takes longer than for float32."""
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    supports: Callable[..., bool] = getattr(torch.get_device_module(device), "is_bf16_supported", lambda: False)
    asks = "including_emulation" in signature(supports).parameters
    return bool(supports(including_emulation=False) if asks else supports())


class Muon(torch.optim.Optimizer):
    """Muon (orthogonalised momentum, scaled to the size of an AdamW update) beside AdamW.

    Muon updates matrices, and the kernels of convolutions as matrices ``[out, in * kernel]``. One-dimensional kernels
    that make several tokens of a run, ``out = tokens * in``, are a matrix for each token. The update is scaled by
    0.2 * sqrt(larger side), so that the learning rates of AdamW fit (Moonlight, arXiv 2502.16982, section 2.2). The
    first parameter group is Muon's. Both keep their moments in ``state``.

    Args:
        parameters: what is trained, by name.
        lr: learning rate of all groups; a scheduler may set others.
        momentum: decay of Muon's momentum.
        betas: decays of AdamW's moments.
        weight_decay: decoupled weight decay of matrices; vectors have none.
        adamw_names: matrices whose name contains one of these are left to AdamW.
        fused: run AdamW as one kernel, where the device has it.

    Where parameters are sharded over processes (FSDP), the matrices of one shape are dealt out whole to be
    orthogonalised, and the updates come back as shards.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        lr: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
        adamw_names: Sequence[str] = ("embed", "lm_head"),
        fused: bool | None = None,
    ) -> None:
        matrices: list[nn.Parameter] = []
        tables: list[nn.Parameter] = []
        vectors: list[nn.Parameter] = []
        for name, parameter in parameters.items():
            by_adamw = any(part in name for part in adamw_names)
            (vectors if parameter.ndim < 2 else tables if by_adamw else matrices).append(parameter)  # noqa: PLR2004
        super().__init__([{"params": matrices}], {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        groups = [{"params": tables, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(groups, lr=lr, betas=betas, fused=fused)
        self.param_groups += self.adamw.param_groups

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Take one step; matrices of one shape are orthogonalised together."""
        muon = self.param_groups[0]
        shapes: dict[tuple[int, int, int], list[nn.Parameter]] = defaultdict(list)
        for parameter in muon["params"]:
            if parameter.grad is not None:
                shapes[_matrices(parameter)].append(parameter)
        for shape, parameters in shapes.items():
            count = max(1, _STACKED // prod(shape))
            if isinstance(parameters[0], DTensor):  # so many for each process
                count *= parameters[0].device_mesh.size()
            for start in range(0, len(parameters), count):
                self._update(parameters[start : start + count], shape)
        # Set here, because load_state_dict, which accelerate calls too, replaces both.
        self.adamw.state, self.adamw.param_groups = self.state, self.param_groups[1:]
        self.adamw.step()

    def _update(self, parameters: Sequence[nn.Parameter], shape: tuple[int, int, int]) -> None:
        """Update parameters of so many matrices, rows and columns each."""
        muon, updates = self.param_groups[0], []
        many, rows, columns = shape
        for parameter in parameters:
            state, gradient = self.state[parameter], cast("Tensor", parameter.grad)
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            velocity = state["momentum"].lerp_(gradient, 1 - muon["momentum"])
            updates.append(gradient.lerp(velocity, muon["momentum"]).reshape(many * rows, columns))
        scale = -muon["lr"] * 0.2 * max(rows, columns) ** 0.5
        for parameter, update in zip(parameters, _orthogonalise_shared(torch.stack(updates), many), strict=True):
            parameter.mul_(1 - muon["lr"] * muon["weight_decay"])
            parameter.add_(update.view_as(parameter), alpha=scale)


def _matrices(parameter: nn.Parameter) -> tuple[int, int, int]:
    """How many matrices it is, and their rows and columns."""
    rows, columns = len(parameter), parameter.shape[1:].numel()
    several = parameter.ndim == 3 and rows % parameter.shape[1] == 0  # noqa: PLR2004
    many = rows // parameter.shape[1] if several else 1
    return many, rows // many, columns


def _orthogonalise_shared(updates: Tensor, many: int) -> Tensor:
    """``orthogonalise``, each of ``many`` blocks of rows apart.

    Of matrices that are sharded by rows, each process does some whole ones.
    """
    if not isinstance(updates, DTensor):
        return orthogonalise(updates.unflatten(1, (many, -1))).flatten(1, 2)
    dealt = updates.redistribute(placements=[Shard(0)])
    done = DTensor.from_local(
        _orthogonalise_shared(dealt.to_local(), many),
        dealt.device_mesh,
        dealt.placements,
        shape=dealt.shape,
        stride=dealt.stride(),
    )
    return done.redistribute(placements=updates.placements)
