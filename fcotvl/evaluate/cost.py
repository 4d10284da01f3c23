"""What a model costs, from its config alone: FLOPs by part, KV-cache bytes and parameters.

A multiplication with its addition counts as 2 FLOPs, matrix products only, and attention as the
full square: what ``torch.utils.flop_counter`` counts. Causal kernels may do half of the square.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import InternVLConfig, InternVLForConditionalGeneration

from fcotvl.compress.config import (
    FcotvlConfig,
    full_tokens,
    tile_ratios,
    tile_tokens,
    token_width,
)
from fcotvl.compress.student import FcotvlForConditionalGeneration, build_compressor
from fcotvl.core.geometry import tile_shares
from fcotvl.inference.fastv import Prune


@dataclass(frozen=True)
class Cost:
    """One prompt about one picture; FLOPs but for ``kv_bytes``."""

    vit: int
    compressor: int
    projector: int
    prefill: int
    """LLM and head up to the first new token."""
    decode: int
    """LLM and head for the second new token; later ones differ by their longer context only."""
    kv_bytes: int
    """Cache after prefill."""

    @property
    def connector(self) -> int:
        """Compressor and projector; pixel shuffle only moves numbers."""
        return self.compressor + self.projector

    @property
    def first_token(self) -> int:
        """All FLOPs up to the first new token."""
        return self.vit + self.connector + self.prefill


def cost(
    config: InternVLConfig,
    *,
    tiles: int | Sequence[int],
    text_tokens: int,
    prune: Prune | None = None,
    bytes_per_number: int = 2,
) -> Cost:
    """The cost of a prompt of ``tiles`` tiles and ``text_tokens`` other tokens.

    Args:
        config: of a teacher or a student.
        tiles: how many, thumbnail included, or a list of the visual tokens of each. Where tiles
            have different numbers of them, the mean budget is what counts without the list.
        text_tokens: everything that is no visual token, the chat template's tokens too.
        prune: visual tokens that are dropped at prefill, as by FastV.
        bytes_per_number: of the KV cache; 2 for bfloat16.
    """
    kinds = _kinds(config, tiles)
    visual = int(sum(tokens * number for tokens, number in kinds.items()))
    whole, layers = visual + text_tokens, config.text_config.num_hidden_layers
    if prune is None:
        lengths = [whole] * layers
    else:
        short = prune.kept(visual) + text_tokens
        lengths = [whole] * prune.layer + [short] * (layers - prune.layer)
    head = 2 * config.text_config.hidden_size * config.text_config.vocab_size
    ranking = _ranking(config, whole) if prune is not None and prune.kind == "fastv" else 0
    _, key_value_width = _attention_widths(config)
    return Cost(
        vit=int(sum(kinds.values())) * _vit(config),
        compressor=int(sum(number * _compressor(config, n) for n, number in kinds.items())),
        projector=visual * 2 * _projector_weights(config),
        prefill=sum(_llm_layer(config, length, length) for length in lengths) + head + ranking,
        decode=sum(_llm_layer(config, 1, length + 1) for length in lengths) + head,
        kv_bytes=sum(lengths) * 2 * key_value_width * bytes_per_number,
    )


def parameters(config: InternVLConfig) -> dict[str, int]:
    """Parameters by part; an embedding that is tied to the head counts once, in the LLM."""
    kind = (
        FcotvlForConditionalGeneration
        if isinstance(config, FcotvlConfig)
        else InternVLForConditionalGeneration
    )
    with torch.device("meta"):
        model = kind(config)
    parts = {
        "vit": "vision_tower",
        "compressor": "compressor",
        "projector": "multi_modal_projector",
    }
    counts = {
        part: sum(p.numel() for p in getattr(model.model, name).parameters())
        for part, name in parts.items()
        if hasattr(model.model, name)
    }
    total = sum(p.numel() for p in model.parameters())
    return {"compressor": 0, **counts, "llm": total - sum(counts.values()), "total": total}


def _kinds(config: InternVLConfig, tiles: int | Sequence[int]) -> Mapping[int, Fraction | int]:
    """How many tiles become so many visual tokens; of a mean budget, not always whole numbers."""
    if not isinstance(tiles, int):
        return Counter(tiles)
    shares = tile_shares(getattr(config, "ratio", 0.0), tile_ratios(config))
    return {
        tokens: tiles * share for tokens, share in zip(tile_tokens(config), shares, strict=True)
    }


def _vit(config: InternVLConfig) -> int:
    """FLOPs of the ViT on one tile, its class token included."""
    vision = config.vision_config
    patch_rows, patch_columns = vision.patch_size
    patches = (vision.image_size[0] // patch_rows) * (vision.image_size[1] // patch_columns)
    width, seq = vision.hidden_size, patches + 1
    embedding = patches * vision.num_channels * patch_rows * patch_columns * width
    layer = seq * (4 * width**2 + 2 * width * vision.intermediate_size) + 2 * seq**2 * width
    return int(2 * (embedding + vision.num_hidden_layers * layer))


def _compressor(config: InternVLConfig, tokens: int) -> int:
    """FLOPs of making one tile ``tokens`` long, counted on the graph without computing it."""
    if not isinstance(config, FcotvlConfig):
        return 0
    # The plain implementation of attention, since fused ones are not counted on every device.
    plain = sdpa_kernel(SDPBackend.MATH)
    with torch.device("meta"), plain, FlopCounterMode(display=False) as counter:
        tile = torch.empty(1, full_tokens(config), token_width(config))
        choice = ([tokens],) if len(tile_tokens(config)) > 1 else ()
        build_compressor(config)(tile, *choice)
    return int(counter.get_total_flops())


def _projector_weights(config: InternVLConfig) -> int:
    """Weights of the projector's two linear maps."""
    hidden = config.text_config.hidden_size
    return int(token_width(config) * hidden + hidden**2)


def _attention_widths(config: InternVLConfig) -> tuple[int, int]:
    """Channels of all query heads, and of all key (or value) heads."""
    text = config.text_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return text.num_attention_heads * head, text.num_key_value_heads * head


def _llm_layer(config: InternVLConfig, queries: int, keys: int) -> int:
    """FLOPs of one LLM layer for so many new tokens over so many cached and new ones."""
    text = config.text_config
    query_width, key_value_width = _attention_widths(config)
    projections = text.hidden_size * (2 * query_width + 2 * key_value_width)
    feed_forward = 3 * text.hidden_size * text.intermediate_size
    attention = 2 * keys * query_width
    return int(2 * queries * (projections + feed_forward + attention))


def _ranking(config: InternVLConfig, keys: int) -> int:
    """FLOPs of the one row of attention by which FastV ranks visual tokens."""
    query_width, _ = _attention_widths(config)
    return int(2 * query_width * (config.text_config.hidden_size + keys))
