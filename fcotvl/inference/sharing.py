"""Windows of questions that the processes of a run share: each is answered once, kept in a folder, and read by all.

A window is composed as in a run of one process, so that its batches, and on a CPU its bytes, are the same.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from tqdm import tqdm

from fcotvl.core.io import write_json
from fcotvl.core.processes import check_joined, use_full_float32

PATIENCE = timedelta(days=2)
"""How long a process waits for the slowest one. One that dies is noticed at once, by the launcher."""


def join() -> torch.device:
    """Find the other processes of this run, and the device of this one.

    Raises:
        ParamsError: the processes do not find each other.
    """
    # Without cpu=True, processes on a machine without accelerator would each work alone.
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)
    check_joined(state.num_processes)
    use_full_float32()
    return state.device


def share(
    folder: Path,
    count: int,
    compute: Callable[[int], Any],
    *,
    prepare: Callable[[], None] | None = None,
    label: str | None = None,
) -> list[Any]:
    """What ``compute`` gives for each of ``count`` windows, as JSON has it; what ``folder`` has is not computed again.

    All processes of the run call this with the same arguments, and all get every value.

    Args:
        folder: where values are kept, one file each.
        count: number of windows.
        compute: a window's value from its number; windows are dealt to the processes in turn.
        prepare: called by the main process before others begin, if a value is missing.
        label: label of the progress bar, which counts this process's windows; None for no bar.
    """
    state = PartialState()
    paths = [folder / f"{number:08d}.json" for number in range(count)]
    if prepare and state.is_main_process and not all(map(Path.is_file, paths)):
        prepare()
    state.wait_for_everyone()
    own = range(state.process_index, count, state.num_processes)
    for number in tqdm(own, desc=label, disable=None if label and state.is_main_process else True):
        if not paths[number].is_file():
            write_json(paths[number], compute(number))
    state.wait_for_everyone()
    values = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    state.wait_for_everyone()  # the main process may clear the folder now
    return values
