"""Run by test_sharded.py under torchrun: two processes that share weights, gradients and optimizer."""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from fcotvl.compress.checkpoints import save_student_tensors
from fcotvl.core.processes import is_main, rank
from fcotvl.train import loop, losses
from fcotvl.train.sft import SftObjective
from fcotvl.train.state import local
from tests.unit.train.test_micro_batches import make_task, trained
from tests.unit.train.test_sharded import COMPRESSORS

FOLDER = Path(sys.argv[1])
CASES = {
    "distill-adamw": {"micro_batch_tokens": 700},
    "distill-muon": {"optimizer": "muon"},
    "sft-adamw": {"micro_batch_tokens": 1, "activation_checkpointing": True},
    "sft-muon": {"optimizer": "muon"},
}
steps = {}
held = {}


def run(name, case, task=None, end_at=None, end=None, **how):
    """Train a case; its losses, its steps and the published student go by the name of the run."""
    corpus, compressor = FOLDER / f"{name}-corpus-{rank()}", COMPRESSORS.get(case, "cnn")
    task = task or make_task(corpus, case.partition("-")[0], compressor=compressor)
    seen = steps[name] = []

    def on_step_end(step):
        seen.append(step)
        if step == end_at:
            end()

    object.__setattr__(task, "on_step_end", on_step_end)
    losses_of_steps, _ = trained(task, FOLDER / name, strategy="fsdp", **CASES[case], **how)
    save_student_tensors(task.objective.student, FOLDER / f"{name}.safetensors", stage="sft")
    if is_main():
        result = {"losses": losses_of_steps, "steps": seen}
        (FOLDER / f"{name}.json").write_text(json.dumps(result))


def interrupt():
    raise KeyboardInterrupt


def kill_the_second():
    if not is_main():
        os.kill(os.getpid(), signal.SIGKILL)


def run_in_mixed_precision():
    """Fine-tuning whose ViT, which is frozen, is in bfloat16; what a process holds before the optimizer's step."""
    clip = Accelerator.clip_grad_norm_

    def measure(accelerator, parameters, max_norm):
        parameters = list(parameters)
        held["weights"] = sum(local(p).nbytes for p in parameters)
        held["gradients"] = sum(local(p.grad).nbytes for p in parameters if p.grad is not None)
        held["types"] = sorted({str(p.dtype) for p in parameters if p.requires_grad})
        return clip(accelerator, parameters, max_norm)

    AcceleratorState._reset_state()  # of another precision
    Accelerator.clip_grad_norm_ = measure
    task = make_task(FOLDER / f"mixed-corpus-{rank()}", "sft")
    student = task.objective.student
    student.model.vision_tower.bfloat16()
    run("mixed", "sft-adamw", replace(task, objective=SftObjective(student, task.objective.teacher)), dtype="bfloat16")
    Accelerator.clip_grad_norm_ = clip
    AcceleratorState._reset_state()
    (FOLDER / f"held-{rank()}.json").write_text(json.dumps(held))


loop.SAVE_SECONDS = 0.0
losses.MAX_LOGITS = 2000  # several chunks of answers, whose logits are computed again
if sys.argv[2] == "all":
    for case in CASES:
        run(case, case)
    run_in_mixed_precision()
    try:
        run("stopped", "sft-adamw", end_at=3, end=interrupt)
    except KeyboardInterrupt:
        run("stopped", "sft-adamw")
    run("one-then-two", "distill-adamw")
    run("killed", "sft-muon", end_at=3, end=kill_the_second)
else:
    run("killed", "sft-muon")
