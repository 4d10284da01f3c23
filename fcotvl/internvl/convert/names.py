"""Tensor names of original InternVL2 checkpoints and of transformers' InternVL, in pairs.

Our names are those that ``save_pretrained`` writes for InternVL. Source: transformers'
``convert_internvl_weights_to_hf.py`` and, for InternLM2, the layout of its ``wqkv`` (rows grouped by key-value head:
its queries, its key, its value).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor
from transformers import InternVLConfig

BOTH = ("weight", "bias")
VIT_LAYER = {
    "attn.proj": "attention.projection_layer",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
INTERNLM2_LAYER = {
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
"""InternLM2's names in a layer, and transformers'."""


@dataclass(frozen=True)
class Pair:
    """One tensor of the original, and ours that it holds."""

    original: str
    ours: tuple[str, ...]
    packing: Literal["same", "stacked", "grouped"] = "same"
    """``stacked``: rows of q, k, v one after the other; ``grouped``: by key-value head."""


def all_pairs(config: InternVLConfig, *, internlm: bool, has_head: bool) -> list[Pair]:
    """List all tensors of a checkpoint of ``config``.

    Args:
        config: the model's config in transformers' layout.
        internlm: whether the original's LLM is InternLM2; else it is Qwen2.
        has_head: whether the head is a separate tensor.
    """
    language = _language(config.text_config.num_hidden_layers, internlm=internlm, has_head=has_head)
    return [*_vit(config.vision_config.num_hidden_layers), *_projector(), *language]


def split(tensor: Tensor, pair: Pair, head_dim: int, groups: int) -> dict[str, Tensor]:
    """Split one original tensor into ours.

    Args:
        tensor: the original.
        pair: its names and packing.
        head_dim: channels of an LLM head.
        groups: LLM query heads per key-value head.
    """
    parts: Sequence[Tensor]
    if pair.packing == "same":
        parts = [tensor]
    elif pair.packing == "stacked":
        parts = tensor.chunk(3)
    else:
        packed = rearrange(tensor, "(kv g d) w -> kv g d w", g=groups + 2, d=head_dim)
        heads = (packed[:, :groups], packed[:, groups : groups + 1], packed[:, groups + 1 :])
        parts = [rearrange(part, "kv g d w -> (kv g d) w") for part in heads]
    return {name: part.contiguous() for name, part in zip(pair.ours, parts, strict=True)}


def join(parts: Sequence[Tensor], pair: Pair, head_dim: int, groups: int) -> Tensor:
    """Join our tensors to the original one; undoes ``split``."""
    if pair.packing == "same":
        return parts[0]
    if pair.packing == "stacked":
        return torch.cat(list(parts))
    counts = (groups, 1, 1)
    heads = [
        rearrange(part, "(kv g d) w -> kv g d w", g=count, d=head_dim)
        for part, count in zip(parts, counts, strict=True)
    ]
    return rearrange(torch.cat(heads, dim=1), "kv g d w -> (kv g d) w").contiguous()


def saved_name(name: str) -> str:
    """Name under which ``save_pretrained`` writes a parameter of the model."""
    for inside, saved in (
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
        ("model.", ""),
    ):
        if name.startswith(inside):
            return saved + name.removeprefix(inside)
    return name


def _vit(layers: int) -> Iterator[Pair]:
    theirs, ours = "vision_model.embeddings", "vision_tower.embeddings"
    yield Pair(f"{theirs}.class_embedding", (f"{ours}.cls_token",))
    yield Pair(f"{theirs}.position_embedding", (f"{ours}.position_embeddings",))
    yield from _renamed(theirs, ours, {"patch_embedding": "patch_embeddings.projection"}, BOTH)
    for i in range(layers):
        theirs, ours = f"vision_model.encoder.layers.{i}", f"vision_tower.encoder.layer.{i}"
        yield Pair(f"{theirs}.ls1", (f"{ours}.lambda_1",))
        yield Pair(f"{theirs}.ls2", (f"{ours}.lambda_2",))
        for part in BOTH:
            yield Pair(f"{theirs}.attn.qkv.{part}", _qkv(f"{ours}.attention", part), "stacked")
        yield from _renamed(theirs, ours, VIT_LAYER, BOTH)


def _projector() -> Iterator[Pair]:
    names = {"0": "layer_norm", "1": "linear_1", "3": "linear_2"}
    yield from _renamed("mlp1", "multi_modal_projector", names, BOTH)


def _language(layers: int, *, internlm: bool, has_head: bool) -> Iterator[Pair]:
    """InternLM2 has names of its own and one tensor for qkv; Qwen2 has transformers' names."""
    model, weight = "language_model.model", BOTH[:1]
    embedding, head = ("tok_embeddings", "output") if internlm else ("embed_tokens", "lm_head")
    in_layer = INTERNLM2_LAYER if internlm else {name: name for name in INTERNLM2_LAYER.values()}
    yield from _renamed(model, model, {embedding: "embed_tokens", "norm": "norm"}, weight)
    for i in range(layers):
        layer = f"{model}.layers.{i}"
        if internlm:
            ours = _qkv(f"{layer}.self_attn", "weight")
            yield Pair(f"{layer}.attention.wqkv.weight", ours, "grouped")
        else:
            for part in BOTH:
                yield from (Pair(name, (name,)) for name in _qkv(f"{layer}.self_attn", part))
        yield from _renamed(layer, layer, in_layer, weight)
    if has_head:
        yield from _renamed("language_model", "language_model", {head: "lm_head"}, weight)


def _renamed(theirs: str, ours: str, names: Mapping[str, str], parts: Sequence[str]) -> Iterator[Pair]:
    """Pair tensors that differ in their names alone."""
    for original, new in names.items():
        for part in parts:
            yield Pair(f"{theirs}.{original}.{part}", (f"{ours}.{new}.{part}",))


def _qkv(attention: str, part: str) -> tuple[str, ...]:
    return tuple(f"{attention}.{x}_proj.{part}" for x in "qkv")
