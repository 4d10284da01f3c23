"""Time and memory of a step of distillation, compared with the two-model loop that one would write with transformers.

    OMP_NUM_THREADS=1 python benchmarks/distill.py --teacher teachers/tiny --pictures 8 --steps 3
    OMP_NUM_THREADS=1 python benchmarks/distill.py --architecture internvl2-1b --layers 2

The two-model loop holds a teacher, and a student that is a copy of it with a compressor. Each question is a row of its
own, which either model reads from the pixels to the logits of all positions. The KL is taken over the whole vocabulary
at all positions of text, of which those of answers count. Both sides train the same parameters on the same questions,
as many pictures at a time. Before anything is measured, their losses and gradients are compared.

The sides take ``--steps`` steps in turn, ``--pairs`` times; a ratio is the median over the pairs, with the least and
the greatest. On a CPU, time is CPU time of this process, so that a busy machine does not change the ratio. Memory is
the peak of a process that holds one side, as in ``merge.py``; on a CPU it needs Linux. Weights are random but for
``--teacher``. With few ``--layers``, more of the time goes into logits than in the whole model.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from cost import now, shorten
from merge import Peak
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from train import Noise
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import load_teacher, make_student
from fcotvl.compress.config import visual_tokens
from fcotvl.core.config import DistillParams, OptimParams
from fcotvl.internvl.architectures import teacher_config
from fcotvl.train.distill import DistillObjective
from fcotvl.train.layers import prepare_layers
from fcotvl.train.loop import MAX_GRAD_NORM, train
from fcotvl.train.losses import IGNORE
from fcotvl.train.packing import MAX_TURNS, Batch

LR = 1e-4


class Timed(Noise):
    """Noise whose steps are timed as ``cost.py`` does."""

    def collate(self, items: Sequence[int]) -> Batch:
        """The batch of every step, which begins here."""
        self.ends.append(now(self.args.device))
        return super().collate(items)

    def on_step_end(self, step: int) -> None:  # noqa: ARG002
        """The time, once the device is done."""
        self.ends.append(now(self.args.device))


class Side:
    """A student and how it is trained."""

    share_frozen = False

    def __init__(self, teacher: InternVLForConditionalGeneration, args: argparse.Namespace) -> None:
        self.args, self.teacher = args, teacher.eval().requires_grad_(False)
        student = make_student(teacher, compressor="cnn", ratio=args.ratio, share_frozen=self.share_frozen)
        self.student = student.to(args.device).requires_grad_(False)
        modules = (student.model.compressor, student.model.multi_modal_projector)
        self.trained = [p for module in modules for p in module.float().requires_grad_(True).parameters()]

    def gradients(self, batch: Batch) -> list[Tensor]:
        """The loss of a batch, and its gradient of each parameter that is trained."""
        loss = self.loss(batch)
        return [loss.detach(), *torch.autograd.grad(loss, self.trained)]


class Shipped(Side):
    """The project's objective and loop."""

    share_frozen = True

    def loss(self, batch: Batch) -> Tensor:
        """KL(teacher || student) per answer token, each weighted by 1 / sqrt(answer tokens of its turn)."""
        objective, device = self._objective(), torch.device(self.args.device)
        prepare_layers(objective, self._optim(batch))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.args.dtype != "float32"):
            sums = objective(batch.to(device))
        loss: Tensor = sums["loss"].sum() / sums["weight"].sum()
        return loss

    def seconds(self, batch: Batch) -> float:
        """A step's, by the median of ``--steps``."""
        task = Timed(self._objective(), self.args, "distill", _batch=batch)
        with tempfile.TemporaryDirectory() as folder:
            train(task, self._optim(batch), seed=0, folder=Path(folder), dtype=self.args.dtype)
        return statistics.median(end - start for start, end in zip(task.ends[::2], task.ends[1::2], strict=True))

    def _objective(self) -> DistillObjective:
        """A new one each time: the loop wraps it."""
        return DistillObjective(self.teacher, self.student, DistillParams(temperature=1.0, ce_weight=0.0))

    def _optim(self, batch: Batch) -> OptimParams:
        tokens = self.args.together * max(batch.lengths())
        return OptimParams(steps=self.args.steps, batch_size=len(batch), lr=LR, micro_batch_tokens=tokens, workers=0)


