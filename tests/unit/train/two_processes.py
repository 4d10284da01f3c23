"""Run by test_processes.py under torchrun: fit a line on this process's share of every batch."""

import json
import sys
from pathlib import Path

from fcotvl.core.processes import is_main
from fcotvl.train.loop import train
from tests.unit.train.test_loop import OPTIM, Task


class Quiet(Task):
    """Without noise, whose generator is each process's own."""

    def collate(self, items):
        points = super().collate(items)
        points.noise = 0.0
        return points


for micro_batch_tokens in sys.argv[2:]:
    task, folder = Quiet(), Path(sys.argv[1], micro_batch_tokens)
    optim = OPTIM.model_copy(update={"micro_batch_tokens": int(micro_batch_tokens)})
    log = train(task, optim, seed=0, folder=folder)
    if is_main():
        weights = {name: value.tolist() for name, value in task.objective.state_dict().items()}
        (folder / "result.json").write_text(json.dumps({"log": log, "weights": weights}))
