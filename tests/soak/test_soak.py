"""A few of each attack of ``make soak``, on the first stages of the chain."""

import subprocess
import sys

from tests.support.imports import ROOT


def test_nothing_breaks_under_a_few_of_each_attack():
    """In a process of its own: its children must not inherit the threads and hooks of this one."""
    command = [sys.executable, "-m", "tests.soak", "--short", "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "24 kills, " in done.stdout
    assert ", 0 broken, " in done.stdout
