"""What starts often starts fast: without torch."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers")


@pytest.mark.parametrize(
    "module",
    [
        "fcotvl.dag",
        "fcotvl.params",
        "fcotvl.stages.check",
        "fcotvl.stages.curate",
        "fcotvl.stages.report",
        "fcotvl.stages.score",
    ],
)
def test_starts_without_torch(module):
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
