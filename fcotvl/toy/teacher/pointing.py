"""Attention that is told where to look.

Looking up takes several steps, attending to what is asked for and then to where it is drawn, and
none pays without the others: from the answers alone they are found after thousands of steps, if at
all. Told where to look, heads learn it in a few hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb


class Glance:
    """What one attention layer read in its last forward pass."""

    def __init__(self, attention: nn.Module) -> None:
        self._attention: Any = attention
        self._hidden: Tensor
        self._waves: tuple[Tensor, Tensor] | None = None

    def keep(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember the layer's input; a forward pre-hook."""
        self._hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        self._waves = kwargs.get("position_embeddings")

    def cost(
        self,
        row: Int[Tensor, " points"],
        query: Int[Tensor, " points"],
        target: Int[Tensor, "points heads"],
        mask: Float[Tensor, "batch 1 seq seq"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cross entropy of the first heads' attention, from ``query`` to each its target."""
        heads, width = target.size(1), self._attention.head_dim
        q, k = (
            rearrange(
                F.linear(self._hidden, p.weight[: heads * width], p.bias[: heads * width]),
                "b s (n d) -> b n s d",
                n=heads,
            )
            for p in (self._attention.q_proj, self._attention.k_proj)
        )
        if self._waves is not None:
            q, k = apply_rotary_pos_emb(q, k, *self._waves)
        scores = (q @ k.mT * width**-0.5)[row, :, query]
        if mask is not None:
            scores = scores + mask[row, 0, query][:, None]
        return F.cross_entropy(scores.flatten(0, 1), target.flatten())


class Watched:
    """While entered, each of ``attention``'s layers has a glance."""

    def __init__(self, attention: Sequence[nn.Module]) -> None:
        self._attention = attention

    def __enter__(self) -> list[Glance]:
        glances = [Glance(module) for module in self._attention]
        self._handles = [
            module.register_forward_pre_hook(glance.keep, with_kwargs=True)
            for module, glance in zip(self._attention, glances, strict=True)
        ]
        return glances

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
