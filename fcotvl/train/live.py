"""The loss of a training run while it runs: dvclive writes it where DVC's plots and editor extensions look for it."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from fcotvl.train.state import Log

logger = logging.getLogger(__name__)

TELL_SECONDS = 1.0
"""Least time between two notes to editor extensions: one is a file that is written through to the disk."""


@contextmanager
def live_curve(folder: Path | None, log: Log) -> Iterator[Callable[[Log], None]]:
    """Yield a function that adds a step, given its rows of the log, to the curve in ``folder``.

    The curve begins anew with the rows of ``log``: a run that goes on from a saved step has every step once. It is for
    looking at and no output of a stage, and does not change what is trained.

    Args:
        folder: dvclive's; none to do without.
        log: rows of the steps that are done.
    """
    live = _start(folder) if folder else None
    if live is None:
        yield lambda rows: None  # noqa: ARG005
        return

    def show(rows: Log) -> None:
        images = sum(row.get("n", 1) for row in rows)
        live.step = rows[0]["step"]
        live.log_metric("loss", sum(row["loss"] * row.get("n", 1) for row in rows) / images)

    told = 0.0

    def show_now(rows: Log) -> None:
        nonlocal told
        show(rows)
        if time.monotonic() - told >= TELL_SECONDS:
            live.next_step()
            told = time.monotonic()

    with live:
        for _, rows in groupby(log, key=itemgetter("step")):
            show(list(rows))
        yield show_now


def _start(folder: Path) -> Any:
    """A logger of dvclive; none where it cannot tell what is checked out, which is no reason not to train."""
    from dvclive import Live  # noqa: PLC0415 - half a second, which only training pays
    from scmrepo.exceptions import SCMError  # noqa: PLC0415 - imports Git's backends

    try:
        return Live(str(folder), dvcyaml=None, save_dvc_exp=False)
    except SCMError as error:
        logger.warning("no live curve: %s", error)
        return None
