"""Post-training: direct answers and rationales from data sets whose weights follow the losses.

Compressor, projector and LLM are trained; the ViT stays frozen, as in InternVL2's own fine-tuning.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.student import FcotvlForConditionalGeneration, Features, encode_tiles, project_visual_tokens
from fcotvl.core.config import LossParams, ResamplingParams
from fcotvl.train.losses import cross_entropy, distillation_kl, in_chunks, item_sums, turn_weights
from fcotvl.train.packing import Answers, Batch, BatchBuilder, add_hidden, answer_states
from fcotvl.train.resampling import LossRow, Rule, Weights, windows
from fcotvl.train.sft_datasets import SftDatasets, SftItem, systematic_sample
from fcotvl.train.state import Log

CROSS_ENTROPY = LossParams()
"""The paper's loss."""
REFERENCE_ITEMS = 16
"""Pictures of a data set behind the teacher's loss on it."""


class SftObjective(nn.Module):
    """ce_weight * cross-entropy + (1 - ce_weight) * KL(teacher || student), summed per item.

    The distance of hidden states is added ``hidden_weight`` times. The paper fine-tunes by cross-entropy alone. A loss
    that asks the teacher, which reads all visual tokens of the same chats, is an extension of ours.
    """

    def __init__(
        self,
        student: FcotvlForConditionalGeneration,
        teacher: InternVLForConditionalGeneration,
        params: LossParams = CROSS_ENTROPY,
    ) -> None:
        super().__init__()
        self.student, self.params = student.train(), params
        self.teacher = teacher.eval().requires_grad_(False) if params.asks_teacher else None
        student.requires_grad_(True)
        student.model.vision_tower.eval().requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, ``ce``, ``weight`` and maybe ``hidden`` of each item, summed over its tokens."""
        hidden, teacher = self.params.hidden_weight > 0, None
        with torch.no_grad():
            tokens = encode_tiles(self.student.model, batch.pixel_values)
        student = _read(self.student, batch, tokens, hidden=hidden)
        states = [student.targets, student.states]
        if self.teacher is not None:
            with torch.no_grad():
                teacher = _read(self.teacher, batch, tokens, hidden=hidden)
            states.append(teacher.states)
        loss, ce = in_chunks(self._losses, *states, vocabulary=self.student.lm_head.out_features)
        weight = turn_weights(student.turns)
        terms = {"loss": weight * loss, "ce": weight * ce, "weight": weight}
        sums = item_sums(terms, student.items, len(batch)) | {"cut": batch.cut_tokens()}
        return add_hidden(sums, student, teacher, self.params.hidden_weight) if teacher else sums

    def _losses(self, targets: Tensor, student: Tensor, teacher: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The loss and its cross-entropy of each answer token, from hidden states."""
        logits = self.student.lm_head(student)
        loss = ce = cross_entropy(logits, targets)
        if self.teacher is not None:
            kl = distillation_kl(logits, self.teacher.lm_head(teacher))
            loss = self.params.ce_weight * ce + (1 - self.params.ce_weight) * kl
        return loss, ce


def _read(model: InternVLForConditionalGeneration, batch: Batch, tokens: Features, *, hidden: bool = False) -> Answers:
    """What ``model`` reads at the answer tokens, given the ViT's visual tokens."""
    return answer_states(model, batch, project_visual_tokens(model.model, tokens, batch.tile_tokens), hidden=hidden)


