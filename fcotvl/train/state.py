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

TENSORS = "state.safetensors"
LOG = "log.json"


def save_state(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    step: int,
    log: Log,
) -> None:
    """Write parameters, optimizer moments, the number of finished steps and the log.

    The log comes first: one that is ahead of the tensors is cut when they are read.
    """
    tensors = {f"parameter/{name}": parameter.detach() for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}/{name}"] = value
    kept = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    write_text(folder / LOG, json.dumps(log))
    with atomic(folder / TENSORS) as scratch:
        save_file(kept, scratch, metadata={"step": str(step)})


def load_state(
    folder: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[int, Log]:
    """Restore what ``save_state`` wrote; return finished steps and log, (0, []) without a file."""
    if not (folder / TENSORS).is_file():
        return 0, []
    with safe_open(folder / TENSORS, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - no mapping
            _restore(key, file.get_tensor(key), parameters, optimizer)
        step = int(file.metadata()["step"])
    log: Log = json.loads((folder / LOG).read_text(encoding="utf-8"))
    return step, [row for row in log if row["step"] <= step]


def _restore(
    key: str,
    value: Tensor,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    kind, name = key.split("/", 1)
    parameter = parameters[name]
    if kind == "parameter":
        with torch.no_grad():
            parameter.copy_(value)
    elif value.ndim:
        optimizer.state[parameter][kind] = value.to(parameter.device)
    else:  # AdamW counts steps in a scalar that stays on the CPU
        optimizer.state[parameter][kind] = value
