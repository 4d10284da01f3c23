"""Batches ahead of the training loop, made by worker processes."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fcotvl.core.errors import FcotvlError

Collate = Callable[[Sequence[Any]], Any]
AHEAD = 2
"""Batches that each worker makes ahead."""


class _Steps(Sampler[Sequence[Any]]):
    """The items of each step, which change while workers live."""

    def __init__(self) -> None:
        self.planned: Sequence[Sequence[Any]] = []

    def __iter__(self) -> Iterator[Sequence[Any]]:
        return iter(self.planned)


class _Batches(Dataset[Any]):
    """A step's items in, its batch out, or the mistake to report: raised in a worker, it would not stay one line."""

    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __getitem__(self, items: Sequence[Any]) -> Any:
        try:
            return self.collate(items)
        except FcotvlError as error:
            return error


def reader(collate: Collate, workers: int) -> Callable[[Sequence[Sequence[Any]]], Iterator[Any]]:
    """A function from the items of some steps to their batches, in order; the same for any number of workers.

    Args:
        collate: makes a batch of a step's items.
        workers: processes that do; with none, or where processes cannot be forked safely, this process does.

    Raises:
        FcotvlError: on the first use of a batch that cannot be made.
    """
    if not workers or sys.platform != "linux":
        return lambda planned: map(collate, planned)
    steps = _Steps()
    loader = DataLoader(
        _Batches(collate),
        batch_size=None,
        sampler=steps,
        num_workers=min(workers, len(os.sched_getaffinity(0))),
        collate_fn=lambda batch: batch,
        prefetch_factor=AHEAD,
        persistent_workers=True,
        multiprocessing_context="fork",
        generator=torch.Generator(),  # apart from the run's own
    )

    def read(planned: Sequence[Sequence[Any]]) -> Iterator[Any]:
        steps.planned = planned
        for batch in loader:
            if isinstance(batch, FcotvlError):
                raise batch
            yield batch

    return read
