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


def run(folder, *launcher, micro_batch_tokens=4):
    folder.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launcher, str(SCRIPT), str(folder), str(micro_batch_tokens)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, timeout=500)
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("micro_batch_tokens", [4, 1])
def test_two_processes_learn_what_one_does(tmp_path, micro_batch_tokens):
    one = run(tmp_path / "one")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    two = run(tmp_path / "two", *launcher, micro_batch_tokens=micro_batch_tokens)
    losses = [[row["loss"] for row in result["log"]] for result in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name in ("line.weight", "line.bias"):
        assert torch.allclose(*(torch.tensor(result["weights"][name]) for result in (one, two)))
