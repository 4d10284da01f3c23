"""Scratch state of a training phase: tensors as safetensors, step and time as JSON."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fcotvl.toy.teacher.optim import Optimizers, warm_decay

log = logging.getLogger(__name__)


@dataclass
class Tally:
    """Smoothed shares of what goes right, by name; empty where no step was taken."""

    rates: dict[str, float]
    decay: float = 0.98

    def add(self, found: dict[str, tuple[float, int]]) -> None:
        """Take in one batch."""
        for kind, (right, count) in found.items():
            old = self.rates.get(kind, right / count)
            self.rates[kind] = self.decay * old + (1 - self.decay) * right / count

    def __str__(self) -> str:
        return " ".join(f"{kind} {rate:.3f}" for kind, rate in sorted(self.rates.items()))


class Progress:
    """Keeps a phase's modules and optimizers, so that a killed phase goes on where it was."""

    def __init__(self, folder: Path, modules: dict[str, nn.Module], *, every_s: float = 60) -> None:
        self.folder, self.modules, self.every_s = folder, modules, every_s
        self._last = time.monotonic()

    @property
    def done(self) -> int:
        """Steps that are safely on disk."""
        return int(self._kept()["step"])

    @property
    def seconds(self) -> float:
        """What the steps on disk took, over all the runs that it took to do them."""
        return float(self._kept()["seconds"])

    def _kept(self) -> dict[str, Any]:
        meta = self.folder / "progress.json"
        kept: dict[str, Any] = {"step": 0, "seconds": 0.0}
        return json.loads(meta.read_text()) if meta.exists() else kept

    def resume(self, optimizers: Optimizers) -> int:
        """Load what is there and return the number of steps taken."""
        step = self.done
        if step:
            tensors = load_file(self.folder / f"{step}.safetensors")
            for name, module in self.modules.items():
                own = {
                    k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + ".")
                }
                module.load_state_dict(own, strict=False)
            _fill(optimizers, tensors)
        return step

    def steps(self, optimizers: Optimizers, steps: int, peak: float) -> Iterator[int]:
        """Number each step that is left; behind each the optimizers step, and at times all is kept.

        The log says at the end what the phase took.

        Args:
            optimizers: of the modules.
            steps: of the whole phase.
            peak: highest learning rate.
        """
        first = self.resume(optimizers)
        self._last = time.monotonic()
        for step in range(first, steps):
            yield step
            optimizers.step(warm_decay(step, steps, peak))
            if step + 1 == steps or time.monotonic() - self._last >= self.every_s:
                self._save(step + 1, optimizers)
        log.info("%s took %.0f s for %d steps", self.folder.name, self.seconds, steps)

    def _save(self, step: int, optimizers: Optimizers) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        seconds = self.seconds + time.monotonic() - self._last
        tensors = {
            f"{name}.{key}": value.detach().clone()
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }
        tensors |= _states(optimizers)
        save_file(tensors, self.folder / f"{step}.safetensors")
        draft = self.folder / "progress.tmp"
        draft.write_text(json.dumps({"step": step, "seconds": seconds}))
        draft.replace(self.folder / "progress.json")
        for old in self.folder.glob("*.safetensors"):
            if old.stem != str(step):
                old.unlink()
        self._last = time.monotonic()


def _states(optimizers: Optimizers) -> dict[str, Tensor]:
    return {
        f"optimizer.{index}.{key}": value.detach().clone()
        for index, param in enumerate(optimizers.params)
        for optimizer in optimizers.optimizers
        for key, value in optimizer.state.get(param, {}).items()
        if isinstance(value, Tensor)
    }


def _fill(optimizers: Optimizers, tensors: dict[str, Tensor]) -> None:
    for index, param in enumerate(optimizers.params):
        prefix = f"optimizer.{index}."
        state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        for optimizer in optimizers.optimizers:
            if state and any(param is p for g in optimizer.param_groups for p in g["params"]):
                optimizer.state[param] = dict(state)
