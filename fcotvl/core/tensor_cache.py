"""Tensors on disk by what they are computed from, for all processes and runs of a project."""

import hashlib
import logging
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import diskcache
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fcotvl.core.resume import fingerprint

logger = logging.getLogger(__name__)

CHECKSUM = 4
"""Bytes of the CRC-32 before an entry: a damaged one counts as missing."""


class TensorCache:
    """Lists of tensors by key, with the bits that were stored.

    Several processes may use one folder at a time. A folder that cannot be read or written costs time, not the run: a
    warning says so once, and nothing is found there any more.

    Args:
        name: what is kept, for the warning.
        folder: where it is kept; made if it is not there.
        gigabytes: most space on disk; beyond it, what was stored first goes.
    """

    def __init__(self, name: str, folder: Path, gigabytes: float) -> None:
        self._name = name
        self._store: diskcache.Cache | None = None
        try:
            self._store = diskcache.Cache(
                str(folder), size_limit=int(gigabytes * 1e9), eviction_policy="least-recently-stored"
            )
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            self._give_up(folder, error)

    def __deepcopy__(self, memo: object) -> "TensorCache":
        """Copies of a model share it."""
        return self

    def read(self, key: bytes, device: torch.device) -> list[Tensor] | None:
        """The tensors of ``key`` on ``device``; None where there are none, or no whole ones."""
        if self._store is None:
            return None
        try:
            value = self._store.get(key)
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            self._give_up(self._store.directory, error)
            return None
        if value is None or zlib.crc32(value[CHECKSUM:]).to_bytes(CHECKSUM) != value[:CHECKSUM]:
            return None
        try:
            found = safetensors.torch.load(value[CHECKSUM:])
        except SafetensorError:  # of a version of this project that stored them otherwise
            return None
        return [found[str(place)].to(device) for place in range(len(found))]

    def write(self, key: bytes, tensors: Sequence[Tensor]) -> None:
        """Keep ``tensors`` under ``key``."""
        if self._store is None:
            return
        value = safetensors.torch.save({str(i): t.detach().cpu().contiguous() for i, t in enumerate(tensors)})
        try:
            self._store.set(key, zlib.crc32(value).to_bytes(CHECKSUM) + value)
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            self._give_up(self._store.directory, error)

    def _give_up(self, folder: object, error: Exception) -> None:
        logger.warning(
            "%s are not kept in %s (%s); they are computed wherever they are needed", self._name, folder, error
        )
        self._store = None


def weights_digest(module: nn.Module, kind: object, code: Iterable[Path]) -> bytes:
    """A digest of all that ``module``, of this ``kind``, computes with: its weights, PyTorch's version and our code.

    Args:
        module: its weights do not change any more.
        kind: its config, and what else decides how it computes.
        code: files and folders whose functions compute what is kept.
    """
    digest = hashlib.sha256(f"{torch.__version__} {kind} {fingerprint(code, None)}".encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + raw_bytes(tensor))
    return digest.digest()


def arithmetic(device: torch.device) -> str:
    """How results are computed there: on what device, by how many threads, in what precision by autocast."""
    kind = device.type
    if kind == "cpu":
        name = f"{torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"
    else:
        name = getattr(torch.get_device_module(device), "get_device_name", str)(device)
    mixed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    return f"{kind} {name} {mixed}"


def raw_bytes(tensor: Tensor) -> bytes:
    """What is in memory; NumPy lacks bfloat16."""
    flat: Tensor = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return flat.numpy().tobytes()
