"""What a stopped training run needs to go on: tensors and a log, without pickle.

Where parameters are sharded, each process writes a file of its own, and a state is there once all of its files are. So
processes need not meet to write it, and any number of them can read it. ``torch.distributed.checkpoint`` has processes
meet to write, in a thread beside the one in which they train, and either pickles or cannot say of which step a file is.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from fcotvl.core.io import atomic, remove_dead, write_text
from fcotvl.core.processes import is_main

Log = list[dict[str, Any]]
"""The loss table: one JSON object per row, in order, each with its ``step``."""
Parameters = Mapping[str, nn.Parameter]

TENSORS = "state.safetensors"
SHARD = re.compile(r"state-(\d+)-(\d+)-of-(\d+)\.safetensors")
"""Step, number of the process, and how many processes write a shard of it each."""
LOG = "log.json"


class StateWriter:
    """Writes states in a thread while training goes on, which waits for copies in the CPU's memory alone.

    As a context it ends when the last state is written, or raises what prevented that.

    Args:
        folder: where states are kept; an older one goes when a newer one is whole.
        rank: number of this process among those that write.
        count: how many processes write a shard each.
    """

    def __init__(self, folder: Path, *, rank: int = 0, count: int = 1) -> None:
        self._folder, self._shard = folder, (rank, count)
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def __enter__(self) -> "StateWriter":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._thread.shutdown()
        if error is None:
            self.wait()

    @property
    def busy(self) -> bool:
        """Is a state being written? Raises what prevented that of the last one."""
        if self._pending and self._pending.done():
            self.wait()
        return self._pending is not None

    def save(self, parameters: Parameters, optimizer: torch.optim.Optimizer, step: int, log: Log) -> None:
        """Begin to write parameters, optimizer moments, the number of finished steps and the log."""
        self.wait()
        tensors = _copies(parameters, optimizer)
        self._pending = self._thread.submit(_write, self._folder, tensors, step, log.copy(), self._shard)

    def wait(self) -> None:
        """Wait for the last state. Raises what prevented its writing."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()


def save_state(folder: Path, parameters: Parameters, optimizer: torch.optim.Optimizer, step: int, log: Log) -> None:
    """Write parameters, optimizer moments, the number of finished steps and the log."""
    with StateWriter(folder) as writer:
        writer.save(parameters, optimizer, step, log)


def load_state(folder: Path, parameters: Parameters, optimizer: torch.optim.Optimizer) -> tuple[int, Log]:
    """Restore the newest state, however it is sharded; return finished steps and log, (0, []) without one."""
    states = _whole_states(folder)
    step = max(states, default=0)
    if is_main():  # a shard that a stopped run left alone must not complete a state of this run
        _remove(folder, states.get(step, []))
        remove_dead(folder, ".state")
    if not step:
        return 0, []
    fused = {p for group in optimizer.param_groups if group.get("fused") for p in group["params"]}
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, framework="pt")) for path in states[step]]
        for key in files[0].keys():  # noqa: SIM118 - not a mapping
            kind, name = key.split("/", 1)
            parameter = parameters[name]
            if kind == "parameter":
                _fill(parameter, files, key)
            elif files[0].get_slice(key).get_shape():
                optimizer.state[parameter][kind] = moment = torch.zeros_like(parameter, requires_grad=False)
                _fill(moment, files, key)
            else:  # AdamW counts steps in a scalar, which stays on the CPU unless its kernel reads it
                count = files[0].get_tensor(key)
                optimizer.state[parameter][kind] = count.to(parameter.device) if parameter in fused else count
    log: Log = json.loads((folder / LOG).read_text(encoding="utf-8"))
    return step, [row for row in log if row["step"] <= step]


def local(tensor: Tensor) -> Tensor:
    """The shard of ``tensor`` that this process holds; all of one that is not sharded. Both share their memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _copies(parameters: Parameters, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What this process holds, copied: training goes on in place."""
    tensors: dict[str, Tensor] = {f"parameter/{name}": parameter for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for kind, value in optimizer.state[parameter].items():
            tensors[f"{kind}/{name}"] = value
    return {
        name: local(tensor.detach()).to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _write(folder: Path, tensors: Mapping[str, Tensor], step: int, log: Log, shard: tuple[int, int]) -> None:
    """The log comes first: one that is ahead of the tensors is cut when they are read."""
    rank, count = shard
    if rank == 0:
        write_text(folder / LOG, json.dumps(log))
    files = [folder / (TENSORS if count == 1 else f"state-{step}-{i}-of-{count}.safetensors") for i in range(count)]
    with atomic(files[rank]) as scratch:
        save_file(dict(tensors), scratch, metadata={"step": str(step)})
    if all(file.is_file() for file in files):  # as the last process to write finds
        _remove(folder, files, before=step)


def _whole_states(folder: Path) -> dict[int, list[Path]]:
    """The files of each state of which no shard is missing, in their order, by its step."""
    shards: dict[tuple[int, int], dict[int, Path]] = defaultdict(dict)
    for path in folder.glob("state-*.safetensors"):
        if match := SHARD.fullmatch(path.name):
            step, rank, count = map(int, match.groups())
            shards[step, count][rank] = path
    states = {step: [of[rank] for rank in range(count)] for (step, count), of in shards.items() if len(of) == count}
    with suppress(FileNotFoundError), safe_open(folder / TENSORS, framework="pt") as file:
        states[int(file.metadata()["step"])] = [folder / TENSORS]
    return states


def _remove(folder: Path, keep: Sequence[Path], before: int | None = None) -> None:
    """Remove other states than ``keep``; with ``before``, of shards only those of earlier steps."""
    for file in {*folder.glob("state*.safetensors")} - {*keep}:
        shard = SHARD.fullmatch(file.name)
        if not shard or before is None or int(shard[1]) < before:
            file.unlink(missing_ok=True)


def _fill(tensor: Tensor, files: Sequence[Any], key: str) -> None:
    """Copy the rows that this process holds of ``tensor`` from ``files``, which hold all of them in order."""
    target = local(tensor.detach())
    if not target.ndim:
        target.copy_(files[0].get_tensor(key))
        return
    start = 0
    if isinstance(tensor, DTensor):  # cut as by torch.chunk
        mesh = tensor.device_mesh
        start = mesh.get_local_rank() * -(-len(tensor) // mesh.size())
    before = 0
    for file in files:
        rows = file.get_slice(key)
        first, last = before, before + rows.get_shape()[0]
        begin, end = max(start, first), min(start + len(target), last)
        if begin < end:
            target[begin - start : end - start].copy_(rows[begin - first : end - first])
        before = last
