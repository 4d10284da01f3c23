"""The training loop of distillation and fine-tuning: small, resumable, on any device.

What happens in a step follows from the seed, the step and the log so far, and from nothing else. So a run that is
stopped and started again ends in the same bytes as one that is not, where the device sums in a fixed order: a CPU with
a fixed number of threads does, and accelerators may with ``launch.deterministic``.
"""

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

from fcotvl.core.config import OptimParams
from fcotvl.core.errors import ParamsError
from fcotvl.core.processes import check_joined, use_full_float32
from fcotvl.train.feeding import reader
from fcotvl.train.layers import prepare_layers, shard_layers
from fcotvl.train.live import live_curve
from fcotvl.train.optim import Muon
from fcotvl.train.packing import Batch
from fcotvl.train.state import Log, StateWriter, load_state, local

logger = logging.getLogger(__name__)

MAX_GRAD_NORM = 1.0
LOG_STEPS = 10
"""Steps between two lines of the log."""
SAVE_SECONDS = 30.0
"""Least time between two saves; at 0, each step is saved."""
SAVE_SHARE = 0.02
"""Largest share of the time that training may wait for saves: they come the rarer, the longer one takes."""
FUSED = {"cuda", "xpu"}
"""Devices for which PyTorch has AdamW as one kernel. It makes no copies of the gradients."""


@runtime_checkable
class Task(Protocol):
    """What is trained on which data; the loop only knows how."""

    @property
    def name(self) -> str:
        """Label of the progress bar."""

    @property
    def objective(self) -> nn.Module:
        """A module from a batch to weighted sums per item: ``loss``, ``weight`` and any others (``cut``: tokens lost).

        Its parameters that require a gradient are trained; ``loss`` must carry one.
        """

    def horizon(self, step: int) -> int:
        """The last step, ``step`` or a later one, whose items follow from the log before ``step``."""

    def sample_items(self, steps: range, log: Log) -> Sequence[Sequence[Any]]:
        """The items of each of ``steps``, counted from 1 and up to a horizon; the same at every call."""

    def collate(self, items: Sequence[Any]) -> Batch:
        """The objective's input for these items."""

    def record(self, step: int, items: Sequence[Any], sums: Mapping[str, list[float]], lr: float) -> Log:
        """Rows for the log from each item's sums."""

    def on_step_end(self, step: int) -> None:
        """Called after each step, on every process."""


def train(
    task: Task,
    optim: OptimParams,
    *,
    seed: int,
    folder: Path,
    dtype: str = "float32",
    strategy: str = "ddp",
    live: Path | None = None,
) -> Log:
    """Train ``task`` for ``optim.steps`` steps and return the log of all of them.

    Args:
        task: objective and data.
        optim: steps, images per step over all processes, and parameters of the optimizer.
        seed: random seed of the run.
        folder: where the state of a stopped run is kept and looked for.
        dtype: ``bfloat16`` computes in mixed precision; trained parameters stay in float32.
        strategy: ``fsdp`` shards the model over the processes, and it stays sharded; ``ddp`` copies it.
        live: folder of the curve that is drawn while training runs; none to do without.

    Raises:
        ParamsError: a loss or a trained weight is not finite, or processes cannot share a batch.
    """
    accelerator = make_accelerator(dtype)
    prepare_layers(task.objective, optim)
    _check_share(task.name, optim.batch_size, accelerator.num_processes)
    sharded = strategy == "fsdp" and accelerator.num_processes > 1
    if sharded:
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        shard_layers(task.objective, mesh, torch.bfloat16 if dtype == "bfloat16" else None)
    trained = {name: p for name, p in task.objective.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError("nothing to train: no parameter of the objective requires a gradient")
    optimizer = _optimizer(trained, optim, fused=accelerator.device.type in FUSED or None)
    objective, prepared = (task.objective, optimizer) if sharded else accelerator.prepare(task.objective, optimizer)
    accelerator.wait_for_everyone()  # so that all find the same state
    done, log = load_state(folder, trained, optimizer)
    scheduler = _scheduler(optimizer, optim, done)  # accelerate would advance it once per process
    saved, interval, cut = time.monotonic(), SAVE_SECONDS, list[float]()
    main = accelerator.is_main_process
    planned = _planned(task, accelerator, range(done + 1, optim.steps + 1), log, workers=optim.workers)
    bar = tqdm(planned, desc=task.name, initial=done, total=optim.steps, disable=None if main else True)
    shard = {"rank": accelerator.process_index, "count": accelerator.num_processes} if sharded else {}
    with live_curve(live if main else None, log) as show, StateWriter(folder, **shard) as writer:
        for step, items, batch in bar:
            lr = float(scheduler.get_last_lr()[0])
            torch.manual_seed(_seed(f"{seed}-{step}-{accelerator.process_index}"))
            sums = _step(
                accelerator, objective, prepared, batch, len(items), micro_batch_tokens=optim.micro_batch_tokens
            )
            cut += filter(None, sums.get("cut", ()))
            loss = sum(sums["loss"]) / sum(sums["weight"])
            if not math.isfinite(loss):
                raise ParamsError(
                    f"{task.name}: the loss of step {step} is {loss}; lower lr ({optim.lr:g}) in the scale file"
                )
            bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            if main and (step in (1, optim.steps) or step % LOG_STEPS == 0):
                logger.info("%s: step %d of %d, loss %.4g, lr %.3g", task.name, step, optim.steps, loss, lr)
            scheduler.step()
            log += (rows := task.record(step, items, sums, lr))
            if main:
                show(rows)
            task.on_step_end(step)
            start = time.monotonic()
            due = main and start - saved >= interval and not (interval and writer.busy)
            if sharded:  # all save the same step
                due = bool(broadcast(torch.tensor(int(due), device=accelerator.device)))
            if due:
                writer.save(trained, optimizer, step, log)
                saved = time.monotonic()
                interval = SAVE_SECONDS and max(SAVE_SECONDS, (saved - start) / SAVE_SHARE)
    accelerator.wait_for_everyone()
    if main:
        _report_cut(task.name, cut, optim, (optim.steps - done) * optim.batch_size)
    if not all(local(parameter).isfinite().all() for parameter in trained.values()):
        raise ParamsError(f"{task.name}: weights are not finite after step {optim.steps}; lower lr ({optim.lr:g})")
    return log


def _check_share(name: str, batch_size: int, processes: int) -> None:
    if batch_size % processes:
        raise ParamsError(
            f"{name}: a batch of {batch_size} does not divide among {processes} processes; change batch_size in the "
            "scale file or the number of processes"
        )


def _report_cut(name: str, cut: Sequence[float], optim: OptimParams, pictures: int) -> None:
    """Say how much ``optim.max_length`` cut off, if anything."""
    if cut:
        logger.warning(
            "%s: max_length (%d) cut %d answer tokens off %d pictures of %d",
            *(name, optim.max_length, sum(cut), len(cut), pictures),
        )


def make_accelerator(dtype: str) -> Accelerator:
    """The processes of this run and their devices, alone or under torchrun.

    Raises:
        ParamsError: the processes do not find each other.
    """
    precision = "bf16" if dtype == "bfloat16" else "no"
    # Without cpu=True, processes on a machine without accelerator would each work alone.
    accelerator = Accelerator(mixed_precision=precision, cpu=not torch.accelerator.is_available())
    # cuDNN's attention can give NaN gradients on H100 and H200 (https://github.com/pytorch/pytorch/issues/196678).
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)
    use_full_float32()
    check_joined(accelerator.num_processes)
    return accelerator


