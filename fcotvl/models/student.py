"""The student: InternVL with a compressor between pixel shuffle and projector."""

from __future__ import annotations

from math import sqrt
from typing import Any

from jaxtyping import Float
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

from fcotvl.models import compressors
from fcotvl.models.config import FcotvlConfig, full_tokens, token_width

Features = Float[Tensor, "tile n width"]


def encode_tiles(model: InternVLModel, pixel_values: Float[Tensor, "tile 3 h w"]) -> Features:
    """Visual tokens after ViT and pixel shuffle, which teacher and student share."""
    seen = model.vision_tower(pixel_values=pixel_values.to(model.dtype)).last_hidden_state[:, 1:]
    side = int(sqrt(seen.shape[1]))
    grid = seen.reshape(len(seen), side, side, -1)
    shuffled = model.pixel_shuffle(grid, scale_factor=model.config.downsample_ratio)
    return shuffled.reshape(len(seen), -1, shuffled.shape[-1])


def connect(model: InternVLModel, tokens: Features) -> Float[Tensor, "tile k hidden"]:
    """What the LLM reads of these visual tokens: compressed if the model does so, and projected."""
    compressor = getattr(model, "compressor", None)
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
        self, pixel_values: Float[Tensor, "tile 3 h w"], **_: Any
    ) -> BaseModelOutputWithPooling:
        """Compressed and projected visual tokens of each tile, as ``pooler_output``."""
        return BaseModelOutputWithPooling(
            pooler_output=connect(self, encode_tiles(self, pixel_values))
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


# Without these two, hub-layout weights of the LLM do not match and are left random in silence.
register_checkpoint_conversion_mapping(
    "fcotvl", get_checkpoint_conversion_mapping("internvl"), overwrite=True
)
register_checkpoint_conversion_mapping(
    "FcotvlModel", get_checkpoint_conversion_mapping("InternVLModel"), overwrite=True
)

AutoModel.register(FcotvlConfig, FcotvlModel)
AutoModelForImageTextToText.register(FcotvlConfig, FcotvlForConditionalGeneration)
