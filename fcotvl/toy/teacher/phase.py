"""The training loop of each phase of the recipe: it resumes where it was stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from fcotvl.toy.teacher.samples import Sample
from fcotvl.train.optim import Muon
from fcotvl.train.state import load_state, save_state

log = logging.getLogger(__name__)
LOG_STEPS = 25


@dataclass(frozen=True)
class StepResult:
    """A loss to minimise and figures for the log."""

    loss: Float[Tensor, ""]
    correct: Mapping[str, tuple[float, int]]
    """Correct and all predictions, by kind."""
    losses: Mapping[str, float]
    """Parts of the loss, by name."""

    def __add__(self, other: StepResult) -> StepResult:
        """Sum of the losses and union of the figures."""
        correct, losses = {**self.correct, **other.correct}, {**self.losses, **other.losses}
        return StepResult(self.loss + other.loss, correct, losses)


@dataclass
class RunningAccuracy:
    """Exponential moving average of the accuracy, by kind; empty until the first step."""

    rates: dict[str, float] = field(default_factory=dict)
    decay: float = 0.98

    def add(self, correct: Mapping[str, tuple[float, int]]) -> None:
        """Take in the correct and all predictions of one batch."""
        for kind, (right, count) in correct.items():
            old = self.rates.get(kind, right / count)
            self.rates[kind] = self.decay * old + (1 - self.decay) * right / count


@dataclass(frozen=True)
class Phase:
    """One phase of the recipe: what is trained on what, and for how long."""

    name: str
    modules: Mapping[str, nn.Module]
    """What is trained, by a name for the saved state."""
    step: Callable[[list[Sample], int], StepResult]
    """Result of a batch at a step, which is counted from 0."""
    batches: Callable[[int], Iterator[list[Sample]]]
    """The batches of a step and of all steps after it."""
    steps: int
    peak: float
    """Highest learning rate."""


def train_phase(phase: Phase, model: nn.Module, folder: Path, *, save_seconds: float = 60.0) -> RunningAccuracy:
    """Train the modules of ``phase`` and log how long it took over all runs.

    Args:
        phase: what to do.
        model: the whole model, in training mode meanwhile.
        folder: state of a stopped run, saved every ``save_seconds`` and after the last step.
        save_seconds: time between two saves.

    Returns:
        The accuracy of the steps of this run; empty if the phase was already finished.
    """
    parameters = {
        f"{module_name}.{name}": parameter
        for module_name, module in phase.modules.items()
        for name, parameter in module.named_parameters()
    }
    optimizer = Muon(parameters, betas=(0.9, 0.98), adamw_names=("conv", "embed", "head"))
    done, history = load_state(folder, parameters, optimizer)
    seconds = history[-1]["seconds"] if history else 0.0
    accuracy = RunningAccuracy()
    log.info("phase %s: %d of %d steps are done", phase.name, done, phase.steps)
    started = saved = time.monotonic()
    model.train()
    for step, samples in zip(range(done, phase.steps), phase.batches(done), strict=False):
        result = phase.step(samples, step)
        result.loss.backward()
        accuracy.add(result.correct)
        _update(optimizer, warmup_stable_decay(step, phase.steps, phase.peak))
        if step % LOG_STEPS == 0:
            figures = {"loss": result.loss.item(), **result.losses, **accuracy.rates}
            text = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
            log.info("%s %d/%d %s", phase.name, step, phase.steps, text)
        if step + 1 == phase.steps or time.monotonic() - saved >= save_seconds:
            saved = time.monotonic()
            history.append({"step": step + 1, "seconds": seconds + saved - started})
            save_state(folder, parameters, optimizer, step + 1, history)
    model.eval()
    total = history[-1]["seconds"] if history else 0.0
    log.info("%s took %.0f s for %d steps", phase.name, total, phase.steps)
    return accuracy


def _update(optimizer: Muon, lr: float) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def warmup_stable_decay(step: int, steps: int, peak: float, *, warmup: int = 100) -> float:
    """Learning rate that rises, stays, and falls to a twentieth over the last fifth."""
    decay = max(1, steps // 5)
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, max(0.05, (steps - step) / decay))
    return peak * min(rise, fall)
