"""Visual tokens of a frozen ViT on disk, so that a tile passes it once for all runs of a project."""

import hashlib
import logging
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

import diskcache
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from fcotvl.core.resume import scratch_folder

logger = logging.getLogger(__name__)

Tiles = Float[Tensor, "tile 3 h w"]
Tokens = Float[Tensor, "tile n width"]
CHECKSUM = 4
"""Bytes of the CRC-32 before the tokens of a tile: a damaged entry counts as missing."""


class VisionCache:
    """The tokens of tiles by content: of the pixels, of the ViT's weights, and of how it computes.

    Several processes may use one folder at a time. A folder that cannot be read or written costs time, not the run: a
    warning says so once, and tiles are encoded as without it.

    Args:
        tower: the ViT, whose weights do not change any more.
        folder: where the tokens are kept; made if it is not there.
        gigabytes: most space on disk; beyond it, those that were stored first go.
    """

    def __init__(self, tower: nn.Module, folder: Path, gigabytes: float) -> None:
        digest = hashlib.sha256(f"{torch.__version__} {tower.config}".encode())
        for name, tensor in sorted(tower.state_dict().items()):
            digest.update(name.encode() + _bytes(tensor))
        self._tower = digest.digest()
        self._store: diskcache.Cache | None = None
        try:
            self._store = diskcache.Cache(
                str(folder), size_limit=int(gigabytes * 1e9), eviction_policy="least-recently-stored"
            )
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            self._give_up(folder, error)

    def __deepcopy__(self, memo: object) -> "VisionCache":
        """Copies of the ViT share it."""
        return self

    def encode(self, compute: Callable[[Tiles], Tokens], pixel_values: Tiles) -> Tokens:
        """The tokens of each tile: those on disk, and what ``compute`` makes of the others."""
        keys = [self._key(tile) for tile in pixel_values]
        kept = [self._read(key, pixel_values.device) for key in keys]
        missing = [i for i, tokens in enumerate(kept) if tokens is None]
        if missing:
            for i, tokens in zip(missing, compute(pixel_values[missing]), strict=True):
                kept[i] = tokens
                self._write(keys[i], tokens)
        return torch.stack([tokens for tokens in kept if tokens is not None])

    def _key(self, tile: Float[Tensor, "3 h w"]) -> bytes:
        kind = tile.device.type
        mixed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        digest = hashlib.sha256(self._tower + f"{tuple(tile.shape)} {tile.dtype} {kind} {mixed}".encode())
        digest.update(_bytes(tile))
        return digest.digest()

    def _read(self, key: bytes, device: torch.device) -> Float[Tensor, "n width"] | None:
        if self._store is None:
            return None
        try:
            found = self._store.get(key, tag=True)
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            self._give_up(self._store.directory, error)
            return None
        value, tag = found
        if value is None or zlib.crc32(value[CHECKSUM:]).to_bytes(CHECKSUM) != value[:CHECKSUM]:
            return None
        dtype, *shape = tag.split()
        tokens = torch.frombuffer(bytearray(value), dtype=getattr(torch, dtype), offset=CHECKSUM)
        return tokens.view(*map(int, shape)).to(device)

    def _write(self, key: bytes, tokens: Float[Tensor, "n width"]) -> None:
        if self._store is None:
            return
        value, kind = _bytes(tokens), str(tokens.dtype).removeprefix("torch.")
        tag = " ".join([kind, *map(str, tokens.shape)])
        try:
            self._store.set(key, zlib.crc32(value).to_bytes(CHECKSUM) + value, tag=tag)
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            self._give_up(self._store.directory, error)

    def _give_up(self, folder: object, error: Exception) -> None:
        logger.warning("visual tokens are not kept in %s (%s): every tile passes the ViT", folder, error)
        self._store = None


def keep_visual_tokens(model: InternVLForConditionalGeneration, gigabytes: float) -> None:
    """Let ``encode_tiles`` keep what the frozen ViT of ``model``, and of students made of it, gives.

    Args:
        model: the teacher, before students are made of it.
        gigabytes: most space in the project's scratch folder, as ``launch.vision_cache_gb`` of the scale; 0 for none.
    """
    if gigabytes:
        tower = model.model.vision_tower
        tower.cache = VisionCache(tower, scratch_folder() / "vision", gigabytes)


def _bytes(tensor: Tensor) -> bytes:
    """What is in memory; NumPy lacks bfloat16."""
    flat: Tensor = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return flat.numpy().tobytes()
