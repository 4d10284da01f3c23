"""Post-training: direct answers and rationales from data sets whose weights follow the losses.

Compressor, projector and LLM learn; the ViT stays frozen, as in InternVL2's own fine-tuning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.student import (
    FcotvlForConditionalGeneration,
    encode_tiles,
    project_visual_tokens,
)
from fcotvl.train.losses import cross_entropy, item_sums, turn_weights
from fcotvl.train.packing import Batch, answers, pack
from fcotvl.train.reader import Reader
from fcotvl.train.resampling import Row, Rule, Settings, Weights, windows
from fcotvl.train.sft_datasets import Drawn, Mixture, spread
from fcotvl.train.state import Log

REFERENCE_ITEMS = 16
"""Pictures of a data set behind the teacher's loss on it."""


class FineTuning(nn.Module):
    """Cross-entropy of each item, summed over its answer tokens, for a student that learns."""

    def __init__(self, student: FcotvlForConditionalGeneration) -> None:
        super().__init__()
        self.student = student.train()
        student.requires_grad_(True)
        student.model.vision_tower.eval().requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``loss`` and ``weight`` of each item."""
        return answer_losses(self.student, batch)


def answer_losses(model: InternVLForConditionalGeneration, batch: Batch) -> dict[str, Tensor]:
    """``loss`` and ``weight`` of each item, summed over its answer tokens."""
    with torch.no_grad():
        tokens = encode_tiles(model.model, batch.pixel_values)
    visual = project_visual_tokens(model.model, tokens, batch.tile_tokens)
    said = answers(model, pack(batch, visual), visual)
    weight = turn_weights(said.turns)
    terms = {"loss": weight * cross_entropy(said.logits, said.targets), "weight": weight}
    return item_sums(terms, said.items, len(batch))


@dataclass
class Sft:
    """Fine-tuning on a mixture, with weights that a rule makes of the log."""

    objective: FineTuning
    reader: Reader
    mixture: Mixture
    reference: Mapping[str, float]
    """The teacher's loss per data set."""
    rule: Rule
    settings: Settings
    reweigh: int
    batch_size: int
    keep: Callable[[int], None] = lambda _: None
    """Called after each step, to keep checkpoints."""
    name: str = "sft"
    _weights: dict[int, Weights] = field(default_factory=dict)

    def draw(self, step: int, log: Log) -> list[Drawn]:
        """Items by the weights of this step: as near to them as a batch can be."""
        weights = self.weights(step, log)
        rng = Random(f"sft-{self.mixture.seed}-{step}")  # noqa: S311 - sampling, not secrets
        counts = self._counted(log)
        drawn = []
        for dataset in spread(weights, self.batch_size, rng.random()):
            drawn.append(self.mixture.draw(dataset, counts[dataset]))
            counts[dataset] += 1
        return drawn

    def weights(self, step: int, log: Log) -> Weights:
        """Sampling weights of ``step``, from all updates before it."""
        updates = (step - 1) // self.reweigh
        if updates not in self._weights:
            rows = [Row(**row) for row in log if row["step"] <= updates * self.reweigh]
            self._weights[updates] = self.rule(
                self.mixture.start, windows(rows, self.reweigh), self.settings
            )
        return self._weights[updates]

    def _counted(self, log: Log) -> Counter[str]:
        """Draws so far by data set."""
        counts: Counter[str] = Counter()
        for row in log:
            counts[row["dataset"]] += row["n"]
        return counts

    def collate(self, items: Sequence[Drawn]) -> Batch:
        """The pictures, each with some of its questions and a reply to each."""
        return collate(items, self.mixture, self.reader)

    def record(
        self, step: int, items: Sequence[Drawn], sums: Mapping[str, list[float]], lr: float
    ) -> Log:
        """One row per data set of this step."""
        _ = lr
        rows = []
        for dataset in sorted({drawn.dataset for drawn in items}):
            own = [i for i, drawn in enumerate(items) if drawn.dataset == dataset]
            loss = sum(sums["loss"][i] for i in own) / sum(sums["weight"][i] for i in own)
            rows.append(
                {
                    "step": step,
                    "dataset": dataset,
                    "loss": round(loss, 6),
                    "n": len(own),
                    "reference": self.reference[dataset],
                }
            )
        return rows

    def finished(self, step: int) -> None:
        """Keep a checkpoint where one is due."""
        self.keep(step)

    def trajectory(self, log: Log, steps: int) -> list[dict[str, object]]:
        """The sampling weights after each update, one row per data set."""
        return [
            {"step": step, "dataset": dataset, "weight": round(weight, 6)}
            for step in range(1, steps + 1, self.reweigh)
            for dataset, weight in self.weights(step, log).items()
        ]


def collate(items: Sequence[Drawn], mixture: Mixture, reader: Reader) -> Batch:
    """The pictures of drawn items, each with some of its questions."""
    chats = [
        mixture.chats(drawn, reader.corpus[drawn.place].turns, reader.prompts) for drawn in items
    ]
    return reader.batch([drawn.place for drawn in items], chats)


def teacher_reference(
    teacher: InternVLForConditionalGeneration, mixture: Mixture, reader: Reader
) -> dict[str, float]:
    """The teacher's loss on the first draws of each data set, nats per answer token."""
    reference = {}
    for dataset in mixture.start:
        items = [mixture.draw(dataset, i) for i in range(REFERENCE_ITEMS)]
        with torch.inference_mode():
            sums = answer_losses(teacher, collate(items, mixture, reader).to(teacher.device))
        reference[dataset] = round(float(sums["loss"].sum() / sums["weight"].sum()), 6)
    return reference
