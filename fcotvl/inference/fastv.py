"""Training-free pruning of visual tokens at prefill: FastV, and dropping at random as its control.

Source: Chen et al. 2024 (arXiv 2403.06764), with the choices of its KV-cached code: the attention
of the **last** token at layer K-1, mean over heads, ranks the visual tokens; the worst are dropped
from layer K on; the others keep their original positions. Layers before K keep the whole cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import InternVLForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from fcotvl.compress.student import Visual
from fcotvl.inference.decoding import Decoder, Ids, Logits, Mask, embed, positions

States = Float[Tensor, "row seq hidden"]
Scores = Float[Tensor, "row key"]
Columns = Int[Tensor, "_"]
"""Kept columns of one row; rows keep different numbers."""


@dataclass(frozen=True)
class Prune:
    """How many visual tokens are dropped, where, and by which rule."""

    kind: Literal["fastv", "random"]
    ratio: float
    """Share of the visual tokens **removed**, as for compressors."""
    layer: int = 2
    """K: the first layer (from 0) that sees the shorter sequence."""
    seed: int = 0
    """Of ``random``."""

    def kept(self, tokens: int) -> int:
        """How many of so many visual tokens stay."""
        return round(tokens * (1 - self.ratio))


class PrunedDecoder(Decoder):
    """Decodes like ``Decoder``, but from layer K on without most of the visual tokens.

    Args:
        model: teacher or student.
        prune: what to drop.
        names: one per row; ``random`` depends on it and on nothing else of the batch.

    Raises:
        ValueError: the model has no layer before or at K.
    """

    def __init__(
        self, model: InternVLForConditionalGeneration, prune: Prune, names: Sequence[str]
    ) -> None:
        super().__init__(model)
        self.llm = model.model.language_model
        if not 1 <= prune.layer < len(self.llm.layers):
            last = len(self.llm.layers) - 1
            raise ValueError(f"cannot prune before layer {prune.layer}; expected 1 to {last}")
        self.prune = prune
        self.names = names
        self.short_mask = self.attention_mask
        self.kept: list[Columns] = []
        """Of each row of the last prefill, which columns of its batch were kept."""

    def prefill(self, input_ids: Ids, attention_mask: Mask, features: Visual) -> Logits:
        """Read the prompts, prune once, and return the logits of each row's first new token."""
        at, layer = positions(attention_mask), self.prune.layer
        states = self._layers(
            embed(self.model, input_ids, features), at, attention_mask, range(layer - 1)
        )
        entering = states
        states = self._layers(states, at, attention_mask, range(layer - 1, layer))
        if self.prune.kind == "fastv":
            scores = self._last_token_attention(entering, at, attention_mask)
        else:
            scores = self._random_scores(attention_mask)
        self.kept = self._choose(
            scores, input_ids == self.model.config.image_token_id, attention_mask
        )
        columns, self.short_mask = _left_padded(self.kept)
        states = states.gather(1, columns[..., None].expand(-1, -1, states.shape[-1]))
        self.attention_mask = attention_mask
        return self._finish(states, at.gather(1, columns))

    def step(self, tokens: Int[Tensor, " row"]) -> Logits:
        """Append one token to each row and return the logits of the next."""
        at = self.attention_mask.sum(dim=-1, keepdim=True)
        one = torch.ones_like(at)
        self.attention_mask = torch.cat([self.attention_mask, one], dim=-1)
        self.short_mask = torch.cat([self.short_mask, one], dim=-1)
        states = self.model.get_input_embeddings()(tokens[:, None])
        states = self._layers(states, at, self.attention_mask, range(self.prune.layer))
        return self._finish(states, at)

    def select(self, rows: Int[Tensor, " row"]) -> None:
        """Go on with these rows, which may be fewer, or the same row several times."""
        super().select(rows)
        self.short_mask = self.short_mask[rows]

    def _finish(self, states: States, at: Ids) -> Logits:
        """The layers from K on, and the head at the last token."""
        after = range(self.prune.layer, len(self.llm.layers))
        states = self._layers(states, at, self.short_mask, after)
        logits: Tensor = self.model.lm_head(self.llm.norm(states[:, -1]))
        return logits

    def _layers(self, states: States, at: Ids, mask: Mask, which: range) -> States:
        rope = self.llm.rotary_emb(states, at)
        bias = _bias(mask, states)
        for index in which:
            states = self.llm.layers[index](
                states,
                attention_mask=bias,
                position_embeddings=rope,
                position_ids=at,
                past_key_values=self.cache,
                use_cache=True,
            )
        return states

    def _last_token_attention(self, entering: States, at: Ids, mask: Mask) -> Scores:
        """Mean over heads of what the last token attends to at layer K-1.

        Only this one row is computed, from the cached keys, so the layer itself can use SDPA.
        """
        layer = self.llm.layers[self.prune.layer - 1]
        attention = layer.self_attn
        last = attention.q_proj(layer.input_layernorm(entering[:, -1:]))
        query = last.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        cosine, sine = self.llm.rotary_emb(entering, at[:, -1:])
        query, _ = apply_rotary_pos_emb(query, query, cosine, sine)
        keys = self.cache.layers[self.prune.layer - 1].keys
        keys = keys.repeat_interleave(attention.num_key_value_groups, dim=1)
        weights = query @ keys.mT * attention.scaling + _bias(mask, last)
        return weights.float().softmax(dim=-1).mean(dim=1)[:, 0]

    def _random_scores(self, mask: Mask) -> Scores:
        """Random numbers on each row's own tokens, the same whatever the padding."""
        scores = torch.zeros(mask.shape)
        for row, name in enumerate(self.names):
            digest = hashlib.sha256(f"{self.prune.seed}\0{name}".encode()).digest()
            source = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
            length = int(mask[row].sum())
            scores[row, mask.shape[1] - length :] = torch.rand(length, generator=source)
        return scores.to(mask.device)

    def _choose(self, scores: Scores, visual: Bool[Tensor, "row seq"], mask: Mask) -> list[Columns]:
        """Columns to keep of each row: its text, and the best of its visual tokens."""
        kept = []
        for row in range(len(scores)):
            span = visual[row].nonzero()[:, 0]
            best = scores[row, span].topk(self.prune.kept(len(span))).indices
            stays = mask[row].bool() & ~visual[row]
            stays[span[best]] = True
            kept.append(stays.nonzero()[:, 0])
        return kept


def _bias(mask: Mask, states: States) -> Float[Tensor, "row 1 query key"]:
    """What to add to attention scores: lowest where a key is padding or lies ahead."""
    queries, keys = states.shape[1], mask.shape[1]
    behind = torch.ones(queries, keys, dtype=torch.bool, device=mask.device).tril(keys - queries)
    seen = mask[:, None, None].bool() & behind
    lowest = torch.finfo(states.dtype).min
    return torch.zeros_like(seen, dtype=states.dtype).masked_fill(~seen, lowest)


def _left_padded(rows: Sequence[Columns]) -> tuple[Ids, Mask]:
    """Rows of unequal length as one matrix, padded on the left with 0, and its mask."""
    longest = max(map(len, rows))
    columns = torch.stack([torch.nn.functional.pad(r, (longest - len(r), 0)) for r in rows])
    mask = torch.stack(
        [torch.nn.functional.pad(torch.ones_like(r), (longest - len(r), 0)) for r in rows]
    )
    return columns, mask
