"""The loss of a training run while it runs: dvclive writes it where DVC's plots and editor extensions look for it."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from scmrepo.exceptions import SCMError

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
    if folder is None:
        yield lambda rows: None  # noqa: ARG005
        return
    curve = _Curve(folder, log)
    try:
        yield curve.show
    finally:
        curve.end()


class _Curve:
    """A logger of dvclive that is given up at its first failure, which is no reason not to train.

    It fails in a repository without a commit, on a full disk, and where another run removes the file that it was about
    to remove: all runs in a folder share the note to editor extensions.
    """

    def __init__(self, folder: Path, log: Log) -> None:
        self._live: Any = None
        self._told = 0.0
        self._try(self._begin, folder, log)

    def show(self, rows: Log) -> None:
        """Add a step."""
        if self._live:
            self._try(self._show, rows)

    def end(self) -> None:
        """Withdraw the note to editor extensions."""
        if self._live:
            self._try(self._live.end)

    def _begin(self, folder: Path, log: Log) -> None:
        from dvclive import Live  # noqa: PLC0415 - half a second, which only training pays

        live = Live(str(folder), dvcyaml=None, save_dvc_exp=False)
        for _, rows in groupby(log, key=itemgetter("step")):
            _add(live, list(rows))
        self._live = live

    def _show(self, rows: Log) -> None:
        _add(self._live, rows)
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._live.next_step()
            self._told = time.monotonic()

    def _try(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except (OSError, SCMError) as error:
            logger.warning("no live curve: %s", error)
            self._live = None


def _add(live: Any, rows: Log) -> None:
    """One point: the mean over the images of a step."""
    images = sum(row.get("n", 1) for row in rows)
    live.step = rows[0]["step"]
    live.log_metric("loss", sum(row["loss"] * row.get("n", 1) for row in rows) / images)
