"""Re-alignment by self-distillation: compressor and projector learn to make the student agree.

ViT and LLM are frozen and shared with the teacher (FCoT-VL, section 3.1), so a picture passes the
ViT once, and the student differs from the teacher only in what the LLM reads of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.student import (
    FcotvlForConditionalGeneration,
    Visual,
    encode_tiles,
    project_visual_tokens,
)
from fcotvl.core.config import DistillParams
from fcotvl.core.prompts import MODES, Prompts, reply
from fcotvl.core.records import Turn
from fcotvl.train.dataset import Place, Shuffled
from fcotvl.train.losses import cross_entropy, distillation_kl, item_sums, turn_weights
from fcotvl.train.packing import Answers, Batch, Chat, answers, pack
from fcotvl.train.reader import Reader
from fcotvl.train.state import Log

TURNS = 3
"""Turns asked about a picture in one step: transcription, if it has one, and questions."""


class Distillation(nn.Module):
    """Sums per item of (1 - ce_weight) * KL(teacher || student) + ce_weight * cross-entropy."""

    def __init__(
        self,
        teacher: InternVLForConditionalGeneration,
        student: FcotvlForConditionalGeneration,
        settings: DistillParams,
    ) -> None:
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self.student = student.eval().requires_grad_(False)
        self.settings = settings
        student.model.compressor.requires_grad_(True).train()
        student.model.multi_modal_projector.requires_grad_(True).train()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, ``kl``, ``ce`` and ``weight`` of each item, summed over its answer tokens."""
        with torch.no_grad():
            tokens = encode_tiles(self.teacher.model, batch.pixel_values)
            taught = _answers(
                self.teacher, batch, project_visual_tokens(self.teacher.model, tokens)
            )
        seen = project_visual_tokens(self.student.model, tokens, batch.tile_tokens)
        said = _answers(self.student, batch, seen)
        weight = turn_weights(said.turns)
        kl = weight * distillation_kl(said.logits, taught.logits, self.settings.temperature)
        ce = weight * cross_entropy(said.logits, said.targets)
        share = self.settings.ce_weight
        terms = {"loss": (1 - share) * kl + share * ce, "kl": kl, "ce": ce, "weight": weight}
        return item_sums(terms, said.items, len(batch))


def _answers(model: InternVLForConditionalGeneration, batch: Batch, visual: Visual) -> Answers:
    return answers(model, pack(batch, visual), visual)


@dataclass(frozen=True)
class Distill:
    """Distillation on a corpus of pictures with transcriptions and questions."""

    objective: Distillation
    reader: Reader
    batch_size: int
    seed: int
    name: str = "distill"

    @cached_property
    def _order(self) -> Shuffled[Place]:
        return Shuffled(self.reader.corpus.places(), f"distill-{self.seed}")

    def draw(self, step: int, log: Log) -> list[tuple[int, Place]]:  # noqa: ARG002
        """Each item is the number of the draw and a picture; every epoch has every picture once."""
        first = (step - 1) * self.batch_size
        return [(index, self._order[index]) for index in range(first, first + self.batch_size)]

    def collate(self, items: Sequence[tuple[int, Place]]) -> Batch:
        """The pictures, each with its transcription and some of its questions."""
        chats = [
            choose_chats(
                self.reader.corpus[place].turns,
                self.reader.prompts,
                Random(f"{self.seed}-{index}"),  # noqa: S311 - sampling, not secrets
            )
            for index, place in items
        ]
        return self.reader.batch([place for _, place in items], chats)

    def record(
        self, step: int, items: Sequence[Any], sums: Mapping[str, list[float]], lr: float
    ) -> Log:
        """One row: the losses per answer token of this step."""
        _ = items
        total = sum(sums["weight"])
        means = {key: round(sum(sums[key]) / total, 6) for key in ("loss", "kl", "ce")}
        return [{"step": step, **means, "lr": float(f"{lr:.6g}")}]

    def finished(self, step: int) -> None:
        """Nothing is kept but the last state."""


def choose_chats(turns: Sequence[Turn], prompts: Prompts, rng: Random) -> list[Chat]:
    """Up to ``TURNS`` turns: the transcription first, then questions in random order.

    A question with a rationale is asked under either prompt, so that the student learns to read for
    both.
    """
    texts = [turn for turn in turns if turn.kind == "transcribe"]
    questions = [turn for turn in turns if turn.kind != "transcribe" and turn.answers]
    rng.shuffle(questions)
    return [_chat(turn, prompts, rng) for turn in (texts + questions)[:TURNS]]


def _chat(turn: Turn, prompts: Prompts, rng: Random) -> Chat:
    reasons = turn.kind != "transcribe" and turn.rationale is not None
    mode = rng.choice(MODES) if reasons else "direct"
    return Chat(prompts.ask(turn, mode), reply(turn, mode))
