"""Other programs: run, and a failure reported in one line."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from fcotvl.core.errors import FcotvlError

PYTHON: Mapping[str, tuple[str, ...]] = {
    "python": (sys.executable,),
    "dvc": (sys.executable, "-m", "dvc"),
    "snakemake": (sys.executable, "-m", "snakemake"),
}
"""What is installed beside this Python, whatever PATH says."""


class EngineError(FcotvlError):
    """An engine failed, or the two would get in each other's way."""


def run(*command: str, folder: Path = Path(), env: Mapping[str, str] | None = None) -> str:
    """Run ``command`` in ``folder`` and return what it printed.

    Raises:
        EngineError: it failed.
    """
    words = [*PYTHON.get(command[0], command[:1]), *command[1:]]
    done = subprocess.run(  # noqa: S603 - our own commands
        words, cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-1:]
        raise EngineError(f"`{' '.join(command[:3])}` failed: {''.join(last)}")
    return done.stdout
