"""The weighted average of checkpoints: of one tensor at a time, the sum so far and the next term are in memory."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fcotvl.core.errors import CheckpointError

Layout = dict[str, tuple[str, tuple[int, ...]]]
"""Name -> (dtype, shape) of every tensor, in the order of the file."""


def average_files(
    sources: Sequence[Path], weights: Sequence[float], output: Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write the weighted sum of safetensors files to ``output``.

    Sums are taken in float32 (float64 for such tensors) and cast once. The header (names, order, dtypes, shapes and
    metadata) is that of the first file, so a weight of 1 gives back its file byte by byte. A source of weight 0 has no
    influence, not even with NaN.

    Args:
        sources: files with the same tensors.
        weights: one for each; they are used as they are, so pass weights that sum to 1.
        output: the file to write; must not be one of the sources.
        metadata: what replaces the metadata of the first file; the tensors' bytes stay.

    Raises:
        CheckpointError: a file cannot be read, differs in names, shapes or dtypes from the first, or holds other values
            in a tensor that is not floating point.
        ValueError: there is not one finite weight for each source, or all are 0.
    """
    if not sources or len(sources) != len(weights):
        raise ValueError(f"{len(weights)} weights for {len(sources)} checkpoints")
    if not any(weights) or not all(map(torch.isfinite, torch.tensor(list(weights)))):
        raise ValueError(f"checkpoints cannot be averaged with weights {list(weights)}")
    header, layout = _read_header(sources[0])
    if metadata is not None:
        header = _with_metadata(header, metadata)
    for other in sources[1:]:
        _check_same(sources[0], layout, other, _read_header(other)[1])
    with ExitStack() as stack, output.open("wb") as target:
        files = [stack.enter_context(safe_open(path, framework="pt")) for path in sources]
        target.write(header)
        for name in layout:
            try:
                merged = _combine([partial(file.get_tensor, name) for file in files], weights)
            except ValueError as error:
                raise CheckpointError(f"tensor {name!r} {error}, from {sources[0]} on") from error
            target.write(merged.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _combine(readers: Sequence[Callable[[], Tensor]], weights: Sequence[float]) -> Tensor:
    """The weighted sum of tensors of one shape, which are read in turn; equal values where not floating point.

    Raises:
        ValueError: tensors that cannot be averaged differ.
    """
    total: Tensor | None = None
    for weight, read in zip(weights, readers, strict=True):
        tensor = read()
        dtype = tensor.dtype
        if not tensor.is_floating_point():
            if total is not None and not torch.equal(total, tensor):
                raise ValueError(f"is {dtype}, which has no average, and differs between checkpoints")
            total = tensor
        elif weight:
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            term = tensor.to(wide, copy=True).mul_(weight)
            total = term if total is None else total.add_(term)  # not 0 + ...: that would turn -0.0 into 0.0
            del tensor, term  # before the next is read
    if total is None:
        raise ValueError("has no weight")  # average_files has checked that one is not 0
    return total.to(dtype)


def _read_header(path: Path) -> tuple[bytes, Layout]:
    """The raw header of a safetensors file and its tensors in the order of their data."""
    try:
        with safe_open(path, framework="pt"):  # checks the whole header against the file's size
            pass
        with path.open("rb") as file:
            length = file.read(8)
            header = file.read(int.from_bytes(length, "little"))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error})") from error
    entries: dict[str, dict[str, Any]] = json.loads(header)
    entries.pop("__metadata__", None)
    ordered = sorted(entries.items(), key=lambda item: item[1]["data_offsets"])
    return length + header, {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in ordered}


def _with_metadata(header: bytes, metadata: Mapping[str, str]) -> bytes:
    """The same header with other metadata: its length, then JSON padded to 8 bytes."""
    entries = json.loads(header[8:])
    entries["__metadata__"] = dict(metadata)
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _check_same(path: Path, layout: Layout, other: Path, found: Layout) -> None:
    if odd := sorted(set(layout) ^ set(found)):
        where, where_not = (path, other) if odd[0] in layout else (other, path)
        raise CheckpointError(
            f"{len(odd)} tensors are not in both, the first is {odd[0]!r}: in {where}, "
            f"not in {where_not}; merge checkpoints of one run"
        )
    for name, expected in layout.items():
        if found[name] != expected:
            raise CheckpointError(
                f"{other}: tensor {name!r} is {_describe(found[name])}, expected "
                f"{_describe(expected)} as in {path}; merge checkpoints of one run"
            )


def _describe(entry: tuple[str, tuple[int, ...]]) -> str:
    return f"{entry[0]} {list(entry[1])}"
