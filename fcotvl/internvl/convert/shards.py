"""Sharded safetensors, one tensor at a time, so that memory stays at about one shard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fcotvl.core.errors import CheckpointError

INDEX = "model.safetensors.index.json"


class Reader:
    """The tensors of a folder, whichever shard they are in; one shard is open at a time.

    Raises:
        CheckpointError: a shard is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.where: dict[str, str] = {}
        self.shapes: dict[str, list[int]] = {}
        for shard in self._shards():
            file = self._open(shard)
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                self.where[name] = shard
                self.shapes[name] = file.get_slice(name).get_shape()
        self._current, self._file = "", None

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name."""
        shard = self.where[name]
        if shard != self._current:
            self._current, self._file = shard, self._open(shard)
        read: Tensor = self._file.get_tensor(name)  # type: ignore[attr-defined]
        return read

    def _shards(self) -> list[str]:
        index = self.folder / INDEX
        if index.exists():
            named = sorted(
                set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            )
        else:
            named = sorted(path.name for path in self.folder.glob("*.safetensors"))
        if not named:
            raise CheckpointError(f"{self.folder} holds no safetensors; download the model again")
        if missing := [shard for shard in named if not (self.folder / shard).exists()]:
            raise CheckpointError(
                f"{self.folder} lacks {len(missing)} of {len(named)} shards, the first is "
                f"{missing[0]}; download it again"
            )
        return named

    def _open(self, shard: str) -> Any:
        try:
            return safe_open(self.folder / shard, framework="pt").__enter__()
        except SafetensorError as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"{self.folder / shard} is damaged ({reason}); download it again"
            ) from error


class Writer:
    """Collects tensors and writes a shard whenever ``limit`` bytes are together."""

    def __init__(self, folder: Path, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.limit = folder, limit
        self.waiting: dict[str, Tensor] = {}
        self.written: list[list[str]] = []
        self.total = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Take one tensor."""
        held = sum(part.nbytes for part in self.waiting.values())
        if self.waiting and held + tensor.nbytes > self.limit:
            self._flush()
        self.waiting[name] = tensor
        self.total += tensor.nbytes

    def close(self) -> None:
        """Write the rest, name the shards, and index them if there are several."""
        self._flush()
        count, weights = len(self.written), {}
        for number, names in enumerate(self.written, start=1):
            final = f"model-{number:05d}-of-{count:05d}.safetensors" if count > 1 else ""
            final = final or "model.safetensors"
            self._scratch(number).rename(self.folder / final)
            weights.update(dict.fromkeys(names, final))
        if count > 1:
            index = {"metadata": {"total_size": self.total}, "weight_map": weights}
            (self.folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")

    def _flush(self) -> None:
        self.written.append(list(self.waiting))
        save_file(self.waiting, self._scratch(len(self.written)), metadata={"format": "pt"})
        self.waiting = {}

    def _scratch(self, number: int) -> Path:
        return self.folder / f".part-{number:05d}"
