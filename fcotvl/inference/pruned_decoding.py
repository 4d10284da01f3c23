"""Decoding without part of the visual tokens: a pruning method ranks them once, at prefill.

Layers before K see and cache the whole prompt. From layer K on only the best visual tokens stay, at their original
positions, as in the KV-cached code of FastV (Chen et al. 2024, arXiv 2403.06764).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache, InternVLConfig, InternVLForConditionalGeneration

from fcotvl.compress.config import visual_tokens
from fcotvl.compress.student import Visual
from fcotvl.core.errors import ParamsError
from fcotvl.inference.decoding import Decoder, Ids, KeyMask, Logits, Mask, Visible, embed, left_padded
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
    cache: Cache
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
        ParamsError: the model does not have layers before and from K on.
    """

    short_mask: KeyMask
    """Of the layers from K on."""
    kept: list[Columns]
    """For each row of the last prefill, the columns that were kept."""

    def __init__(self, model: InternVLForConditionalGeneration, pruning: Pruning, names: Sequence[str]) -> None:
        super().__init__(model)
        if not 1 <= pruning.layer < len(self.llm.layers):
            last = len(self.llm.layers) - 1
            raise ParamsError(f"baselines.fastv_layer: cannot prune before layer {pruning.layer}; choose 1 to {last}")
        self.pruning = pruning
        self.names = names

    def prefill(self, input_ids: Ids, attention_mask: Mask, features: Visual) -> Logits:
        """Read the prompts, prune once, and return the logits of each row's first new token."""
        self.mask, layer = KeyMask(attention_mask), self.pruning.layer
        embedded, mask = embed(self.model, input_ids, features), self.mask.prompt()
        position_ids = self._place(input_ids, attention_mask, features)
        entering = self._layers(embedded, position_ids, mask, range(layer - 1))
        states = self._layers(entering, position_ids, mask, range(layer - 1, layer))
        scores = self.pruning.score(Prefill(self.llm, self.cache, entering, position_ids, attention_mask, self.names))
        is_visual = input_ids == self.model.config.image_token_id
        self.kept = self._choose(scores, is_visual, attention_mask)
        columns, short = left_padded(self.kept)
        self.short_mask = KeyMask(short)
        states = states.gather(1, columns[..., None].expand(-1, -1, states.shape[-1]))
        return self._finish(states, position_ids.gather(1, columns), self.short_mask.prompt())

    def select(self, rows: Int[Tensor, " row"]) -> None:
        """Continue with these rows only; a row may be repeated."""
        super().select(rows)
        self.short_mask.select(rows)

    def _run(self, embedded: States, position_ids: Ids, mask: Visible | None) -> Logits:
        """Run all layers on one more token of each row."""
        states = self._layers(embedded, position_ids, mask, range(self.pruning.layer))
        short = self.short_mask.step(self.cache.get_seq_length(self.pruning.layer) + 1)
        return self._finish(states, position_ids, short)

    def _finish(self, states: States, position_ids: Ids, mask: Visible | None) -> Logits:
        """Run the layers from K on, and the head on the last token."""
        states = self._layers(states, position_ids, mask, range(self.pruning.layer, len(self.llm.layers)))
        logits: Tensor = self.model.lm_head(self.llm.norm(states[:, -1]))
        return logits

    def _layers(self, states: States, position_ids: Ids, mask: Visible | None, layers: range) -> States:
        rope = self.llm.rotary_emb(states, position_ids)
        for index in layers:
            states = self.llm.layers[index](
                states,
                attention_mask=mask,
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
