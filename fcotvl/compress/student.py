"""The student: InternVL with a compressor between pixel shuffle and projector."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLModel,
)
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fcotvl.compress import compressors
from fcotvl.compress.config import FcotvlConfig, full_tokens, tile_tokens, token_width, train_tokens, visual_tokens
from fcotvl.compress.positions import is_spread, positions, token_widths

Features = Float[Tensor, "tile n width"]
Visual = Float[Tensor, "tile k hidden"] | list[Float[Tensor, "_ hidden"]]
"""Projected visual tokens by tile; a list where tiles have different numbers of them."""
MISSING = "tile_tokens is missing; use the processor that belongs to this model"


def encode_tiles(model: InternVLModel, pixel_values: Float[Tensor, "tile 3 h w"]) -> Features:
    """Return visual tokens after ViT and pixel shuffle, which teacher and student share.

    Where no gradient is wanted, tokens that ``fcotvl.compress.vision_cache`` kept are not computed again.
    """
    cache = getattr(model.vision_tower, "cache", None)
    if cache is None or torch.is_grad_enabled():
        return _encode_tiles(model, pixel_values)
    tokens: Features = cache.encode(partial(_encode_tiles, model), pixel_values)
    return tokens


def _encode_tiles(model: InternVLModel, pixel_values: Float[Tensor, "tile 3 h w"]) -> Features:
    states = model.vision_tower(pixel_values=pixel_values.to(model.dtype)).last_hidden_state
    patches = states[:, 1:]  # without the class token
    rows, columns = (n // p for n, p in zip(pixel_values.shape[2:], model.config.vision_config.patch_size, strict=True))
    return shuffle(model, patches.unflatten(1, (rows, columns)))


def shuffle(model: InternVLModel, grid: Float[Tensor, "tile rows columns channels"]) -> Features:
    """Pixel shuffle: one visual token for each block of patches."""
    shuffled: Tensor = model.pixel_shuffle(grid, scale_factor=model.config.downsample_ratio)
    return shuffled.flatten(1, 2)


def project_visual_tokens(model: InternVLModel, tokens: Features, tile_counts: Sequence[int] | None = None) -> Visual:
    """Compress visual tokens, if the model has a compressor, and project them for the LLM.

    Args:
        model: inner model of a teacher or a student.
        tokens: visual tokens of each tile, after pixel shuffle.
        tile_counts: how many visual tokens each tile becomes, as the processor chose (``tile_tokens``) or training drew
            (``train_tokens``); ignored by models that remove the same share of every tile.

    Raises:
        ValueError: the model needs ``tile_counts``, and they are missing or of another model.
    """
    compressor, varies = getattr(model, "compressor", None), len(tile_tokens(model.config)) > 1
    if compressor is not None and (varies or (tile_counts is not None and train_tokens(model.config))):
        if tile_counts is None:
            raise ValueError(MISSING)
        parts = compressor(tokens, tile_counts)
        joined: Tensor = model.multi_modal_projector(torch.cat(parts))
        return list(joined.split([len(part) for part in parts]))
    if compressor is not None:
        tokens = compressor(tokens)
    projected: Tensor = model.multi_modal_projector(tokens)
    return projected


def prompt_positions(
    config: InternVLConfig,
    input_ids: Int[Tensor, "row seq"],
    attention_mask: Int[Tensor, "row seq"] | None = None,
    tile_counts: Int[Tensor, " tile"] | None = None,
) -> Int[Tensor, "row seq"]:
    """The position of each token of some prompts.

    Args:
        config: of a teacher or student.
        input_ids: with a placeholder for each visual token.
        attention_mask: 1 on tokens, 0 on padding on the left; none: there is no padding.
        tile_counts: as the processor chose (``tile_tokens``), where tiles differ in their number of visual tokens.

    Raises:
        ValueError: they differ, and ``tile_counts`` is missing.
    """
    if tile_counts is None:
        if len(tile_tokens(config)) > 1:
            raise ValueError(MISSING)
        count = visual_tokens(config)
        counts = [count] * (int((input_ids == config.image_token_id).sum()) // count)
    else:
        counts = tile_counts.tolist()
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
    return positions(token_widths(config, input_ids, mask, counts))


def build_compressor(config: FcotvlConfig) -> nn.Module:
    """Build the compressor that the config names, with its initial weights."""
    return compressors.build(
        config.compressor,
        width=token_width(config),
        tokens=full_tokens(config),
        ratio=config.ratio,
        **(config.compressor_options or {}),
    )


class FcotvlModel(InternVLModel):
    """InternVL whose visual tokens pass through a compressor before the projector."""

    config_class = FcotvlConfig

    def __init__(self, config: FcotvlConfig) -> None:
        if is_spread(config) and config.text_config._attn_implementation == "vllm":
            raise ValueError(
                "vLLM counts positions itself: it serves students with distill.positions consecutive, and this one has "
                "spread"
            )
        super().__init__(config)
        self.compressor = build_compressor(config)

    def get_image_features(
        self, pixel_values: Float[Tensor, "tile 3 h w"], tile_tokens: Int[Tensor, " tile"] | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        """Return compressed and projected visual tokens of each tile as ``pooler_output``.

        Args:
            pixel_values: normalised tiles.
            tile_tokens: how many visual tokens each tile becomes, as the processor chose, for an adaptive student.
                ``pooler_output`` is then a list.
        """
        counts = None if tile_tokens is None else tile_tokens.tolist()
        visual = project_visual_tokens(self, encode_tiles(self, pixel_values), counts)
        return BaseModelOutputWithPooling(pooler_output=visual)

    def forward(
        self,
        input_ids: Int[Tensor, "row seq"] | None = None,
        *args: Any,
        pixel_values: Float[Tensor, "tile 3 h w"] | None = None,
        tile_tokens: Int[Tensor, " tile"] | None = None,
        mm_encoder_outputs: Mapping[str, BaseModelOutputWithPooling] | None = None,
        position_ids: Int[Tensor, "row seq"] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run InternVL's ``forward``, with ``tile_tokens`` beside ``pixel_values``.

        Raises:
            ValueError: positions are spread, and neither given nor to be counted in whole prompts.
        """
        if position_ids is None and is_spread(self.config):
            cache = kwargs.get("past_key_values")
            if input_ids is None or (cache is not None and cache.get_seq_length()):
                raise ValueError("this student's positions are spread; give position_ids, or input_ids from the start")
            position_ids = prompt_positions(self.config, input_ids, kwargs.get("attention_mask"), tile_tokens)
        if pixel_values is not None and mm_encoder_outputs is None:
            mm_encoder_outputs = {"image": self.get_image_features(pixel_values, tile_tokens)}
            pixel_values = None
        image = (mm_encoder_outputs or {}).get("image")
        if image is not None and isinstance(image.pooler_output, list):
            joined = torch.cat(image.pooler_output)
            mm_encoder_outputs = {"image": BaseModelOutputWithPooling(pooler_output=joined)}
        return super().forward(
            input_ids,
            *args,
            pixel_values=pixel_values,
            mm_encoder_outputs=mm_encoder_outputs,
            position_ids=position_ids,
            **kwargs,
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
        """Name ``tile_tokens``, since ``generate`` refuses inputs it does not know."""
        if tile_tokens is not None:
            kwargs["tile_tokens"] = tile_tokens
        prepared: dict[str, Any] = super().prepare_inputs_for_generation(*args, **kwargs)
        return prepared

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        """Positions of the prompts; ``generate``, which takes no embeddings for this model, counts on from the last."""
        if is_spread(self.config):
            mask, counts = model_kwargs.get("attention_mask"), model_kwargs.get("tile_tokens")
            return prompt_positions(self.config, inputs_tensor, mask, counts)
        counted: Tensor = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        return counted


# Without these, the LLM's weights in the hub's layout do not match and silently stay random.
register_checkpoint_conversion_mapping("fcotvl", get_checkpoint_conversion_mapping("internvl"), overwrite=True)
register_checkpoint_conversion_mapping(
    "FcotvlModel", get_checkpoint_conversion_mapping("InternVLModel"), overwrite=True
)

AutoModel.register(FcotvlConfig, FcotvlModel)
AutoModelForImageTextToText.register(FcotvlConfig, FcotvlForConditionalGeneration)
AutoModelForMultimodalLM.register(FcotvlConfig, FcotvlForConditionalGeneration)
