"""Attention supervision: a loss on where attention heads look.

A look-up takes several steps, attending to what is asked for and then to where it is drawn, and none helps without the
others. Trained on answers alone, heads need thousands of steps to find them, if they do; supervised, they need a few
hundred.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb


class AttentionProbe:
    """Records the input of an attention layer and computes the attention of its first heads."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer: Any = layer
        self._hidden: Tensor
        self._rotary: tuple[Tensor, Tensor] | None = None

    def record(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Store the layer's input; a forward pre-hook."""
        self._hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        self._rotary = kwargs.get("position_embeddings")

    def loss(
        self,
        row: Int[Tensor, " targets"],
        query: Int[Tensor, " targets"],
        target: Int[Tensor, "targets heads"],
        mask: Bool[Tensor, "batch 1 seq seq"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cross entropy of the attention from ``query`` to the ``target`` of each head."""
        heads, width = target.size(1), self.layer.head_dim
        q, k = (
            rearrange(
                F.linear(self._hidden, p.weight[: heads * width], p.bias[: heads * width]),
                "b s (n d) -> b n s d",
                n=heads,
            )
            for p in (self.layer.q_proj, self.layer.k_proj)
        )
        if self._rotary is not None:
            q, k = apply_rotary_pos_emb(q, k, *self._rotary)
        scores = (q @ k.mT * width**-0.5)[row, :, query]
        if mask is not None:
            scores = scores.masked_fill(~mask[row, 0, query][:, None], torch.finfo(scores.dtype).min)
        return F.cross_entropy(scores.flatten(0, 1), target.flatten())


@contextmanager
def probe_attention(layers: Sequence[nn.Module]) -> Iterator[list[AttentionProbe]]:
    """Record forward passes of ``layers`` while entered, one probe each."""
    probes = [AttentionProbe(layer) for layer in layers]
    handles = [probe.layer.register_forward_pre_hook(probe.record, with_kwargs=True) for probe in probes]
    try:
        yield probes
    finally:
        for handle in handles:
            handle.remove()
