"""The student: InternVL with a compressor between pixel shuffle and projector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForImageTextToText,
    InternVLForConditionalGeneration,
    InternVLModel,
)
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fcotvl.compress import compressors
from fcotvl.compress.config import FcotvlConfig, full_tokens, tile_tokens, token_width

Features = Float[Tensor, "tile n width"]
Visual = Float[Tensor, "tile k hidden"] | list[Float[Tensor, "_ hidden"]]
"""What the LLM reads of each tile; a list where tiles have different numbers of tokens."""


def encode_tiles(model: InternVLModel, pixel_values: Float[Tensor, "tile 3 h w"]) -> Features:
    """Visual tokens after ViT and pixel shuffle, which teacher and student share."""
    seen = model.vision_tower(pixel_values=pixel_values.to(model.dtype)).last_hidden_state[:, 1:]
    side = int(sqrt(seen.shape[1]))
    grid = seen.reshape(len(seen), side, side, -1)
    shuffled = model.pixel_shuffle(grid, scale_factor=model.config.downsample_ratio)
    return shuffled.reshape(len(seen), -1, shuffled.shape[-1])


def project_visual_tokens(
    model: InternVLModel, tokens: Features, chosen: Sequence[int] | None = None
) -> Visual:
    """What the LLM reads of these visual tokens: compressed if the model does so, and projected.

    Args:
        model: of a teacher or a student.
        tokens: of each tile, after pixel shuffle.
        chosen: how many visual tokens each tile becomes, where the model leaves that to the
            processor (its ``tile_tokens``); other models do not look at it.

    Raises:
        ValueError: the model needs such a choice, and it is missing or of another model.
    """
    compressor = getattr(model, "compressor", None)
    if compressor is not None and len(tile_tokens(model.config)) > 1:
        if chosen is None:
            raise ValueError("tile_tokens is missing; use the processor that belongs to this model")
        parts = compressor(tokens, chosen)
        together: Tensor = model.multi_modal_projector(torch.cat(parts))
        return list(together.split([len(part) for part in parts]))
    if compressor is not None:
        tokens = compressor(tokens)
    projected: Tensor = model.multi_modal_projector(tokens)
    return projected


def build_compressor(config: FcotvlConfig) -> nn.Module:
    """The compressor that the config names, with its own start."""
    return compressors.build(
        config.compressor,
        width=token_width(config),
        tokens=full_tokens(config),
        ratio=config.ratio,
        **(config.compressor_options or {}),
    )


class FcotvlModel(InternVLModel):
    """InternVL whose visual tokens pass a compressor before the projector."""

    config_class = FcotvlConfig

    def __init__(self, config: FcotvlConfig) -> None:
        super().__init__(config)
        self.compressor = build_compressor(config)

    def get_image_features(
        self,
        pixel_values: Float[Tensor, "tile 3 h w"],
        tile_tokens: Int[Tensor, " tile"] | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPooling:
        """Compressed and projected visual tokens of each tile, as ``pooler_output``.

        Args:
            pixel_values: normalised tiles.
            tile_tokens: the processor's choice, for a student that leaves it one: how many visual
                tokens each tile becomes. ``pooler_output`` is then a list.
        """
        chosen = None if tile_tokens is None else tile_tokens.tolist()
        return BaseModelOutputWithPooling(
            pooler_output=project_visual_tokens(self, encode_tiles(self, pixel_values), chosen)
        )

    def forward(
        self,
        *args: Any,
        pixel_values: Float[Tensor, "tile 3 h w"] | None = None,
        tile_tokens: Int[Tensor, " tile"] | None = None,
        mm_encoder_outputs: Mapping[str, BaseModelOutputWithPooling] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As InternVL's, with ``tile_tokens`` beside ``pixel_values``."""
        if pixel_values is not None and mm_encoder_outputs is None:
            mm_encoder_outputs = {"image": self.get_image_features(pixel_values, tile_tokens)}
            pixel_values = None
        image = (mm_encoder_outputs or {}).get("image")
        if image is not None and isinstance(image.pooler_output, list):
            whole = torch.cat(image.pooler_output)
            mm_encoder_outputs = {"image": BaseModelOutputWithPooling(pooler_output=whole)}
        return super().forward(
            *args, pixel_values=pixel_values, mm_encoder_outputs=mm_encoder_outputs, **kwargs
        )

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is getattr(self, "compressor", None) and hasattr(module, "reset_parameters"):
            module.reset_parameters()


class FcotvlForConditionalGeneration(InternVLForConditionalGeneration):
    """The student with its language-model head; ``generate`` works as for InternVL."""

    config_class = FcotvlConfig

    def __init__(self, config: FcotvlConfig) -> None:
        super(InternVLForConditionalGeneration, self).__init__(config)
        self.model = FcotvlModel(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def prepare_inputs_for_generation(
        self, *args: Any, tile_tokens: Int[Tensor, " tile"] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """As InternVL's; it names ``tile_tokens``, since ``generate`` refuses unnamed inputs."""
        if tile_tokens is not None:
            kwargs["tile_tokens"] = tile_tokens
        prepared: dict[str, Any] = super().prepare_inputs_for_generation(*args, **kwargs)
        return prepared


# Without these two, hub-layout weights of the LLM do not match and are left random in silence.
register_checkpoint_conversion_mapping(
    "fcotvl", get_checkpoint_conversion_mapping("internvl"), overwrite=True
)
register_checkpoint_conversion_mapping(
    "FcotvlModel", get_checkpoint_conversion_mapping("InternVLModel"), overwrite=True
)

AutoModel.register(FcotvlConfig, FcotvlModel)
AutoModelForImageTextToText.register(FcotvlConfig, FcotvlForConditionalGeneration)
