"""Prefill a batch of prompts once, then extend every row by one token at a time."""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, InternVLForConditionalGeneration

from fcotvl.compress.student import Visual

Ids = Int[Tensor, "row seq"]
Mask = Int[Tensor, "row key"]
"""1 on tokens, 0 on padding; covers the cache and the tokens that are being read."""
Logits = Float[Tensor, "row vocab"]


def embed(model: InternVLForConditionalGeneration, input_ids: Ids, features: Visual) -> Float[Tensor, "row seq hidden"]:
    """Embed ``input_ids``, with visual tokens at their placeholders in order of rows and tiles.

    Raises:
        ValueError: the numbers of placeholders and visual tokens differ.
    """
    embedded = model.get_input_embeddings()(input_ids)
    is_visual = input_ids == model.config.image_token_id
    visual = torch.cat(list(features)).to(embedded)
    if int(is_visual.sum()) != len(visual):
        raise ValueError(f"{int(is_visual.sum())} placeholders for {len(visual)} visual tokens")
    embedded[is_visual] = visual
    return embedded


def positions(attention_mask: Mask) -> Ids:
    """Position of each token in its own row, left padding not counted."""
    return (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)


def seeded(*parts: object) -> torch.Generator:
    """Make a random generator from ``parts`` alone, so that its numbers depend on nothing else."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class Decoder:
    """A batch of left-padded rows and their KV cache.

    Args:
        model: teacher or student.
    """

    def __init__(self, model: InternVLForConditionalGeneration) -> None:
        self.model = model
        self.cache = DynamicCache(config=model.config.text_config)
        self.attention_mask = torch.empty(0, 0, dtype=torch.long, device=model.device)

    def prefill(self, input_ids: Ids, attention_mask: Mask, features: Visual) -> Logits:
        """Read the prompts and return the logits of each row's first new token."""
        self.attention_mask = attention_mask
        return self._run(embed(self.model, input_ids, features), positions(attention_mask))

    def step(self, tokens: Int[Tensor, " row"]) -> Logits:
        """Append one token to each row and return the logits of the next."""
        position_ids = self.attention_mask.sum(dim=-1, keepdim=True)
        one = torch.ones_like(position_ids)
        self.attention_mask = torch.cat([self.attention_mask, one], dim=-1)
        return self._run(self.model.get_input_embeddings()(tokens[:, None]), position_ids)

    def select(self, rows: Int[Tensor, " row"]) -> None:
        """Continue with these rows only; a row may be repeated."""
        self.attention_mask = self.attention_mask[rows]
        self.cache.batch_select_indices(rows)

    def _run(self, embedded: Float[Tensor, "row seq hidden"], position_ids: Ids) -> Logits:
        states = self.model.model.language_model(
            inputs_embeds=embedded,
            attention_mask=self.attention_mask,
            position_ids=position_ids,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        logits: Tensor = self.model.lm_head(states[:, -1])
        return logits