class TwoModels(Side):
    """The loop that one would write with transformers."""

    def loss(self, batch: Batch) -> Tensor:
        """The same."""
        with torch.no_grad():
            teacher, weights = self._text_logits(self.teacher, batch)
        student, _ = self._text_logits(self.student, batch)
        log_p, log_q = (functional.log_softmax(logits.float(), dim=-1) for logits in (teacher, student))
        kl = functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)
        return (weights * kl).sum() / weights.sum()

    def _text_logits(self, model: InternVLForConditionalGeneration, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits at the positions of text, row by row, and the weight of the token that each predicts."""
        device, per_tile = torch.device(self.args.device), visual_tokens(model.config)
        ids, weights, pixels = [], [], []
        for turns, tiles in zip(batch.turns, batch.to(device).pixel_values.split(batch.num_tiles), strict=True):
            for turn in turns:
                visual = [batch.image_token_id] * (per_tile * len(tiles))
                ids.append(torch.tensor(turn.prefix + visual + turn.suffix))
                is_answer = torch.tensor([IGNORE] * (len(turn.prefix) + len(visual)) + turn.labels) != IGNORE
                weights.append(is_answer / is_answer.sum().sqrt())
                pixels.append(tiles)
        mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(device)
        input_ids, weight = (pad_sequence(rows, batch_first=True).to(device) for rows in (ids, weights))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.args.dtype != "float32"):
            pixel_values = torch.cat(pixels).to(model.dtype)
            logits = model(input_ids=input_ids, attention_mask=mask, pixel_values=pixel_values, use_cache=False).logits
        is_text = (mask.bool() & (input_ids != batch.image_token_id))[:, 1:]
        return logits[:, :-1][is_text], weight[:, 1:][is_text]

    def seconds(self, batch: Batch) -> float:
        """A step's, by the median of ``--steps``."""
        optimizer, ends, size = torch.optim.AdamW(self.trained, lr=LR), [now(self.args.device)], self.args.together
        parts = [range(start, min(start + size, len(batch))) for start in range(0, len(batch), size)]
        for _ in range(self.args.steps):
            for part in parts:  # all pictures have as many answer tokens
                (self.loss(batch.select(part)) * len(part) / len(batch)).backward()
            nn.utils.clip_grad_norm_(self.trained, MAX_GRAD_NORM)
            optimizer.step()
            optimizer.zero_grad()
            ends.append(now(self.args.device))
        return statistics.median(after - before for before, after in pairwise(ends))


SIDES = {"two models": TwoModels, "fcotvl": Shipped}


def load(args: argparse.Namespace) -> InternVLForConditionalGeneration:
    """The teacher."""
    dtype = getattr(torch, args.dtype)
    if args.teacher is not None:
        return load_teacher(args.teacher, dtype=dtype).to(args.device)
    config = teacher_config(args.architecture)
    if args.layers:
        config.vision_config.num_hidden_layers = args.layers
        shorten(config, args.layers)
    torch.manual_seed(0)
    with torch.device(args.device):
        return InternVLForConditionalGeneration._from_config(config, dtype=dtype)


def noise(side: Side, args: argparse.Namespace) -> Batch:
    """The pictures and questions of every step."""
    return Noise(side, args, "").collate(range(args.pictures))


def peak_bytes(name: str, args: argparse.Namespace) -> int:
    """What this process holds at most, with the models of one side and while they are trained."""
    peak = Peak() if args.device == "cpu" else None
    side = SIDES[name](load(args), args)
    side.seconds(noise(side, args))
    return peak.end() if peak else torch.accelerator.max_memory_allocated()


def spread(values: list[float]) -> str:
    """Median, least and greatest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Compare losses and gradients, measure both sides in turn, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, help="folder of a teacher, in place of random weights")
    parser.add_argument("--architecture", default="internvl2-1b")
    parser.add_argument("--layers", type=int, default=0, help="of ViT and LLM (default: all)")
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--tiles", type=int, default=1, help="of each picture, thumbnail included")
    parser.add_argument("--answer", type=int, default=150, help="answer tokens of each picture")
    parser.add_argument("--questions", type=int, default=MAX_TURNS, help="about each picture")
    parser.add_argument("--pictures", type=int, default=1, help="of a step")
    parser.add_argument("--together", type=int, default=1, help="pictures that are computed at a time")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args()
    if args.side:
        print(peak_bytes(args.side, args))
        return
    command = [sys.executable, *sys.argv, "--side"]
    runs = {name: subprocess.run([*command, name], check=True, capture_output=True, text=True).stdout for name in SIDES}
    peaks = {name: int(text.split()[-1]) for name, text in runs.items()}
    teacher = load(args)
    sides = {name: kind(copy.deepcopy(teacher), args) for name, kind in SIDES.items()}
    batch = noise(sides["fcotvl"], args)
    theirs, ours = (side.gradients(batch) for side in sides.values())
    tolerance = 1e-3 if args.dtype == "float32" else 5e-2
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))
    pairs = [{name: side.seconds(batch) for name, side in sides.items()} for _ in range(args.pairs)]
    rows = [[name, spread([pair[name] for pair in pairs]), peaks[name] / 2**30] for name in SIDES]
    ratios = [pair["two models"] / pair["fcotvl"] for pair in pairs]
    memory = peaks["two models"] / peaks["fcotvl"]
    rows.append(["ratio", spread(ratios), memory])
    print(tabulate(rows, ["", "s a step", "peak GiB"], tablefmt="github", floatfmt=".3g"))
    print(f"\nLoss: {float(theirs[0]):.6g} of two models, {float(ours[0]):.6g} of fcotvl; gradients agree.")
    if args.output is not None:
        figures = {"ratios": ratios, "memory": memory, "peaks": peaks, "pairs": pairs}
        args.output.write_text(json.dumps({**{k: str(v) for k, v in vars(args).items()}, **figures}, indent=2))


if __name__ == "__main__":
    main()
