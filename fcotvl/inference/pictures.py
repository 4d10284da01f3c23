"""Pictures as visual tokens of the ViT, which teacher and students share: encoded once for all of them."""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import NamedTuple

import torch
from PIL import Image
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.processor import FcotvlImageProcessor
from fcotvl.compress.student import Features, encode_tiles
from fcotvl.inference.early_pruning import EarlyPruning

TILE_BATCH = 32
"""Number of tiles that pass through the ViT together."""
MAX_BYTES = 4 * 2**30
"""Memory for the visual tokens that are kept: those of some 150 pictures of 13 tiles at InternVL2-2B."""


class Encoded(NamedTuple):
    """A picture after ViT and pixel shuffle."""

    tokens: Features
    tile_tokens: list[int] | None
    """How many visual tokens each tile becomes, where the student chooses that tile by tile."""


class PictureEncoder:
    """Encodes pictures and keeps them while they fit, for systems that have the same frozen ViT.

    What a pruning method encodes in its own way is kept apart.

    Args:
        max_bytes: memory for what is kept; further pictures are encoded at every call.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._left = max_bytes
        self._kept: dict[tuple[object, ...], Encoded] = {}

    def encode(
        self,
        model: InternVLForConditionalGeneration,
        image_processor: FcotvlImageProcessor,
        pictures: Mapping[str, Callable[[], Image.Image]],
        max_tiles: int | None,
        pruning: EarlyPruning | None = None,
    ) -> list[Encoded]:
        """Each of ``pictures``, which are given by id with a function that opens them."""
        own = pruning if pruning and pruning.encodes else None
        settings = (max_tiles, image_processor.threshold, own)
        new = [name for name in pictures if (name, *settings) not in self._kept]
        found = dict(
            zip(new, self._encode(model, image_processor, [pictures[n]() for n in new], max_tiles, own), strict=True)
        )
        for name, encoded in found.items():
            size = encoded.tokens.nbytes
            if size <= self._left:
                self._kept[name, *settings] = encoded._replace(tokens=encoded.tokens.clone())
                self._left -= size
        return [found[name] if name in found else self._kept[name, *settings] for name in pictures]

    def _encode(
        self,
        model: InternVLForConditionalGeneration,
        image_processor: FcotvlImageProcessor,
        pictures: list[Image.Image],
        max_tiles: int | None,
        pruning: EarlyPruning | None,
    ) -> list[Encoded]:
        if not pictures:
            return []
        vision = image_processor(pictures, max_tiles=max_tiles, return_tensors="pt")
        parts = vision["pixel_values"].split(TILE_BATCH)
        encode = pruning.encode if pruning else encode_tiles
        tokens = torch.cat([encode(model.model, part.to(model.device)) for part in parts])
        counts = vision["num_tiles"]
        if "tile_tokens" not in vision:
            return [Encoded(own, None) for own in tokens.split(counts)]
        chosen = iter(vision["tile_tokens"].tolist())
        return [Encoded(own, list(islice(chosen, len(own)))) for own in tokens.split(counts)]
