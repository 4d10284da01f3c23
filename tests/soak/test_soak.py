"""A few of each attack of ``make soak`` on the first stages of the chain, and whether they would notice."""

import subprocess
import sys

from tests.support.imports import ROOT

CARELESS = """
import sys
from contextlib import nullcontext
from dataclasses import replace
import fcotvl.stages.teacher
import tests.soak.__main__ as soak
fcotvl.stages.teacher.atomic = nullcontext  # writes to the output itself
soak.SHORT = replace(soak.SHORT, last="teacher", inputs=0, pairs=0, kills=0, times=1)
sys.exit(soak.main(["--short", "--jobs", "1"]))
"""


def soak(*command):
    """Run it in a process of its own: children must not inherit the threads and hooks of this one."""
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_nothing_breaks_under_a_few_of_each_attack():
    code, text = soak("-m", "tests.soak", "--short", "--jobs", "1")
    assert code == 0, text[-4000:]
    assert "24 kills, " in text
    assert ", 0 broken, " in text


def test_a_stage_that_writes_to_its_output_is_noticed():
    code, text = soak("-c", CARELESS)
    assert code == 1, text[-4000:]
    assert "kill within a write: half-written output: data/smoke/teacher after byte" in text
