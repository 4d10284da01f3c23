"""What the architecture decides, so that no scale and no mix has to repeat it."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fcotvl.core.geometry import TILE_SIZES, tokens_per_tile
from fcotvl.core.prompts import TEMPLATES
from fcotvl.core.section import Section

MaxTiles = Annotated[int, Field(ge=1, le=256)]
MaxLength = Annotated[int, Field(ge=64, le=10**6)]
MAX_LENGTH = 4096
"""``max_seq_length`` of InternVL2's fine-tuning scripts."""
Architecture = Literal["tiny", "internvl2-1b", "internvl2-2b", "internvl2-8b"]

TINY_MODEL = {"max_tiles": 1, "dtype": "float32"}
"""As the bundled teacher was trained."""
TINY_PROMPTS = TEMPLATES["tiny"] | {"direct_tokens": 24, "cot_tokens": 112, "min_tokens": 0}
"""The bundled teacher's own prompts; its replies are short."""


class TileParams(Section):
    """How an image becomes tiles, and a tile visual tokens."""

    architecture: Architecture
    """As ``fcotvl.internvl.architectures`` knows it. It decides tile size and visual tokens."""
    max_tiles: MaxTiles = 6
    """Largest number of tiles per training image, thumbnail not counted (InternVL2: 6, tiny: 1)."""

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""
        return TILE_SIZES[self.architecture]

    @property
    def tokens(self) -> int:
        """Visual tokens of one tile before compression."""
        return tokens_per_tile(self.tile_size)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_tiny_model(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("architecture") == "tiny":
            return {k: v for k, v in TINY_MODEL.items() if k in cls.model_fields} | values
        return values
