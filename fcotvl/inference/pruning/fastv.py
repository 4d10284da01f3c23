"""FastV: keep the visual tokens that the last token attends to most at layer K-1.

Source: Chen et al. 2024 (arXiv 2403.06764), with the choices of its KV-cached code: the attention of the **last**
token, mean over heads, at layer K-1.
"""

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from fcotvl.inference.flops import attention_widths
from fcotvl.inference.pruned_decoding import Prefill, Pruning, Scores, System


class FastV(Pruning):
    """Ranks visual tokens by attention."""

    def score(self, prefill: Prefill) -> Scores:
        """Mean over heads of the last token's attention at layer K-1.

        Only this one row is computed, from the cached keys, so the layer itself can use SDPA.
        """
        layer = prefill.llm.layers[self.layer - 1]
        attention = layer.self_attn
        last = attention.q_proj(layer.input_layernorm(prefill.states[:, -1:]))
        query = last.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        cosine, sine = prefill.llm.rotary_emb(prefill.states, prefill.position_ids[:, -1:])
        query, _ = apply_rotary_pos_emb(query, query, cosine, sine)
        keys = prefill.cache.layers[self.layer - 1].keys
        keys = keys.repeat_interleave(attention.num_key_value_groups, dim=1)
        weights = query @ keys.mT * attention.scaling
        weights = weights.masked_fill(prefill.attention_mask[:, None, None] == 0, -torch.inf)
        scores: Scores = weights.float().softmax(dim=-1).mean(dim=1)[:, 0]
        return scores

    def scoring_flops(self, config: InternVLConfig, keys: int) -> int:
        """FLOPs of one query and its products with all keys."""
        query_width, _ = attention_widths(config)
        return int(2 * query_width * (config.text_config.hidden_size + keys))


def build(teacher: InternVLForConditionalGeneration, *, ratio: float, layer: int) -> System:
    """Prune the teacher by attention."""
    return System(teacher, FastV(ratio, layer))
