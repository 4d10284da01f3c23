"""A stage in several processes of one machine, each on its own accelerator, from the command of dvc.yaml."""

import fcntl
import json
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from itertools import chain, product
from pathlib import Path
from typing import TextIO

from fcotvl.core.errors import ParamsError
from fcotvl.core.io import hold

log = logging.getLogger(__name__)

SHARED = {"distill", "merge", "predict", "rscot", "sft"}
"""Commands whose work the processes of a launch share."""
ALONE = {"attention", "harness", "speed"}
"""Commands that run a model in one process."""
TIMED = {"speed"}
"""Commands that share no accelerator: they measure how long something takes."""
USERS_MISTAKE = 2
"""Exit code of what the user can correct."""
RUN = "fcotvl-"
"""Begins the id of a launch, by which its processes know that they were started here."""
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Names the file in which a process leaves what went wrong for its launcher."""
CLAIM = "FCOTVL_CLAIM_ACCELERATORS"
"""Set by the Snakefile, whose jobs run side by side: each takes accelerators that others leave free."""
VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "npu": "ASCEND_RT_VISIBLE_DEVICES", "xpu": "ZE_AFFINITY_MASK"}
"""The variable that says which accelerators of a kind a process sees."""
DETERMINISTIC = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "HCCL_DETERMINISTIC": "true",
    "LCCL_DETERMINISTIC": "1",
    "CLOSE_MATMUL_K_SHIFT": "1",
}
"""What makes libraries below PyTorch sum in a fixed order: cuBLAS, and on NPUs communication and matrix products."""

_claimed: list[TextIO] = []
"""Locks that are held as long as this process lives."""


def wanted(stage: str, number: int) -> int:
    """How many accelerators ``stage`` uses where ``launch.processes`` is ``number``; 0 if it runs no model."""
    if stage in SHARED:
        return number
    return int(stage in ALONE)


def use_deterministic_algorithms() -> None:
    """From here on, what this process computes has the same bytes whenever it is computed again on this machine.

    An operation that cannot, raises a ``RuntimeError``. Libraries read their variables when they are first used.
    """
    import torch  # noqa: PLC0415 - slow

    os.environ |= DETERMINISTIC
    torch.use_deterministic_algorithms(True)


def is_launched() -> bool:
    """Was this process started by ``launch``, which reports its errors?"""
    return os.environ.get("TORCHELASTIC_RUN_ID", "").startswith(RUN)


def leave_error(text: str) -> None:
    """Leave what went wrong for the launcher."""
    Path(os.environ[ERROR_FILE]).write_text(json.dumps({"message": text, "timestamp": int(time.time())}))


def launch(arguments: Sequence[str], number: int) -> tuple[int, str]:
    """Run ``fcotvl`` with ``arguments`` in ``number`` processes, as torchrun does.

    Returns:
        The exit code, and what the process that failed first left (empty if all went well). A signal that ends this
        process ends the others first.

    Raises:
        ParamsError: there are accelerators, but fewer than ``number``.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(given) if given.isdigit() else os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads // number))
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException  # noqa: PLC0415 - slow
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: PLC0415

    _accelerators(number)
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=number,
            run_id=f"{RUN}{uuid.uuid4().hex}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(folder),
        )
        logging.disable(logging.ERROR)  # torch's account of how its processes ended
        try:
            elastic_launch(config, sys.executable)("-m", "fcotvl", *arguments)
        except ChildFailedError as error:
            rank, failure = min(error.failures.items(), key=lambda one: (_order(one[1].exitcode), one[1].timestamp))
            return _explain(rank, number, failure.exitcode, failure.message)
        except SignalException as error:
            ended_by = error.sigval
        else:
            return 0, ""
        finally:
            logging.disable(logging.NOTSET)
    signal.signal(ended_by, signal.SIG_DFL)
    os.kill(os.getpid(), ended_by)
    return 128 + ended_by, ""


def _order(code: int) -> int:
    """Which exit code tells what went wrong: when one process ends, others fail to reach it, and are ended."""
    known = {USERS_MISTAKE: 0, -signal.SIGTERM: 3}
    return known.get(code, 1 if code < 0 else 2)


def _explain(rank: int, number: int, code: int, message: object) -> tuple[int, str]:
    if code >= 0 and isinstance(message, str) and message:
        return code, message
    who = f"process {rank + 1} of {number}"
    if code >= 0:
        return code, f"{who} ended with exit code {code}"
    name = signal.Signals(-code).name
    return 128 - code, f"{who} was ended by {name}, as for lack of memory; run it again, and it goes on where it was"


def claim(number: int, jobs: int = 1) -> None:
    """Take ``number`` accelerators that other jobs of this user on this machine leave free, and see no others.

    Waits until so many are free. They are free again when this process ends, however it ends.

    Args:
        number: of accelerators.
        jobs: how many jobs may have an accelerator, this one counted; with 1 it is this one's alone.

    Raises:
        ParamsError: there are accelerators, but fewer than ``number``.
    """
    devices = _accelerators(number)
    if not devices:
        return
    home = Path(tempfile.gettempdir()) / f"fcotvl-accelerators-{os.getuid()}"
    said = False
    while len(taken := _take(home, devices, number, jobs)) < number:
        for lock in chain.from_iterable(taken.values()):
            lock.close()
        if not said:
            log.info("waiting for %d free accelerators of %d", number, len(devices))
            said = True
        time.sleep(1)
    _claimed.extend(chain.from_iterable(taken.values()))
    if variable := VISIBLE.get(_kind()):
        os.environ[variable] = ",".join(taken)


def _take(home: Path, devices: Sequence[str], number: int, jobs: int) -> dict[str, list[TextIO]]:
    """Up to ``number`` of ``devices`` that can be locked, those with the fewest jobs first, with their locks."""
    taken: dict[str, list[TextIO]] = {}
    for place, device in product(range(jobs), devices):
        if len(taken) < number and device not in taken and (locks := _lock(home / device, place, jobs)):
            taken[device] = locks
    return taken


def _lock(folder: Path, place: int, jobs: int) -> list[TextIO]:
    """Lock one of the places that ``jobs`` have at an accelerator, or all of it for a single job; empty if taken."""
    wanted = [(folder, fcntl.LOCK_EX if jobs == 1 else fcntl.LOCK_SH)]
    if jobs > 1:
        wanted.append((folder / str(place), fcntl.LOCK_EX))
    locks: list[TextIO] = []
    for path, how in wanted:
        path.mkdir(parents=True, exist_ok=True)
        try:
            file = hold(path, how | fcntl.LOCK_NB)
        except BlockingIOError:
            file = None
        if file is None:
            for lock in locks:
                lock.close()
            return []
        locks.append(file)
    return locks


def _accelerators(number: int) -> list[str]:
    """Names of the accelerators that this process may use, at least ``number``; none where there are none."""
    import torch  # noqa: PLC0415 - slow

    # Counting them here must not open them: the variable is read when that is done first.
    count = torch.accelerator.device_count()
    if 0 < count < number:
        raise ParamsError(
            f"launch.processes is {number}, but of accelerators there are {count}; state that in the scale file"
        )
    given = os.environ.get(VISIBLE.get(_kind(), ""))
    return given.split(",")[:count] if given else list(map(str, range(count)))


def _kind() -> str:
    """What kind of accelerator PyTorch was built for."""
    import torch  # noqa: PLC0415 - slow

    found = torch.accelerator.current_accelerator()
    return found.type if found else "cpu"
