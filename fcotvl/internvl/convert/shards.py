"""Sharded safetensors, one tensor at a time, so that memory stays at about one shard."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fcotvl.core.errors import CheckpointError

INDEX = "model.safetensors.index.json"


class ShardReader:
    """The tensors of a folder, whichever shard they are in; one shard is open at a time.

    Raises:
        CheckpointError: a shard is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shard_of: dict[str, str] = {}
        self.shapes: dict[str, list[int]] = {}
        self.sizes: dict[str, int] = {}
        """Bytes of each tensor."""
        for shard in self._shards():
            file = self._open(shard)
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                view = file.get_slice(name)
                self.shard_of[name] = shard
                self.shapes[name] = view.get_shape()
                self.sizes[name] = prod(view.get_shape()) * view[:0].element_size()
        self._current, self._file = "", None

    def tensor(self, name: str) -> Tensor:
        """Read the tensor of that name."""
        shard = self.shard_of[name]
        if shard != self._current:
            self._current, self._file = shard, self._open(shard)
        tensor: Tensor = self._file.get_tensor(name)  # type: ignore[attr-defined]
        return tensor

    def _shards(self) -> list[str]:
        index = self.folder / INDEX
        if index.exists():
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            shards = sorted(set(weight_map.values()))
        else:
            shards = sorted(path.name for path in self.folder.glob("*.safetensors"))
        if not shards:
            raise CheckpointError(f"{self.folder} holds no safetensors; download the model again")
        if missing := [shard for shard in shards if not (self.folder / shard).exists()]:
            raise CheckpointError(
                f"{self.folder} lacks {len(missing)} of {len(shards)} shards, the first is "
                f"{missing[0]}; download it again"
            )
        return shards

    def _open(self, shard: str) -> Any:
        try:
            return safe_open(self.folder / shard, framework="pt").__enter__()
        except SafetensorError as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{self.folder / shard} is damaged ({reason}); download it again") from error


def write_shards(folder: Path, sizes: Mapping[str, int], tensors: Iterable[tuple[str, Tensor]], *, limit: int) -> None:
    """Write named tensors to ``folder`` as shards of up to ``limit`` bytes, and index them.

    Args:
        folder: made if it does not exist.
        sizes: bytes of each tensor, in the order of ``tensors``.
        tensors: names and tensors; each shard is written as soon as it is complete.
        limit: bytes of a shard; a larger tensor gets a shard of its own.
    """
    plan = split_state_dict_into_shards_factory(
        dict(sizes), get_storage_size=int, filename_pattern="model{suffix}.safetensors", max_shard_size=limit
    )
    folder.mkdir(parents=True, exist_ok=True)
    pending: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors:
        shard = plan.tensor_to_filename[name]
        pending[shard][name] = tensor
        if len(pending[shard]) == len(plan.filename_to_tensors[shard]):
            save_file(pending.pop(shard), folder / shard, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
