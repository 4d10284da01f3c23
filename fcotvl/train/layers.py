"""How layers compute in training: attention of packed rows, recomputed activations, compiled layers.

Attention is causal, without a mask, over what all turns share. Most positions of a row are visual tokens, which attend
as in any causal model. Fused kernels are fastest there, and compute half the square; only the turns behind the picture
need the mask.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers import AttentionInterface, InternVLForConditionalGeneration
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from fcotvl.core.config import OptimParams

NAME = "shared_prefix"
_attention: Callable[..., Tensor] = torch.nn.functional.scaled_dot_product_attention


def shared_prefix_attention(
    module: nn.Module,  # noqa: ARG001
    query: Float[Tensor, "row head seq width"],
    key: Float[Tensor, "row kv_head seq width"],
    value: Float[Tensor, "row kv_head seq width"],
    attention_mask: Bool[Tensor, "row 1 seq seq"],
    *,
    scaling: float | None = None,
    shared_prefix: int = 0,
    **_: Any,
) -> tuple[Float[Tensor, "row seq head width"], None]:
    """What transformers' ``sdpa`` computes, given that the mask is causal on the first ``shared_prefix`` positions."""
    s, groups = shared_prefix, query.shape[1] // key.shape[1]
    before = (states[:, :, :s] for states in (query, key, value))
    prefix = _attention(*before, is_causal=True, scale=scaling, enable_gqa=groups > 1)
    # Heads that share a key are further queries of it: no kernel with a mask knows groups.
    queries = query[:, :, s:].unflatten(1, (-1, groups)).flatten(2, 3)
    mask = attention_mask[:, :, s:].repeat(1, 1, groups, 1)
    turns = _attention(queries, key, value, attn_mask=mask, scale=scaling)
    turns = turns.unflatten(2, (groups, -1)).flatten(1, 2)
    return torch.cat([prefix, turns], dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, shared_prefix_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def prepare_layers(objective: nn.Module, optim: OptimParams) -> None:
    """Set up how the models of ``objective`` compute, as long as this process lives: nothing saved says it."""
    for model in objective.modules():
        if isinstance(model, InternVLForConditionalGeneration):
            vit, llm = model.model.vision_tower, model.model.language_model
            llm.set_attn_implementation(NAME)
            if optim.activation_checkpointing:
                llm.train()  # which is all that this changes: there is no dropout
                llm.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
            if optim.torch_compile:
                for layer in vit.encoder.layer:
                    layer.compile()
                for layer in llm.layers:
                    layer.compile(dynamic=True)  # rows differ in length


def layers_of(model: InternVLForConditionalGeneration) -> tuple[nn.ModuleList, nn.ModuleList]:
    """The layers of the ViT, and those of the LLM."""
    return model.model.vision_tower.encoder.layer, model.model.language_model.layers


def shard_layers(objective: nn.Module, mesh: DeviceMesh, dtype: torch.dtype | None = None) -> None:
    """Shard parameters, gradients and with them the optimizer's state over the processes of ``mesh`` (FSDP2).

    Layers of ViT and LLM are gathered one by one. What is outside of them stays gathered from the forward to the end of
    the backward pass, since objectives call heads and connectors where they need them. Parameters keep their number
    type. (Accelerate's plugin would keep whole gradients between micro-batches, and find layers by the names of their
    classes, in which LLMs differ.)

    Args:
        objective: on any device; what is sharded moves to that of ``mesh``, layer by layer.
        mesh: of one dimension.
        dtype: number type that gathered weights compute in; none: their own.
    """
    # Autocast casts what layers are given, as it does without sharding.
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for model in [module for module in objective.modules() if isinstance(module, InternVLForConditionalGeneration)]:
        for layer in (layer for layers in layers_of(model) for layer in layers):
            if not isinstance(layer, FSDPModule):  # teacher and student may share it
                fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(objective, mesh=mesh, mp_policy=policy)
