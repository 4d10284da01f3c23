"""FLOPs of projector and LLM, counted as ``fcotvl.evaluate.cost`` counts: 2 for a multiplication and its addition."""

from transformers import InternVLConfig

from fcotvl.compress.config import head_dim, token_width


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


def projector(config: InternVLConfig, tokens: int) -> int:
    """FLOPs of the projector's two linear maps for ``tokens`` visual tokens."""
    hidden = config.text_config.hidden_size
    return int(2 * tokens * (token_width(config) * hidden + hidden**2))