def _planned(
    task: Task, accelerator: Accelerator, steps: range, log: Log, *, workers: int
) -> Iterator[tuple[int, Sequence[Any], Any]]:
    """Each step, its items, and the batch of this process's share of them; ``log`` grows meanwhile."""
    own = slice(accelerator.process_index, None, accelerator.num_processes)
    read = reader(task.collate, workers)
    while steps:
        ahead = steps[: task.horizon(steps[0]) - steps[0] + 1]
        planned = task.sample_items(ahead, log)
        yield from zip(ahead, planned, read([items[own] for items in planned]), strict=True)
        steps = steps[len(ahead) :]


def _step(
    accelerator: Accelerator, objective: nn.Module, optimizer: Any, batch: Any, count: int, *, micro_batch_tokens: int
) -> dict[str, list[float]]:
    """One update from this process's share of a step's ``count`` items; returns the sums of all of them.

    However the share is cut into micro-batches, the gradient is that of the whole step.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    own = range(rank, count, world)
    parts = batch.micro_batches(micro_batch_tokens)
    if world > 1:  # processes meet in every forward pass
        most = accelerator.gather(torch.tensor([len(parts)], device=accelerator.device)).max()
        parts = batch.micro_batches(micro_batch_tokens, int(most))
    sums: dict[str, Tensor] = {}
    for number, part in enumerate(parts, start=1):
        # FSDP reduces gradients after each part all the same: whole ones would not fit.
        with nullcontext() if number == len(parts) else accelerator.no_sync(objective):
            with accelerator.autocast():
                part_sums = objective(batch.select(part).to(accelerator.device))
            accelerator.backward(part_sums["loss"].sum())
        for name, values in part_sums.items():
            table = sums.setdefault(name, torch.zeros(count, device=accelerator.device))
            table[[own[item] for item in part]] = values.detach().float()
    if world > 1:
        sums = {name: accelerator.reduce(table, reduction="sum") for name, table in sums.items()}
    # Processes average their gradients of sums; this makes the average one over all answer tokens.
    scale = world / sums["weight"].sum()
    for parameter in objective.parameters():
        if parameter.grad is not None:
            local(parameter.grad).mul_(scale)
    accelerator.clip_grad_norm_(objective.parameters(), MAX_GRAD_NORM)
    optimizer.step()
    optimizer.zero_grad()
    return {name: values.tolist() for name, values in sums.items()}


def _scheduler(optimizer: torch.optim.Optimizer, optim: OptimParams, done: int) -> LambdaLR:
    """The learning rate's schedule, after ``done`` steps."""
    warmup = math.ceil(optim.warmup * optim.steps)
    if optim.schedule == "constant":
        return get_constant_schedule_with_warmup(optimizer, warmup, last_epoch=done)
    # Steps count from 1, so the rate reaches 0 one step after the last.
    return get_cosine_schedule_with_warmup(optimizer, warmup, optim.steps + 1, last_epoch=done)


def _optimizer(trained: Mapping[str, nn.Parameter], optim: OptimParams, *, fused: bool | None) -> torch.optim.Optimizer:
    """The optimizer of ``optim``: weight decay for matrices, none for biases and norms."""
    optimizer: torch.optim.Optimizer
    if optim.optimizer == "muon":
        optimizer = Muon(trained, lr=optim.lr, weight_decay=optim.weight_decay, fused=fused)
    else:
        matrices = [parameter for parameter in trained.values() if parameter.ndim > 1]
        vectors = [parameter for parameter in trained.values() if parameter.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": optim.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=optim.lr, fused=fused)
    for group in optimizer.param_groups:
        group["initial_lr"] = optim.lr  # a scheduler that resumes asks for it
    return optimizer


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
