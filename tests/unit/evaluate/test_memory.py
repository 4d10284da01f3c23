"""Operations and memory of training, estimated from shapes, beside those of real steps."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.compress.config import FcotvlConfig
from fcotvl.core import config
from fcotvl.core.config import DistillParams, LossParams, OptimParams
from fcotvl.evaluate.cost import cost, parameters, training_flops
from fcotvl.evaluate.memory import LOGIT_COPIES, ROW, kv_bytes, training_memory
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


@pytest.mark.parametrize(("stage", "ce_weight"), [("distill", 0.0), ("sft", 1.0), ("sft", 0.2)])
def test_training_flops_are_those_that_torch_counts(stage, ce_weight):
    teacher = models.teacher(tied=False)
    student = make_student(teacher, compressor="cnn", ratio=0.5, share_frozen=stage == "distill")
    if stage == "distill":
        objective = DistillObjective(teacher, student, DistillParams(temperature=1.0, ce_weight=ce_weight))
    else:
        objective = SftObjective(student, teacher, LossParams(ce_weight=ce_weight))
    chat = Chat("What is it?", "a" * 40)
    batch = collate([models.picture(112, 56)], [[chat]], processor_for(models.processor(), student.config), max_tiles=4)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective(batch)["loss"].sum().backward()
    turn = batch.turns[0][0]
    expected = training_flops(
        student.config,
        teacher.config if ce_weight < 1 else None,
        trains_llm=stage == "sft",
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


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_loss_that_asks_the_teacher_keeps_the_weights_that_the_student_has_changed(strategy):
    teacher = teacher_config("internvl2-1b")
    student = FcotvlConfig.from_teacher(teacher, compressor="cnn", ratio=0.5)
    optim = OptimParams(steps=1, lr=0.1)
    alone, beside = (
        training_memory("sft", student, optim, processes=2, strategy=strategy, asks_teacher=asks)
        for asks in (False, True)
    )
    counts = parameters(teacher)
    shares = 2 if strategy == "fsdp" else 1
    assert beside.weights - alone.weights == pytest.approx(2 * (counts["total"] - counts["vit"]) / shares, abs=2)
    assert beside.total - alone.total == beside.weights - alone.weights


def test_sharding_divides_what_grows_with_the_model():
    """The 8B's 124 GB of weights, gradients and optimizer in float32; what is gathered is the same on any number."""
    student = FcotvlConfig.from_teacher(teacher_config("internvl2-8b"), compressor="cnn", ratio=0.5)
    optim = OptimParams(steps=1, lr=0.1, micro_batch_tokens=2048, activation_checkpointing=True)
    two, eight = (training_memory("sft", student, optim, processes=n, strategy="fsdp") for n in (2, 8))
    for part in ("weights", "gradients", "optimizer"):
        assert getattr(two, part) == pytest.approx(4 * getattr(eight, part), abs=4)
    assert 8 * (eight.weights + eight.gradients + eight.optimizer) > 124 * GB
    head = student.text_config.vocab_size * student.text_config.hidden_size
    assert two.gathered == eight.gathered > 2 * head * (2 + 2 + 4)
    alone = training_memory("sft", student, optim, strategy="fsdp")
    assert alone == training_memory("sft", student, optim)


def test_every_scale_fits_its_accelerators():
    scales = [path.stem for path in (ROOT / "workflow/scales").glob("*.yaml")]
    documented = (ROOT / "docs/running.md").read_text(encoding="utf-8")
    large = 0
    for scale in scales:
        params = config.load(scale=scale, mix="rendered")
        budget = params.scale_config
        teacher = teacher_config(budget.model.architecture)
        student = FcotvlConfig.from_teacher(teacher, compressor=params.compressor, ratio=params.ratio)
        launch = {"processes": budget.launch.processes, "strategy": budget.launch.strategy}
        distill = training_memory("distill", student, budget.distill.on(budget.launch.distill), **launch).total / GB
        optim = budget.sft.on(budget.launch.sft)
        sft = training_memory("sft", student, optim, **launch).total / GB
        assert max(distill, sft) < 80, scale
        assert training_memory("sft", student, optim, asks_teacher=True, **launch).total < 80 * GB, scale
        if budget.model.hub:
            large += 1
            assert f"| `{scale}` | {distill:.0f} | {sft:.0f} |" in documented
    assert large == 3


@pytest.mark.parametrize(("scale", "kib"), [("internvl2-1b", 12), ("internvl2-2b", 96), ("internvl2-8b", 128)])
def test_the_cache_of_a_batch_fits_beside_the_teacher(scale, kib):
    teacher, budget = teacher_config(scale), config.load(scale=scale, mix="rendered").scale_config
    assert kv_bytes(teacher, 1) == kib * 1024
    assert kv_bytes(teacher, 256 + 60) == cost(teacher, tiles=1, text_tokens=60).kv_bytes
    most = max(budget.rscot.batch_tokens, budget.evaluate.batch_tokens)
    assert 2 * parameters(teacher)["total"] + kv_bytes(teacher, most) < 60 * GB
