"""The student's config and the sizes that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, no_type_check

from transformers import AutoConfig, InternVLConfig

from fcotvl.compress import compressors
from fcotvl.core.geometry import compressed, tokens_per_tile

_NOT_INHERITED = (
    *("model_type", "architectures", "transformers_version"),
    *("compressor", "ratio", "compressor_options", "positions"),
)


@no_type_check  # transformers makes this a dataclass of its own kind, which checkers misread
class FcotvlConfig(InternVLConfig):
    """InternVL's config with the student's compressor.

    ``image_seq_length`` is the number of visual tokens per tile **after** compression, as prompts use it, or their mean
    where the number differs between tiles. ``positions`` is ``consecutive`` or ``spread``, see
    ``fcotvl.compress.positions``.
    """

    model_type = "fcotvl"

    compressor: str = "identity"
    ratio: float = 0.0
    compressor_options: dict[str, Any] | None = None
    positions: str = "consecutive"

    @classmethod
    def from_teacher(
        cls,
        config: InternVLConfig,
        *,
        compressor: str,
        ratio: float,
        options: Mapping[str, Any] | None = None,
        positions: str = "consecutive",
    ) -> FcotvlConfig:
        """Derive a student's config from its teacher's.

        Raises:
            ParamsError: the compressor does not offer this ratio for the teacher's tiles.
        """
        settings = {k: v for k, v in config.to_dict().items() if k not in _NOT_INHERITED}
        settings["image_seq_length"] = compressors.output_tokens(compressor, ratio=ratio, tokens=full_tokens(config))
        own = {"compressor": compressor, "ratio": ratio, "compressor_options": dict(options or {})}
        return cls(**settings, **own, positions=positions)


def shuffle_factor(config: InternVLConfig) -> int:
    """Side of the block of patches that pixel shuffle makes one token: 2 in InternVL2."""
    return round(1 / config.downsample_ratio)


def full_tokens(config: InternVLConfig) -> int:
    """Visual tokens of one tile before compression: 64 at tiny, 256 in InternVL2."""
    vision = config.vision_config
    return tokens_per_tile(vision.image_size[0], vision.patch_size[0], shuffle_factor(config))


def visual_tokens(config: InternVLConfig) -> int:
    """Visual tokens of one tile that the LLM of a teacher or student reads, on average."""
    return compressed(full_tokens(config), getattr(config, "ratio", 0.0))


def tile_ratios(config: InternVLConfig) -> tuple[float, ...]:
    """The one or two shares of its visual tokens that a tile may lose, smallest first."""
    if not isinstance(config, FcotvlConfig):
        return (0.0,)
    return compressors.tile_ratios(config.compressor, config.ratio)


def tile_tokens(config: InternVLConfig) -> tuple[int, ...]:
    """The one or two numbers of visual tokens that a tile may become, largest first."""
    return tuple(compressed(full_tokens(config), ratio) for ratio in tile_ratios(config))


def train_tokens(config: InternVLConfig) -> tuple[int, ...]:
    """The numbers of visual tokens of a tile that training draws from for each picture; none to always make the same.

    They are those of a student whose weights serve several ratios.
    """
    if not isinstance(config, FcotvlConfig):
        return ()
    return tuple(compressed(full_tokens(config), ratio) for ratio in compressors.train_ratios(config.compressor))


def token_width(config: InternVLConfig) -> int:
    """Channels of a visual token between pixel shuffle and projector: 4096 in InternVL2."""
    return int(config.vision_config.hidden_size * shuffle_factor(config) ** 2)


def head_dim(config: InternVLConfig) -> int:
    """Channels of an attention head of the LLM."""
    text = config.text_config
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)


AutoConfig.register("fcotvl", FcotvlConfig)
