"""Memory of a process that trains or generates, estimated from shapes alone: nothing is computed or allocated."""

from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModel, InternVLConfig

from fcotvl.compress.config import FcotvlConfig
from fcotvl.compress.student import FcotvlForConditionalGeneration
from fcotvl.core.config import OptimParams
from fcotvl.evaluate.cost import parameters
from fcotvl.inference.flops import attention_widths
from fcotvl.train.layers import NAME, layers_of
from fcotvl.train.losses import MAX_LOGITS

ROW = 2048
"""Length of the rows in a full micro-batch: seven tiles of 256 tokens and some text."""
LOGIT_COPIES = 6
"""Tensors of ``MAX_LOGITS`` numbers in float32 that the losses of teacher and student hold at a time."""
STEP_COPIES = 2
"""Copies of the gradients that AdamW makes in its step over all parameters at once, where it is not one kernel."""
LAYERS = 3
"""Layers whose weights FSDP holds whole at a time: one that computes, and the next one twice, as it comes and unpacked.
Gradients are whole of one layer less: one that computes and one that is reduced."""


@dataclass(frozen=True)
class Memory:
    """Bytes by what they are for."""

    weights: int
    """All weights; those that learn in float32, and unless sharded with their copies in mixed precision."""
    gradients: int
    """Unless sharded, with the buckets in which processes exchange them."""
    optimizer: int
    gathered: int
    """What FSDP holds whole, of weights in bfloat16 and of their gradients: some layers, and all that is in none."""
    work: int
    """The larger of two: what the losses of a full micro-batch need, or what the optimizer's step does."""

    @property
    def total(self) -> int:
        """Their sum."""
        return sum(astuple(self))


def training_memory(
    stage: str,
    student: FcotvlConfig,
    optim: OptimParams,
    *,
    asks_teacher: bool = False,
    processes: int = 1,
    strategy: str = "ddp",
) -> Memory:
    """Estimate the most that a process of ``distill`` or ``sft`` holds on its device, frozen weights in bfloat16.

    The micro-batch is full of tokens that reach the LLM, as with pages of text: an upper bound, since visual tokens are
    compressed. Where a row may be longer than that, it is full of one row.

    Args:
        stage: ``distill``, where compressor and projector learn, or ``sft``, where the LLM learns too.
        student: its config.
        optim: the stage's budget.
        asks_teacher: whether fine-tuning keeps the teacher's weights, as recipes do whose loss depends on it; those of
            distillation are the student's in any case, and hidden states that are matched are not counted.
        processes: those that share a step.
        strategy: what each of them holds, as in ``LaunchParams``.
    """
    trained, whole = trained_parameters(stage, student), stage == "sft"
    frozen = parameters(student)["total"] - trained
    if asks_teacher and whole:
        frozen += trained - parameters(student)["compressor"]
    moments = 1 if optim.optimizer == "muon" else 2
    sharded = strategy == "fsdp" and processes > 1
    share = processes if sharded else 1
    layers = 1 if optim.activation_checkpointing else None
    tokens = max(optim.micro_batch_tokens, optim.max_length)
    kept = _kept(student, tokens, layers, trained=whole, cast=sharded)
    if optim.activation_checkpointing:  # each layer's input, and all of the layer that is computed again
        config = student.text_config
        kept += 2 * config.num_hidden_layers * tokens * config.hidden_size
    return Memory(
        weights=(2 * frozen + (4 if sharded else 4 + 2) * trained) // share,
        gradients=(8 if processes > share else 4) * trained // share,
        optimizer=4 * moments * trained // share,
        gathered=_gathered(student, trained, whole=whole) if sharded else 0,
        work=max(kept + LOGIT_COPIES * 4 * MAX_LOGITS, STEP_COPIES * 4 * trained // share),
    )


def kv_bytes(config: InternVLConfig, tokens: int) -> int:
    """Bytes of the keys and values of ``tokens`` in bfloat16: what a batch of replies with its prompts caches."""
    return int(tokens * config.text_config.num_hidden_layers * 2 * attention_widths(config)[1] * 2)


def trained_parameters(stage: str, student: InternVLConfig) -> int:
    """How many parameters of ``student`` learn in ``distill`` or in ``sft``."""
    counts = parameters(student)
    return counts["compressor"] + counts["projector"] + (counts["llm"] if stage == "sft" else 0)


def _gathered(student: FcotvlConfig, trained: int, *, whole: bool) -> int:
    """Bytes of weights in bfloat16, and of gradients in bfloat16 and again in float32, as they are reduced."""
    with torch.device("meta"):
        model = FcotvlForConditionalGeneration(student)
    vit, llm = ([sum(p.numel() for p in layer.parameters()) for layer in layers] for layers in layers_of(model))
    outside = sum(p.numel() for p in model.parameters()) - sum(vit) - sum(llm)
    layer = max(*vit, *llm)
    reduced = trained - sum(llm) + (LAYERS - 1) * max(llm) if whole else trained
    return 2 * (outside + LAYERS * layer) + (2 + 4) * reduced


def _kept(student: FcotvlConfig, tokens: int, layers: int | None, *, trained: bool, cast: bool) -> int:
    """Bytes that autograd keeps of the forward pass of the LLM, or of its first ``layers``, over ``tokens``.

    Weights are bfloat16 if they are frozen, or ``cast`` before they compute.
    """
    config = type(student.text_config)(**student.text_config.to_dict())
    config.rope_parameters = {"rope_type": "default", "rope_theta": 1e6}  # others look at values
    config.num_hidden_layers = layers or config.num_hidden_layers
    if hasattr(config, "layer_types"):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    rows, length = max(1, tokens // ROW), min(tokens, ROW)
    with FakeTensorMode():
        llm: Any = AutoModel.from_config(config, dtype=torch.float32 if trained and not cast else torch.bfloat16)
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
