"""Re-alignment by self-distillation: compressor and projector learn to make the student agree.

ViT and LLM are frozen and shared with the teacher (FCoT-VL, section 3.1), so a picture passes the ViT once, and the
student differs from the teacher only in the visual tokens that the LLM reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.student import FcotvlForConditionalGeneration, Features, encode_tiles, project_visual_tokens
from fcotvl.core.config import DistillParams
from fcotvl.core.prompts import MODES, Prompts, reply
from fcotvl.core.records import Turn
from fcotvl.train.dataset import RowRef, ShuffledEpochs
from fcotvl.train.losses import cross_entropy, distillation_kl, in_chunks, item_sums, turn_weights
from fcotvl.train.packing import MAX_TURNS, Answers, Batch, BatchBuilder, Chat, add_hidden, answer_states
from fcotvl.train.state import Log
from fcotvl.train.teacher_cache import TeacherCache

AHEAD = 100
"""Steps that are planned at a time."""


class DistillObjective(nn.Module):
    """(1 - ce_weight) * KL(teacher || student) + ce_weight * cross-entropy, summed per item.

    With ``hidden_weight``, the distance of hidden states is added, ``hidden_weight`` times. Batches that ``cache`` has
    do not pass the teacher's LLM.
    """

    def __init__(
        self,
        teacher: InternVLForConditionalGeneration,
        student: FcotvlForConditionalGeneration,
        params: DistillParams,
        cache: TeacherCache | None = None,
    ) -> None:
        super().__init__()
        self.cache = cache
        self.teacher = teacher.eval().requires_grad_(False)
        self.student = student.eval().requires_grad_(False)
        self.params = params
        student.model.compressor.requires_grad_(True).train()
        student.model.multi_modal_projector.requires_grad_(True).train()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, ``kl``, ``ce``, ``weight`` and maybe ``hidden`` of each item, summed over its tokens."""
        hidden = self.params.hidden_weight > 0
        with torch.no_grad():
            tokens = encode_tiles(self.teacher.model, batch.pixel_values)
            ask = partial(self._ask_teacher, batch, tokens, hidden=hidden)
            teacher = self.cache.answers(batch, ask, hidden=hidden) if self.cache else ask()
        compressed = project_visual_tokens(self.student.model, tokens, batch.tile_tokens)
        student = answer_states(self.student, batch, compressed, hidden=hidden)
        weight, share = turn_weights(student.turns), self.params.ce_weight
        vocabulary = self.student.lm_head.out_features
        losses = in_chunks(self._losses, student.states, teacher.states, student.targets, vocabulary=vocabulary)
        kl, ce = (weight * loss for loss in losses)
        terms = {"loss": (1 - share) * kl + share * ce, "kl": kl, "ce": ce, "weight": weight}
        sums = item_sums(terms, student.items, len(batch)) | {"cut": batch.cut_tokens()}
        return add_hidden(sums, student, teacher, self.params.hidden_weight)

    def _ask_teacher(self, batch: Batch, tokens: Features, *, hidden: bool) -> Answers:
        visual = project_visual_tokens(self.teacher.model, tokens)
        return answer_states(self.teacher, batch, visual, hidden=hidden)

    def _losses(self, student: Tensor, teacher: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """KL and cross-entropy of each answer token, from hidden states."""
        logits = self.student.lm_head(student)
        kl = distillation_kl(logits, self.teacher.lm_head(teacher), self.params.temperature)
        return kl, cross_entropy(logits, targets)


@dataclass(frozen=True)
class DistillTask:
    """Distillation on a corpus of pictures with transcriptions and questions."""

    objective: DistillObjective
    builder: BatchBuilder
    batch_size: int
    seed: int
    name: str = "distill"

    @cached_property
    def _order(self) -> ShuffledEpochs[RowRef]:
        return ShuffledEpochs(self.builder.corpus.refs(), f"distill-{self.seed}")

    def horizon(self, step: int) -> int:
        """Any step would do: no loss changes what comes."""
        return step + AHEAD - 1

    def sample_items(self, steps: range, log: Log) -> list[list[tuple[int, RowRef]]]:  # noqa: ARG002
        """The next pictures of each step, with their numbers; every epoch has every picture once."""
        size = self.batch_size
        return [[(i, self._order[i]) for i in range((step - 1) * size, step * size)] for step in steps]

    def collate(self, items: Sequence[tuple[int, RowRef]]) -> Batch:
        """The pictures, each with its transcription and some of its questions."""
        corpus, prompts = self.builder.corpus, self.builder.prompts
        names = [f"{self.seed}-{index}" for index, _ in items]
        chats = [
            choose_chats(corpus[ref].turns, prompts, Random(name))  # noqa: S311
            for name, (_, ref) in zip(names, items, strict=True)
        ]
        return self.builder.build([ref for _, ref in items], chats, names)

    def record(self, step: int, items: Sequence[Any], sums: Mapping[str, list[float]], lr: float) -> Log:
        """One row: the losses per answer token of this step."""
        _ = items
        total = sum(sums["weight"])
        means = {key: round(sum(sums[key]) / total, 6) for key in ("loss", "kl", "ce", "hidden") if key in sums}
        return [{"step": step, **means, "lr": float(f"{lr:.6g}")}]

    def on_step_end(self, step: int) -> None:
        """Do nothing: only the last state is kept."""


def choose_chats(turns: Sequence[Turn], prompts: Prompts, rng: Random) -> list[Chat]:
    """Up to ``MAX_TURNS`` turns: the transcription first, then questions in random order.

    A question with a rationale is asked under either prompt, so that the student learns to read for both.
    """
    texts = [turn for turn in turns if turn.kind == "transcribe"]
    questions = [turn for turn in turns if turn.kind != "transcribe" and turn.answers]
    rng.shuffle(questions)
    chats = []
    for turn in (texts + questions)[:MAX_TURNS]:
        reasons = turn.kind != "transcribe" and turn.rationale is not None
        mode = rng.choice(MODES) if reasons else "direct"
        chats.append(Chat(prompts.ask(turn, mode), reply(turn, mode)))
    return chats