@dataclass
class SftTask:
    """Fine-tuning on several data sets, with weights that a resampling rule makes of the log."""

    objective: SftObjective
    builder: BatchBuilder
    datasets: SftDatasets
    reference: Mapping[str, float]
    """The teacher's loss per data set."""
    rule: Rule
    limits: ResamplingParams
    reweigh: int
    """Steps between two updates of the weights."""
    batch_size: int
    on_step_end: Callable[[int], None] = lambda _: None
    name: str = "sft"
    _weights: dict[int, Weights] = field(default_factory=dict)
    _counted: int = 0
    """Rows of the log that are in ``_drawn``."""
    _drawn: Counter[str] = field(default_factory=Counter)
    """Items of each data set up to there."""

    def horizon(self, step: int) -> int:
        """The last step before weights change."""
        return -(-step // self.reweigh) * self.reweigh

    def sample_items(self, steps: range, log: Log) -> list[list[SftItem]]:
        """Items by the weights of each step: as near to them as a batch can be."""
        for row in log[self._counted :]:
            self._drawn[row["dataset"]] += row["n"]
        self._counted, drawn = len(log), self._drawn.copy()
        planned = []
        for step in steps:
            rng = Random(f"sft-{self.datasets.seed}-{step}")  # noqa: S311 - sampling, not secrets
            items = []
            for dataset in systematic_sample(self.weights(step, log), self.batch_size, rng.random()):
                items.append(self.datasets.item(dataset, drawn[dataset]))
                drawn[dataset] += 1
            planned.append(items)
        return planned

    def weights(self, step: int, log: Log) -> Weights:
        """Sampling weights of ``step``, from all updates before it."""
        updates = (step - 1) // self.reweigh
        if updates not in self._weights:
            rows = [LossRow(**row) for row in log if row["step"] <= updates * self.reweigh]
            self._weights[updates] = self.rule(self.datasets.initial_weights, windows(rows, self.reweigh), self.limits)
        return self._weights[updates]

    def collate(self, items: Sequence[SftItem]) -> Batch:
        """The pictures, each with some of its questions and a reply to each."""
        return self.datasets.batch(items, self.builder)

    def record(self, step: int, items: Sequence[SftItem], sums: Mapping[str, list[float]], lr: float) -> Log:
        """One row per data set of this step, with its cross-entropy, which the teacher's loss is comparable to."""
        _ = lr
        rows = []
        for dataset in sorted({item.dataset for item in items}):
            own = [i for i, item in enumerate(items) if item.dataset == dataset]
            loss = sum(sums["ce"][i] for i in own) / sum(sums["weight"][i] for i in own)
            row = {"step": step, "dataset": dataset, "loss": round(loss, 6), "n": len(own)}
            rows.append(row | {"reference": self.reference[dataset]})
        return rows

    def trajectory(self, log: Log, steps: int) -> list[dict[str, object]]:
        """The sampling weights after each update, one row per data set."""
        return [
            {"step": step, "dataset": dataset, "weight": round(weight, 6)}
            for step in range(1, steps + 1, self.reweigh)
            for dataset, weight in self.weights(step, log).items()
        ]


def teacher_reference(
    teacher: InternVLForConditionalGeneration, datasets: SftDatasets, builder: BatchBuilder, micro_batch_tokens: int
) -> dict[str, float]:
    """The teacher's loss on the first items of each data set, nats per answer token.

    Args:
        teacher: the teacher.
        datasets: what is trained on.
        builder: makes batches of it.
        micro_batch_tokens: tokens before compression that are computed at a time.
    """

    def losses(states: Tensor, targets: Tensor) -> tuple[Tensor]:
        return (cross_entropy(teacher.lm_head(states), targets),)

    reference = {}
    for dataset in datasets.initial_weights:
        whole = datasets.batch([datasets.item(dataset, i) for i in range(REFERENCE_ITEMS)], builder)
        lost = counted = 0.0
        for part in whole.micro_batches(micro_batch_tokens):
            batch = whole.select(part).to(teacher.device)
            with torch.inference_mode():
                output = _read(teacher, batch, encode_tiles(teacher.model, batch.pixel_values))
                (ce,) = in_chunks(losses, output.states, output.targets, vocabulary=teacher.lm_head.out_features)
                weight = turn_weights(output.turns)
            lost += float((weight * ce).sum())
            counted += float(weight.sum())
        reference[dataset] = round(lost / counted, 6)
    return reference
