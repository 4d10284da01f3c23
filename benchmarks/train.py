"""Time, memory and utilisation of training steps at true shapes, with random weights.

    python benchmarks/train.py --architecture internvl2-2b --case distill --case sft,recompute --device cuda

A case is a stage and options of it: ``recompute`` (activation checkpointing), ``compile`` (``torch.compile``), a
number of tokens in a micro-batch, and of ``sft`` ``matched``, with the teacher's replies and hidden states as targets;
what the teacher computes for them is not counted. Steps run through the project's own loop, on pictures of noise, each
with ``--questions``. ``TFLOP/s`` counts what the step has to compute, without what is computed again, so MFU (its share
of ``--peak`` TFLOP/s) is comparable between cases. ``peak`` is all that PyTorch had in use at a time.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import nn
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import make_student
from fcotvl.compress.processor import IMAGE_MEAN, IMAGE_STD
from fcotvl.core.config import DistillParams, LossParams, OptimParams
from fcotvl.evaluate.cost import training_flops
from fcotvl.internvl.architectures import teacher_config
from fcotvl.train.distill import DistillObjective
from fcotvl.train.loop import train
from fcotvl.train.losses import IGNORE
from fcotvl.train.packing import Batch, TurnTokens
from fcotvl.train.sft import SftObjective
from fcotvl.train.state import Log

PREFIX, QUESTION = 40, 20
"""Tokens before the picture, and tokens of a question."""
WARM_UP = 3
"""Steps that do not count."""


@dataclass
class Noise:
    """Pictures of noise: a training task without data."""

    objective: nn.Module
    args: argparse.Namespace
    name: str
    ends: list[float] = field(default_factory=list)
    _batch: Batch | None = None

    def horizon(self, step: int) -> int:
        """One step at a time."""
        return step

    def sample_items(self, steps: range, log: Log) -> list[range]:  # noqa: ARG002
        """Numbers of pictures."""
        return [range(self.args.pictures)] * len(steps)

    def collate(self, items: Sequence[int]) -> Batch:
        """Noise of the right shape, the same in every step: reading data is not what is measured."""
        if self._batch is None:
            self._batch = self._noise(len(items))
        return self._batch

    def _noise(self, count: int) -> Batch:
        rng = torch.Generator().manual_seed(0)
        config = self.objective.student.config
        side, words = config.vision_config.image_size[0], config.text_config.vocab_size - 1

        def tokens(count: int) -> list[int]:
            ids = torch.randint(words, (count,), generator=rng)
            return (ids + (ids >= config.image_token_id)).tolist()

        def turn(prefix: list[int]) -> TurnTokens:
            answer = tokens(self.args.answer // self.args.questions)
            return TurnTokens(prefix, tokens(QUESTION) + answer, [IGNORE] * QUESTION + answer)

        tiles = [self.args.tiles] * count
        pixels = torch.randint(256, (sum(tiles), 3, side, side), dtype=torch.uint8, generator=rng)
        turns = [[turn(prefix) for _ in range(self.args.questions)] for prefix in (tokens(PREFIX) for _ in tiles)]
        return Batch(pixels, tiles, turns, config.image_token_id, IMAGE_MEAN, IMAGE_STD)

    def record(self, step: int, items: Sequence[int], sums: Mapping[str, list[float]], lr: float) -> Log:
        """The loss."""
        return [{"step": step, "loss": sum(sums["loss"]) / sum(sums["weight"]), "items": len(items), "lr": lr}]

    def on_step_end(self, step: int) -> None:  # noqa: ARG002
        """The time, once the device is done."""
        if self.args.device != "cpu":
            torch.accelerator.synchronize()
        self.ends.append(time.perf_counter())


def build(stage: str, options: Sequence[str], args: argparse.Namespace) -> nn.Module:
    """Teacher and student with random weights, and what trains the student."""
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    with torch.device(args.device):
        teacher = InternVLForConditionalGeneration._from_config(teacher_config(args.architecture), dtype=dtype)
    student = make_student(teacher, compressor="cnn", ratio=args.ratio, share_frozen=stage == "distill")
    inner = student.to(args.device).model
    trained = [inner.compressor, inner.multi_modal_projector]
    if stage == "sft":
        trained += [inner.language_model, student.lm_head]
    for module in trained:
        module.float()
    if stage == "distill":
        params = DistillParams(temperature=1.0, ce_weight=0.0)
        return DistillObjective(teacher, student, params)
    if "matched" in options:
        return SftObjective(student, teacher, LossParams(ce_weight=0.0, hidden_weight=50.0))
    return SftObjective(student, teacher)


def measure(case: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train some steps and return their figures."""
    stage, *options = case.split(",")
    tokens = next((int(option) for option in options if option.isdigit()), args.micro_batch_tokens)
    objective = build(stage, options, args)
    optim = OptimParams(
        steps=args.steps,
        batch_size=args.pictures,
        lr=1e-4,
        micro_batch_tokens=tokens,
        activation_checkpointing="recompute" in options,
        torch_compile="compile" in options,
        workers=0,
    )
    task = Noise(objective, args, stage)
    on_device = args.device != "cpu"
    if on_device:
        torch.accelerator.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        log = train(task, optim, seed=0, folder=Path(folder), dtype=args.dtype)
    seconds = [after - before for before, after in zip(task.ends[WARM_UP:], task.ends[WARM_UP + 1 :], strict=False)]
    text = PREFIX + args.questions * QUESTION + args.answer
    flops = args.pictures * training_flops(
        objective.student.config,
        objective.teacher and objective.teacher.config,
        trains_llm=stage == "sft",
        tiles=args.tiles,
        text_tokens=text,
        answer_tokens=args.answer,
    )
    median = statistics.median(seconds)
    batch = task.collate(range(args.pictures))
    return {
        "case": case,
        "micro-batches": len(batch.micro_batches(tokens)),
        "s a step": median,
        "range": f"{min(seconds):.3f} to {max(seconds):.3f}",
        "pictures/s": args.pictures / median,
        "TFLOP/s": flops / median / 1e12,
        "MFU": flops / median / 1e12 / args.peak,
        "peak GiB": torch.accelerator.max_memory_allocated() / 2**30 if on_device else math.nan,
        "first loss": log[0]["loss"],
        "last loss": log[-1]["loss"],
    }


def main() -> None:
    """Measure the cases in turn and print a Markdown table; a case that runs out of memory says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="internvl2-1b")
    parser.add_argument("--case", action="append", help="a stage and its options, as above")
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--tiles", type=int, default=7, help="of each picture, thumbnail included")
    parser.add_argument("--answer", type=int, default=150, help="answer tokens of each picture")
    parser.add_argument("--questions", type=int, default=2, help="about each picture")
    parser.add_argument("--pictures", type=int, default=16, help="of a step")
    parser.add_argument("--micro-batch-tokens", type=int, default=32768)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s of the device (default: H100's in bfloat16)")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for case in args.case or ["distill", "sft"]:
        try:
            rows.append(measure(case, args))
        except torch.OutOfMemoryError as error:
            rows.append({"case": case, "range": str(error).partition(". ")[0]})
        if args.device != "cpu":
            torch.accelerator.empty_cache()
        print(json.dumps(rows[-1]), flush=True)
    print(tabulate(rows, "keys", tablefmt="github", floatfmt=".3g"))
    if args.output is not None:
        args.output.write_text(json.dumps({**{k: str(v) for k, v in vars(args).items()}, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
