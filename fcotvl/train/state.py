"""What a stopped training run needs to go on: tensors and a log, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fcotvl.core.io import atomic, write_text

Log = list[dict[str, Any]]
"""The loss table: one JSON object per row, in order, each with its ``step``."""
Parameters = Mapping[str, nn.Parameter]

TENSORS = "state.safetensors"
LOG = "log.json"


def save_state(
    folder: Path, parameters: Parameters, optimizer: torch.optim.Optimizer, step: int, log: Log
) -> None:
    """Write parameters, optimizer moments, the number of finished steps and the log.

    The log comes first: one that is ahead of the tensors is cut when they are read.
    """
    tensors = {f"parameter/{name}": parameter.detach() for name, parameter in parameters.items()}
    tensors |= optimizer_tensors(optimizer, parameters)
    write_text(folder / LOG, json.dumps(log))
    with atomic(folder / TENSORS) as scratch:
        save_file(
            {name: tensor.contiguous().cpu() for name, tensor in tensors.items()},
            scratch,
            metadata={"step": str(step)},
        )


def load_state(
    folder: Path, parameters: Parameters, optimizer: torch.optim.Optimizer
) -> tuple[int, Log]:
    """Restore what ``save_state`` wrote; return finished steps and log, (0, []) without a file."""
    if not (folder / TENSORS).is_file():
        return 0, []
    with safe_open(folder / TENSORS, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        step = int(file.metadata()["step"])
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[f"parameter/{name}"])
    restore_optimizer(optimizer, parameters, tensors)
    log: Log = json.loads((folder / LOG).read_text(encoding="utf-8"))
    return step, [row for row in log if row["step"] <= step]


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Parameters
) -> dict[str, Tensor]:
    """The optimizer's state of each of ``parameters``, as ``<kind>/<name of the parameter>``."""
    return {
        f"{kind}/{name}": value
        for name, parameter in parameters.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Parameters, tensors: Mapping[str, Tensor]
) -> None:
    """Set the optimizer's state of its own ``parameters`` from what ``optimizer_tensors`` gave."""
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for key, value in tensors.items():
        kind, name = key.split("/", 1)
        if kind != "parameter" and id(parameters[name]) in own:
            # AdamW counts steps in a scalar that stays on the CPU.
            device = parameters[name].device if value.ndim else value.device
            optimizer.state[parameters[name]][kind] = value.to(device)
