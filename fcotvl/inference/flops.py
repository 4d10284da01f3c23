"""FLOPs of the LLM's layers and of what is before them, counted as ``fcotvl.evaluate.cost`` counts.

A multiplication and its addition are 2.
"""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import InternVLConfig

from fcotvl.compress.config import FcotvlConfig, full_tokens, head_dim, tile_tokens, token_width
from fcotvl.compress.student import build_compressor


def attention_widths(config: InternVLConfig) -> tuple[int, int]:
    """Channels of all query heads, and of all key (or value) heads."""
    text, head = config.text_config, head_dim(config)
    return text.num_attention_heads * head, text.num_key_value_heads * head


def llm_layer(config: InternVLConfig, queries: int, keys: int) -> int:
    """FLOPs of one LLM layer for ``queries`` new tokens that attend to ``keys`` tokens."""
    text = config.text_config
    query_width, key_value_width = attention_widths(config)
    projections = text.hidden_size * (2 * query_width + 2 * key_value_width)
    feed_forward = 3 * text.hidden_size * text.intermediate_size
    attention = 2 * keys * query_width
    return int(2 * queries * (projections + feed_forward + attention))


def compressor(config: InternVLConfig, tokens: int) -> int:
    """FLOPs of compressing one tile to ``tokens``, counted on the meta device; 0 for a teacher."""
    if not isinstance(config, FcotvlConfig):
        return 0
    # Plain attention, since fused kernels are not counted on every device.
    plain = sdpa_kernel(SDPBackend.MATH)
    with torch.device("meta"), plain, FlopCounterMode(display=False) as counter:
        tile = torch.empty(1, full_tokens(config), token_width(config))
        counts = ([tokens],) if len(tile_tokens(config)) > 1 else ()
        build_compressor(config)(tile, *counts)
    return int(counter.get_total_flops())


def projector(config: InternVLConfig, tokens: int) -> int:
    """FLOPs of the projector's two linear maps for ``tokens`` visual tokens."""
    hidden = config.text_config.hidden_size
    return int(2 * tokens * (token_width(config) * hidden + hidden**2))
