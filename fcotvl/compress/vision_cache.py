"""Visual tokens of a frozen ViT on disk, so that a tile passes it once for all runs of a project."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from fcotvl.core.resume import scratch_folder
from fcotvl.core.tensor_cache import TensorCache, arithmetic, raw_bytes, weights_digest

Tiles = Float[Tensor, "tile 3 h w"]
Tokens = Float[Tensor, "tile n width"]


class VisionCache:
    """The tokens of tiles by content: of the pixels, of the ViT's weights, of our code, and of how it computes.

    A tile's last bits may depend on which others are encoded with it, as they do without a cache.

    Args:
        model: the weights of its ViT do not change any more.
        folder: where the tokens are kept.
        gigabytes: most space on disk.
    """

    def __init__(self, model: InternVLForConditionalGeneration, folder: Path, gigabytes: float) -> None:
        tower = model.model.vision_tower
        kind = f"{tower.config} {model.config.downsample_ratio}"
        self._tower = weights_digest(tower, kind, [Path(__file__).with_name("student.py")])
        self._kept = TensorCache("visual tokens", folder, gigabytes)

    def encode(self, compute: Callable[[Tiles], Tokens], pixel_values: Tiles) -> Tokens:
        """The tokens of each tile: those on disk, and what ``compute`` makes of the others."""
        keys = [self._key(tile) for tile in pixel_values]
        kept = [self._kept.read(key, pixel_values.device) for key in keys]
        missing = [i for i, found in enumerate(kept) if found is None]
        if missing:
            for i, tokens in zip(missing, compute(pixel_values[missing]), strict=True):
                kept[i] = [tokens]
                self._kept.write(keys[i], [tokens])
        return torch.stack([tokens for found in kept if found is not None for tokens in found])

    def _key(self, tile: Float[Tensor, "3 h w"]) -> bytes:
        digest = hashlib.sha256(self._tower + f"{tuple(tile.shape)} {tile.dtype} {arithmetic(tile.device)}".encode())
        digest.update(raw_bytes(tile))
        return digest.digest()


def keep_visual_tokens(model: InternVLForConditionalGeneration, gigabytes: float) -> None:
    """Let ``encode_tiles`` keep what the frozen ViT of ``model``, and of students made of it, gives.

    Args:
        model: the teacher, before students are made of it.
        gigabytes: most space in the project's scratch folder, as ``launch.vision_cache_gb`` of the scale; 0 for none.
    """
    if gigabytes:
        model.model.vision_tower.cache = VisionCache(model, scratch_folder() / "vision", gigabytes)
