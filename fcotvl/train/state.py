"""What a stopped training run needs to go on: tensors and a log, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from fcotvl.core.io import atomic, write_text

Log = list[dict[str, Any]]
"""The loss table: one JSON object per row, in order, each with its ``step``."""
Parameters = Mapping[str, nn.Parameter]

TENSORS = "state.safetensors"
LOG = "log.json"


def save_state(folder: Path, parameters: Parameters, optimizer: torch.optim.Optimizer, step: int, log: Log) -> None:
    """Write parameters, optimizer moments, the number of finished steps and the log.

    The log comes first: one that is ahead of the tensors is cut when they are read.
    """
    tensors = {f"parameter/{name}": parameter.detach() for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for kind, value in optimizer.state[parameter].items():
            tensors[f"{kind}/{name}"] = value
    tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    write_text(folder / LOG, json.dumps(log))
    with atomic(folder / TENSORS) as scratch:
        save_file(tensors, scratch, metadata={"step": str(step)})


def load_state(folder: Path, parameters: Parameters, optimizer: torch.optim.Optimizer) -> tuple[int, Log]:
    """Restore what ``save_state`` wrote; return finished steps and log, (0, []) without a file."""
    if not (folder / TENSORS).is_file():
        return 0, []
    with safe_open(folder / TENSORS, framework="pt") as file:
        step = int(file.metadata()["step"])
        for key in file.keys():  # noqa: SIM118 - not a mapping
            kind, name = key.split("/", 1)
            parameter, value = parameters[name], file.get_tensor(key)
            if kind == "parameter":
                parameter.data.copy_(value)
            else:  # AdamW counts steps in a scalar that stays on the CPU
                device = parameter.device if value.ndim else value.device
                optimizer.state[parameter][kind] = value.to(device)
    log: Log = json.loads((folder / LOG).read_text(encoding="utf-8"))
    return step, [row for row in log if row["step"] <= step]
