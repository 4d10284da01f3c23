"""What holds of an average for any tensors and weights."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fcotvl.merge.average import average_files

numbers = st.floats(-100, 100, width=32, allow_subnormal=False)
rows = st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=4)
kinds = st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64])


def average(values, weights):
    """Through files and back."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.safetensors" for index in range(len(values))]
        for path, value in zip(paths, values, strict=True):
            save_file({"x": value}, path)
        average_files(paths, weights, Path(folder) / "merged")
        return load_file(Path(folder) / "merged")["x"].clone()


@given(rows, kinds, st.data())
def test_one_hot_weights_give_back_that_checkpoint(rows, kind, data):
    values = [torch.tensor(row).to(kind) for row in rows]
    chosen = data.draw(st.integers(0, len(rows) - 1))
    merged = average(values, [float(index == chosen) for index in range(len(rows))])
    assert merged.dtype == kind
    assert merged.view(torch.uint8).tolist() == values[chosen].view(torch.uint8).tolist()


@given(rows, st.floats(0.125, 4, width=32), st.floats(0.125, 4, width=32))
def test_averaging_is_linear_in_the_weights(rows, first, second):
    values = [torch.tensor(row) for row in rows]
    both = average(values, [first + second] * len(rows))
    apart = average(values, [first] * len(rows)) + average(values, [second] * len(rows))
    torch.testing.assert_close(both, apart, atol=1e-2, rtol=1e-5)


@given(rows)
def test_the_average_of_copies_is_the_checkpoint(rows):
    value = torch.tensor(rows[0])
    merged = average([value] * 4, [0.25] * 4)
    assert torch.equal(merged, value)
