"""Operations and memory of training, estimated from shapes, beside those of real steps."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.compress.config import FcotvlConfig
from fcotvl.core import config
from fcotvl.core.config import DistillParams, OptimParams
from fcotvl.evaluate.cost import training_flops
from fcotvl.evaluate.memory import LOGIT_COPIES, ROW, training_memory
from fcotvl.internvl.architectures import teacher_config
from fcotvl.train.distill import DistillObjective
from fcotvl.train.layers import NAME
from fcotvl.train.losses import MAX_LOGITS
from fcotvl.train.packing import Chat, collate
from fcotvl.train.sft import SftObjective
from tests.support import models
from tests.support.imports import ROOT

GB = 1e9
LOSSES = LOGIT_COPIES * 4 * MAX_LOGITS


@pytest.mark.parametrize("stage", ["distill", "sft"])
def test_training_flops_are_those_that_torch_counts(stage):
    teacher = models.teacher(tied=False)
    student = make_student(teacher, compressor="cnn", ratio=0.5, share_frozen=stage == "distill")
    params = DistillParams(temperature=1.0, ce_weight=0.0)
    objective = DistillObjective(teacher, student, params) if stage == "distill" else SftObjective(student, teacher)
    chat = Chat("What is it?", "a" * 40)
    batch = collate([models.picture(112, 56)], [[chat]], processor_for(models.processor(), student.config), max_tiles=4)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective(batch)["loss"].sum().backward()
    turn = batch.turns[0][0]
    expected = training_flops(
        teacher.config if stage == "distill" else None,
        student.config,
        tiles=batch.num_tiles[0],
        text_tokens=len(turn.prefix) + len(turn.suffix),
        answer_tokens=41,  # with the end of the turn
    )
    # Of the gradients that are counted, the first layer that learns passes none on.
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("stage", ["distill", "sft"])
@pytest.mark.parametrize("recompute", [False, True])
def test_what_is_kept_is_what_a_real_pass_keeps(stage, recompute):
    student = FcotvlConfig.from_teacher(teacher_config("tiny"), compressor="cnn", ratio=0.5)
    optim = OptimParams(steps=1, lr=0.1, micro_batch_tokens=2 * ROW, activation_checkpointing=recompute)
    trained = stage == "sft"
    llm = AutoModel.from_config(student.text_config, dtype=torch.float32 if trained else torch.bfloat16)
    llm.requires_grad_(trained).set_attn_implementation(NAME)
    if recompute:
        llm.train().activation_checkpointing_enable({"use_reentrant": False})
    own, kept = {tensor.data_ptr() for tensor in (*llm.parameters(), *llm.buffers())}, {}

    def keep(tensor):
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = (tensor, tensor.untyped_storage().nbytes())
        return tensor

    states = torch.randn(2, ROW, student.text_config.hidden_size, dtype=torch.bfloat16, requires_grad=True)
    mask = torch.ones(2, 1, ROW, ROW, dtype=torch.bool).tril()
    positions = torch.arange(ROW).expand(2, -1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        llm(
            inputs_embeds=states,
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            shared_prefix=ROW - ROW // 8,
        )
    real = sum(size for _, size in kept.values())
    estimate = training_memory(stage, student, optim)
    no_recompute = training_memory(stage, student, optim.model_copy(update={"activation_checkpointing": False}))
    found = estimate.work - LOSSES
    if recompute:  # the estimate adds the layer that the backward pass computes again
        assert real < found < 0.6 * (no_recompute.work - LOSSES)
    else:
        assert found == pytest.approx(real, rel=0.02)


@pytest.mark.parametrize("scale", ["internvl2-1b", "internvl2-2b", "internvl2-8b"])
def test_every_scale_fits_its_accelerators_or_says_so(scale):
    params = config.load(scale=scale, mix="rendered")
    student = FcotvlConfig.from_teacher(teacher_config(scale), compressor=params.compressor, ratio=params.ratio)
    budget, launch = params.scale_config, params.scale_config.launch
    distill = training_memory("distill", student, budget.distill.on(launch.distill), processes=8).total / GB
    sft = training_memory("sft", student, budget.sft.on(launch.sft), processes=8).total / GB
    assert distill < 80
    fits = sft < 80
    assert f"| `{scale}` | {distill:.0f} | {sft:.0f}" in (ROOT / "docs/running.md").read_text(encoding="utf-8")
    text = (ROOT / f"workflow/scales/{scale}.yaml").read_text()
    assert fits == ("Fine-tuning does not" not in text)
