"""Memory of a training process, estimated from shapes alone: nothing is computed or allocated."""

from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModel, InternVLConfig

from fcotvl.core.config import OptimParams
from fcotvl.evaluate.cost import parameters
from fcotvl.train.layers import NAME
from fcotvl.train.losses import MAX_LOGITS

ROW = 2048
"""Length of the rows in a full micro-batch: seven tiles of 256 tokens and some text."""
LOGIT_COPIES = 6
"""Tensors of ``MAX_LOGITS`` numbers in float32 that the losses of teacher and student hold at a time."""
STEP_COPIES = 2
"""Copies of the gradients that AdamW makes in its step, which goes over all parameters at once."""


@dataclass(frozen=True)
class Memory:
    """Bytes by what they are for."""

    weights: int
    """All weights; those that learn in float32, with their copies in mixed precision."""
    gradients: int
    """With the buckets in which processes exchange them."""
    optimizer: int
    work: int
    """The larger of two: what the losses of a full micro-batch need, or what the optimizer's step does."""

    @property
    def total(self) -> int:
        """Their sum."""
        return sum(astuple(self))


def training_memory(stage: str, student: InternVLConfig, optim: OptimParams, *, processes: int = 1) -> Memory:
    """Estimate the most that a process of ``distill`` or ``sft`` holds on its device, frozen weights in bfloat16.

    The micro-batch is full of tokens that reach the LLM, as with pages of text: an upper bound, since visual tokens are
    compressed. Where a row may be longer than that, it is full of one row.

    Args:
        stage: ``distill``, where compressor and projector learn, or ``sft``, where the LLM learns too.
        student: its config.
        optim: the stage's budget.
        processes: those that share a step.
    """
    trained, whole = trained_parameters(stage, student), stage == "sft"
    frozen = parameters(student)["total"] - trained
    moments = 1 if optim.optimizer == "muon" else 2
    tokens = max(optim.micro_batch_tokens, optim.max_length)
    kept = _kept(student, tokens, 1 if optim.activation_checkpointing else None, trained=whole)
    if optim.activation_checkpointing:  # each layer's input, and all of the layer that is computed again
        config = student.text_config
        kept += 2 * config.num_hidden_layers * tokens * config.hidden_size
    return Memory(
        weights=2 * frozen + (4 + 2) * trained,
        gradients=(8 if processes > 1 else 4) * trained,
        optimizer=4 * moments * trained,
        work=max(kept + LOGIT_COPIES * 4 * MAX_LOGITS, STEP_COPIES * 4 * trained),
    )


def trained_parameters(stage: str, student: InternVLConfig) -> int:
    """How many parameters of ``student`` learn in ``distill`` or in ``sft``."""
    counts = parameters(student)
    return counts["compressor"] + counts["projector"] + (counts["llm"] if stage == "sft" else 0)


def _kept(student: InternVLConfig, tokens: int, layers: int | None, *, trained: bool) -> int:
    """Bytes that autograd keeps of the forward pass of the LLM, or of its first ``layers``, over ``tokens``."""
    config = type(student.text_config)(**student.text_config.to_dict())
    config.rope_parameters = {"rope_type": "default", "rope_theta": 1e6}  # others look at values
    config.num_hidden_layers = layers or config.num_hidden_layers
    if hasattr(config, "layer_types"):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    rows, length = max(1, tokens // ROW), min(tokens, ROW)
    with FakeTensorMode():
        llm: Any = AutoModel.from_config(config, dtype=torch.float32 if trained else torch.bfloat16)
        llm.requires_grad_(trained)
        llm.set_attn_implementation(NAME)
        own = {tensor.untyped_storage()._cdata for tensor in (*llm.parameters(), *llm.buffers())}
        kept = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage
            return tensor

        states = torch.empty(rows, length, config.hidden_size, dtype=torch.bfloat16, requires_grad=True)
        mask = torch.ones(rows, 1, length, length, dtype=torch.bool)
        positions = torch.zeros(rows, length, dtype=torch.long)
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", torch.bfloat16):
            llm(
                inputs_embeds=states,
                attention_mask=mask,
                position_ids=positions,
                use_cache=False,
                shared_prefix=length - length // 8,
            )
        return sum(storage.nbytes() for storage in kept.values())
