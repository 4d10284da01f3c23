"""The processes of one run, as its launcher numbers them in the environment; a plain run is one process."""

import os
import signal
import threading
import time

from fcotvl.core.errors import ParamsError


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many processes were started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Is this the process that writes?"""
    return rank() == 0


def end_with_launcher() -> None:
    """End this process when its launcher is killed: it would go on alone, and hold accelerators and locks."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def check_joined(found: int) -> None:
    """Refuse to work on with ``found`` processes where more were started: each would do all of the work.

    Raises:
        ParamsError: not all processes that were started found each other.
    """
    if found != count():
        raise ParamsError(
            f"{found} processes work together, but WORLD_SIZE is {count()}; start with torchrun --nproc-per-node N "
            "-m fcotvl ..., or set launch.processes in the scale file"
        )


def use_full_float32() -> None:
    """Let float32 be float32 in convolutions too: by default cuDNN rounds what they multiply to 10 bits (TF32)."""
    import torch  # noqa: PLC0415 - slow

    torch.backends.cudnn.allow_tf32 = False
