"""Two processes share a batch, in micro-batches too, and learn what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("two_processes.py")
MICRO_BATCH_TOKENS = (4, 1)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def run(folder, *launcher):
    """What was learned in micro-batches of each size."""
    for size in MICRO_BATCH_TOKENS:
        (folder / str(size)).mkdir(parents=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launcher, str(SCRIPT), str(folder), *map(str, MICRO_BATCH_TOKENS)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, timeout=500)
    return {size: json.loads((folder / f"{size}/result.json").read_text()) for size in MICRO_BATCH_TOKENS}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """By one process and by two."""
    folder = tmp_path_factory.mktemp("learned")
    return run(folder / "one"), run(folder / "two", *TORCHRUN)


@pytest.mark.parametrize("micro_batch_tokens", MICRO_BATCH_TOKENS)
def test_two_processes_learn_what_one_does(learned, micro_batch_tokens):
    one, two = (of_processes[micro_batch_tokens] for of_processes in learned)
    losses = [[row["loss"] for row in result["log"]] for result in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name in ("line.weight", "line.bias"):
        assert torch.allclose(*(torch.tensor(result["weights"][name]) for result in (one, two)))
