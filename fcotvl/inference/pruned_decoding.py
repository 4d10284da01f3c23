"""Decoding without part of the visual tokens: a pruning method ranks them once, at prefill.

Layers before K see and cache the whole prompt. From layer K on only the best visual tokens stay, at their original
positions, as in the KV-cached code of FastV (Chen et al. 2024, arXiv 2403.06764).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, InternVLConfig, InternVLForConditionalGeneration

from fcotvl.compress.config import visual_tokens
from fcotvl.compress.student import Visual
from fcotvl.inference.decoding import Decoder, Ids, Logits, Mask, embed, positions
from fcotvl.inference.early_pruning import EarlyPruning

States = Float[Tensor, "row seq hidden"]
Scores = Float[Tensor, "row key"]
Columns = Int[Tensor, "_"]
"""Kept columns of one row; rows keep different numbers."""


@dataclass(frozen=True)
class Prefill:
    """What is known of a batch of prompts after layer K-1."""

    llm: Any
    """The language model without its head."""
    cache: DynamicCache
    states: States
    """Hidden states that enter layer K-1."""
    position_ids: Ids
    attention_mask: Mask
    names: Sequence[str]
    """One per row, so that random numbers do not depend on the batch."""


@dataclass(frozen=True)
class Pruning(ABC):
    """How many visual tokens are dropped, where, and by what ranking."""

    ratio: float
    """Share of the visual tokens **removed**, as for compressors."""
    layer: int = 2
    """K: the first layer (from 0) that sees the shorter sequence."""

    @abstractmethod
    def score(self, prefill: Prefill) -> Scores:
        """Score each column of each row; the visual tokens with the highest scores stay."""

    def scoring_flops(self, config: InternVLConfig, keys: int) -> int:  # noqa: ARG002
        """FLOPs of ``score`` for one prompt of ``keys`` tokens; 0 unless overridden."""
        return 0

    def kept(self, tokens: int) -> int:
        """Number of visual tokens that stay of ``tokens``."""
        return round(tokens * (1 - self.ratio))


@dataclass(frozen=True)
class System:
    """A teacher or student, and how visual tokens are dropped, if at all: within its LLM or before."""

    model: InternVLForConditionalGeneration
    pruning: Pruning | EarlyPruning | None = None

    @property
    def tokens(self) -> int:
        """Visual tokens of a tile that the last layer of the LLM reads, on average."""
        read = visual_tokens(self.model.config)
        return self.pruning.kept(read) if self.pruning else read

    def decoder(self, names: Sequence[str]) -> Decoder:
        """Make a decoder for a batch whose rows have these ``names``."""
        if isinstance(self.pruning, Pruning):
            return PrunedDecoder(self.model, self.pruning, names)
        return Decoder(self.model)


class PrunedDecoder(Decoder):
    """Decodes like ``Decoder``, but from layer K on without most of the visual tokens.

    Args:
        model: teacher or student.
        pruning: what to drop.
        names: one per row.

    Raises:
        ValueError: the model does not have layers before and from K on.
    """

    def __init__(self, model: InternVLForConditionalGeneration, pruning: Pruning, names: Sequence[str]) -> None:
        super().__init__(model)
        self.llm = model.model.language_model
        if not 1 <= pruning.layer < len(self.llm.layers):
            last = len(self.llm.layers) - 1
            raise ValueError(f"cannot prune before layer {pruning.layer}; expected 1 to {last}")
        self.pruning = pruning
        self.names = names
        self.short_mask = self.attention_mask
        self.kept: list[Columns] = []
        """For each row of the last prefill, the columns that were kept."""

    def prefill(self, input_ids: Ids, attention_mask: Mask, features: Visual) -> Logits:
        """Read the prompts, prune once, and return the logits of each row's first new token."""
        position_ids, layer = positions(attention_mask), self.pruning.layer
        entering = self._layers(embed(self.model, input_ids, features), position_ids, attention_mask, range(layer - 1))
        states = self._layers(entering, position_ids, attention_mask, range(layer - 1, layer))
        scores = self.pruning.score(Prefill(self.llm, self.cache, entering, position_ids, attention_mask, self.names))
        is_visual = input_ids == self.model.config.image_token_id
        self.kept = self._choose(scores, is_visual, attention_mask)
        columns, self.short_mask = _left_padded(self.kept)
        states = states.gather(1, columns[..., None].expand(-1, -1, states.shape[-1]))
        self.attention_mask = attention_mask
        return self._finish(states, position_ids.gather(1, columns))

    def step(self, tokens: Int[Tensor, " row"]) -> Logits:
        """Append one token to each row and return the logits of the next."""
        position_ids = self.attention_mask.sum(dim=-1, keepdim=True)
        one = torch.ones_like(position_ids)
        self.attention_mask = torch.cat([self.attention_mask, one], dim=-1)
        self.short_mask = torch.cat([self.short_mask, one], dim=-1)
        states = self.model.get_input_embeddings()(tokens[:, None])
        before = range(self.pruning.layer)
        states = self._layers(states, position_ids, self.attention_mask, before)
        return self._finish(states, position_ids)

    def select(self, rows: Int[Tensor, " row"]) -> None:
        """Continue with these rows only; a row may be repeated."""
        super().select(rows)
        self.short_mask = self.short_mask[rows]

    def _finish(self, states: States, position_ids: Ids) -> Logits:
        """Run the layers from K on, and the head on the last token."""
        after = range(self.pruning.layer, len(self.llm.layers))
        states = self._layers(states, position_ids, self.short_mask, after)
        logits: Tensor = self.model.lm_head(self.llm.norm(states[:, -1]))
        return logits

    def _layers(self, states: States, position_ids: Ids, mask: Mask, layers: range) -> States:
        rope = self.llm.rotary_emb(states, position_ids)
        bias = attention_bias(mask, states)
        for index in layers:
            states = self.llm.layers[index](
                states,
                attention_mask=bias,
                position_embeddings=rope,
                position_ids=position_ids,
                past_key_values=self.cache,
                use_cache=True,
            )
        return states

    def _choose(self, scores: Scores, is_visual: Bool[Tensor, "row seq"], mask: Mask) -> list[Columns]:
        """Columns to keep of each row: its text, and the best of its visual tokens."""
        kept = []
        for row in range(len(scores)):
            visual = is_visual[row].nonzero()[:, 0]
            best = scores[row, visual].topk(self.pruning.kept(len(visual))).indices
            stays = mask[row].bool() & ~is_visual[row]
            stays[visual[best]] = True
            kept.append(stays.nonzero()[:, 0])
        return kept


def attention_bias(mask: Mask, states: States) -> Float[Tensor, "row 1 query key"]:
    """Bias of attention scores: the lowest number where a key is padding or in the future."""
    queries, keys = states.shape[1], mask.shape[1]
    causal = torch.ones(queries, keys, dtype=torch.bool, device=mask.device).tril(keys - queries)
    visible = mask[:, None, None].bool() & causal
    lowest = torch.finfo(states.dtype).min
    return torch.zeros_like(visible, dtype=states.dtype).masked_fill(~visible, lowest)


def _left_padded(rows: Sequence[Columns]) -> tuple[Ids, Mask]:
    """Stack rows of unequal length, padded on the left with 0, with their mask."""
    longest = max(map(len, rows))
    columns = torch.stack([pad(row, (longest - len(row), 0)) for row in rows])
    mask = torch.stack([pad(torch.ones_like(row), (longest - len(row), 0)) for row in rows])
    return columns, mask
