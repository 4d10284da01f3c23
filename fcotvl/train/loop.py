"""The training loop of distillation and fine-tuning: small, resumable to the byte, on any device.

What happens in a step follows from the seed, the step and the log so far, and from nothing else. So
a run that is stopped and started again ends in the same bytes as one that is not.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from fcotvl.core.config import OptimParams
from fcotvl.core.errors import ParamsError
from fcotvl.train.packing import Batch
from fcotvl.train.state import Log, load_state, save_state

CLIP = 1.0
"""Largest norm of the gradient."""
SAVE_SECONDS = 30.0
"""A stopped run loses at most this much work and a step."""


@runtime_checkable
class Task(Protocol):
    """What is trained on what; the loop knows how."""

    @property
    def name(self) -> str:
        """Of the progress bar."""

    @property
    def objective(self) -> nn.Module:
        """A module from a batch to weighted sums per item: ``loss``, ``weight`` and any others.

        Its parameters that require a gradient learn; ``loss`` must carry one.
        """

    def draw(self, step: int, log: Log) -> Sequence[Any]:
        """The items of step 1, 2, ..., the same whenever it is asked."""

    def collate(self, items: Sequence[Any]) -> Batch:
        """What the objective takes of these items."""

    def record(
        self, step: int, items: Sequence[Any], sums: Mapping[str, list[float]], lr: float
    ) -> Log:
        """Rows for the log from each item's sums."""

    def finished(self, step: int) -> None:
        """Called after each step, on the main process."""


def train(
    task: Task,
    optim: OptimParams,
    *,
    seed: int,
    folder: Path,
    dtype: str = "float32",
    save_seconds: float | None = None,
) -> Log:
    """Train ``task`` for ``optim.steps`` steps and return the log of all of them.

    Args:
        task: objective and data.
        optim: steps, images per step over all processes, and AdamW's knobs.
        seed: of the run.
        folder: where the state of a stopped run is kept and looked for.
        dtype: ``bfloat16`` computes in mixed precision; what is trained stays in float32.
        save_seconds: time between two saves of the state (default: ``SAVE_SECONDS``).
    """
    accelerator = start(dtype)
    learning = _learning(task.objective)
    optimizer = torch.optim.AdamW(_groups(learning, optim.weight_decay), lr=optim.lr)
    objective, prepared = accelerator.prepare(task.objective, optimizer)
    done, log = load_state(folder, learning, optimizer)
    pause = SAVE_SECONDS if save_seconds is None else save_seconds
    saved = time.monotonic()
    main = accelerator.is_main_process
    steps = range(done + 1, optim.steps + 1)
    bar = tqdm(
        steps, desc=task.name, initial=done, total=optim.steps, disable=None if main else True
    )
    for step in bar:
        lr = learning_rate(step, optim)
        for group in optimizer.param_groups:
            group["lr"] = lr
        torch.manual_seed(_number(f"{seed}-{step}-{accelerator.process_index}"))
        items = task.draw(step, log)
        sums = _step(accelerator, objective, prepared, task, items)
        log += task.record(step, items, sums, lr)
        if main:
            task.finished(step)
            if time.monotonic() - saved >= pause:
                save_state(folder, learning, optimizer, step, log)
                saved = time.monotonic()
    accelerator.wait_for_everyone()
    return log


def learning_rate(step: int, optim: OptimParams) -> float:
    """Linear warm-up over the first steps, then half a cosine down to zero; steps count from 1."""
    warmup = math.ceil(optim.warmup * optim.steps)
    if step <= warmup:
        return optim.lr * step / warmup
    progress = (step - warmup) / (optim.steps - warmup + 1)
    return optim.lr * (1 + math.cos(math.pi * progress)) / 2


def is_main() -> bool:
    """Is this the process that writes? The only one, unless started by torchrun."""
    return os.environ.get("RANK", "0") == "0"


def _step(
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: Any,
    task: Task,
    items: Sequence[Any],
) -> dict[str, list[float]]:
    """One update from this process's share of ``items``; the sums of all items."""
    rank, world = accelerator.process_index, accelerator.num_processes
    own = range(rank, len(items), world)
    batch = task.collate([items[slot] for slot in own]).to(accelerator.device)
    found = objective(batch)
    everyone = _gather(accelerator, found, own, len(items))
    # Processes average their gradients; this makes the average one over all answer tokens.
    loss = found["loss"].sum() * world / everyone["weight"].sum()
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(objective.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return {name: values.tolist() for name, values in everyone.items()}


def _gather(
    accelerator: Accelerator, sums: Mapping[str, Tensor], own: range, count: int
) -> dict[str, Tensor]:
    """The sums of all items, in their order, whichever process computed them."""
    table = torch.zeros(len(sums), count, dtype=torch.float32, device=accelerator.device)
    for row, values in zip(table, sums.values(), strict=True):
        row[list(own)] = values.detach().float()
    if accelerator.num_processes > 1:
        table = accelerator.reduce(table, reduction="sum")
    return dict(zip(sums, table.unbind(), strict=True))


def start(dtype: str) -> Accelerator:
    """The processes of this run and their devices, alone or under torchrun.

    Raises:
        ParamsError: the processes do not find each other.
    """
    precision = "bf16" if dtype == "bfloat16" else "no"
    # Without cpu=True, processes on a machine without accelerator would each work alone.
    accelerator = Accelerator(mixed_precision=precision, cpu=not torch.accelerator.is_available())
    expected = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != expected:
        raise ParamsError(
            f"{accelerator.num_processes} processes work together, but WORLD_SIZE is {expected}; "
            "start with torchrun --nproc-per-node N -m fcotvl ..."
        )
    return accelerator


def _learning(objective: nn.Module) -> dict[str, nn.Parameter]:
    found = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    if not found:
        raise ValueError("nothing learns: no parameter of the objective requires a gradient")
    return found


def _groups(learning: Mapping[str, nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and norms do not."""
    matrices = [parameter for parameter in learning.values() if parameter.ndim > 1]
    vectors = [parameter for parameter in learning.values() if parameter.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
