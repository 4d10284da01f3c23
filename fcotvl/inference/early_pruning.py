"""Fewer visual tokens before the LLM reads any: prompts as short as a student's, with consecutive positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from transformers import InternVLConfig, InternVLModel

from fcotvl.compress.student import Features, encode_tiles

Tokens = Float[Tensor, "_ hidden"]
"""Projected visual tokens of a tile; tiles keep different numbers."""


@dataclass(frozen=True)
class EarlyPruning:
    """What becomes of a picture's visual tokens; a method overrides the step at which it removes some.

    As it stands, it removes none.
    """

    ratio: float
    """Share of the visual tokens **removed**."""
    encodes: ClassVar[bool] = False
    """``encode`` is a method's own, so that its tiles cannot be shared with the teacher."""

    def encode(self, model: InternVLModel, pixel_values: Float[Tensor, "tile 3 h w"]) -> Features:
        """Visual tokens of tiles before the projector."""
        return encode_tiles(model, pixel_values)

    def choose(self, tiles: Sequence[Tokens]) -> list[Tokens]:
        """What the LLM reads of one picture, given the projected tokens of each of its tiles."""
        return list(tiles)

    def kept(self, tokens: int) -> int:
        """Number of visual tokens that the LLM reads of a picture of ``tokens``."""
        return round(tokens * (1 - self.ratio))

    def tile_size(self, config: InternVLConfig) -> tuple[int, int]:
        """Height and width in pixels of what the ViT sees of a tile."""
        height, width = config.vision_config.image_size
        return height, width

    def projected(self, tokens: int) -> int:
        """Number of visual tokens that pass the projector of a picture of ``tokens``."""
        return self.kept(tokens) if self.encodes else tokens

    def choosing_flops(self, config: InternVLConfig, tiles: int) -> int:  # noqa: ARG002
        """FLOPs of choosing tokens of a picture of ``tiles``; 0 unless overridden."""
        return 0
