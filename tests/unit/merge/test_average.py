"""Weighted averages of safetensors files."""

import json
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fcotvl.core.errors import CheckpointError
from fcotvl.merge.average import _combine, average_files

ROOT = Path(__file__).parents[3]


def tensors(seed, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    return {
        "wide.weight": torch.randn(3, 5, generator=rng).to(dtype),
        "bias": torch.randn(7, generator=rng).to(dtype),
        "scale": torch.randn((), generator=rng).to(dtype),
        "empty": torch.zeros(0, 4, dtype=dtype),
        "steps": torch.tensor([3, 4]),
    }


@pytest.fixture
def saved(tmp_path):
    def save(name, values, metadata=None):
        path = tmp_path / f"{name}.safetensors"
        save_file(values, path, metadata=metadata)
        return path

    return save


def test_is_the_weighted_sum(tmp_path, saved):
    one, other, output = tensors(1), tensors(2), tmp_path / "merged.safetensors"
    average_files([saved("a", one), saved("b", other)], [0.25, 0.75], output)
    merged = load_file(output)
    assert list(merged) == list(load_file(tmp_path / "a.safetensors"))
    for name in ("wide.weight", "bias", "scale"):
        torch.testing.assert_close(merged[name], 0.25 * one[name] + 0.75 * other[name])
    assert merged["steps"].tolist() == [3, 4]
    assert merged["empty"].shape == (0, 4)


def test_all_the_weight_on_one_gives_back_its_bytes(tmp_path, saved):
    first = tensors(1, torch.bfloat16) | {"signed": torch.tensor([-0.0, 0.0, float("nan")])}
    second = tensors(2, torch.bfloat16) | {"signed": torch.tensor([1.0, float("inf"), 0.0])}
    a = saved("a", first, {"format": "pt", "base": "teacher"})
    b = saved("b", second)
    average_files([a, b], [1.0, 0.0], tmp_path / "merged.safetensors")
    assert (tmp_path / "merged.safetensors").read_bytes() == a.read_bytes()


def test_the_metadata_of_the_first_file_is_kept(tmp_path, saved):
    a, b = saved("a", tensors(1), {"base": "teacher"}), saved("b", tensors(2))
    average_files([a, b], [0.5, 0.5], tmp_path / "merged.safetensors")
    with safe_open(tmp_path / "merged.safetensors", framework="pt") as merged:
        assert merged.metadata() == {"base": "teacher"}


def test_sums_are_taken_in_float32_and_rounded_once(tmp_path, saved):
    """In bfloat16, 256 + 1 is 256: adding one after the other would lose all the ones."""
    big, one = {"x": torch.tensor([256.0]).bfloat16()}, {"x": torch.tensor([1.0]).bfloat16()}
    paths = [saved("big", big), *(saved(f"one{i}", one) for i in range(4))]
    average_files(paths, [1.0] * 5, tmp_path / "merged.safetensors")
    assert load_file(tmp_path / "merged.safetensors")["x"].tolist() == [260.0]


def test_rounding_checkpoints_before_merging_moves_the_result_by_one_place_of_its_terms_at_most(tmp_path, saved):
    """The merged student is in bfloat16 in any case."""
    terms = [torch.randn(10_000, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    weights, output = [0.4, 0.3, 0.2, 0.1], tmp_path / "merged.safetensors"
    found = []
    for kind in (torch.float32, torch.bfloat16):
        paths = [saved(f"{kind}-{i}", {"x": term.to(kind)}) for i, term in enumerate(terms)]
        average_files(paths, weights, output)
        found.append(load_file(output)["x"].bfloat16().double())
    place = 2.0 ** (torch.stack(terms).abs().amax(dim=0).log2().floor() - 7)
    assert ((found[1] - found[0]).abs() <= place).all()
    exact = sum(weight * term.double() for weight, term in zip(weights, terms, strict=True))
    late, early = ((one - exact).square().mean().sqrt() for one in found)
    assert late < early < 1.5 * late


def test_float64_is_not_summed_in_less(tmp_path, saved):
    a = saved("a", {"x": torch.tensor([1 + 2**-40], dtype=torch.float64)})
    average_files([a, a], [0.5, 0.5], tmp_path / "merged.safetensors")
    assert load_file(tmp_path / "merged.safetensors")["x"].item() == 1 + 2**-40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": torch.zeros(1)}, r"1 tensors are not in both, the first is 'extra': in .*b\.s"),
        ({"bias": torch.zeros(8)}, r"'bias' is F32 \[8\], expected F32 \[7\]"),
        ({"bias": torch.zeros(7).half()}, r"'bias' is F16 \[7\], expected F32 \[7\]"),
        ({"steps": torch.tensor([3, 5])}, r"'steps' is torch\.int64, which has no average"),
    ],
)
def test_checkpoints_of_different_models_are_refused(tmp_path, saved, change, message):
    a, b = saved("a", tensors(1)), saved("b", tensors(2) | change)
    with pytest.raises(CheckpointError, match=message):
        average_files([a, b], [0.5, 0.5], tmp_path / "merged.safetensors")


def test_a_truncated_or_missing_file_is_refused(tmp_path, saved):
    a, b = saved("a", tensors(1)), saved("b", tensors(2))
    b.write_bytes(b.read_bytes()[:-10])
    for bad in (b, tmp_path / "absent.safetensors"):
        with pytest.raises(CheckpointError, match=rf"{bad.name} is not a readable safetensors"):
            average_files([a, bad], [0.5, 0.5], tmp_path / "merged.safetensors")


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [float("nan"), 1.0], []])
def test_weights_that_make_no_average_are_refused(tmp_path, saved, weights):
    paths = [saved("a", tensors(1)), saved("b", tensors(2))]
    with pytest.raises(ValueError, match="checkpoints"):
        average_files(paths, weights, tmp_path / "merged.safetensors")


def test_other_metadata_replaces_the_header_and_keeps_the_tensors_byte_for_byte(tmp_path, saved):
    first = tensors(1, torch.bfloat16) | {"signed": torch.tensor([-0.0, 0.0, float("nan")])}
    a, b = saved("a", first, {"base": "teacher"}), saved("b", tensors(2, torch.bfloat16) | first)
    merged = tmp_path / "merged.safetensors"
    for metadata in ({"stage": "merge"}, {"stage": "merge, \u00e0 longer text", "more": "x" * 99}, {}):
        average_files([a, b], [1.0, 0.0], merged, metadata=metadata)
        with safe_open(merged, framework="pt") as opened:
            assert (opened.metadata() or {}) == metadata
        length = int.from_bytes(merged.read_bytes()[:8], "little")
        assert length % 8 == 0
        original = a.read_bytes()
        start = 8 + int.from_bytes(original[:8], "little")
        assert merged.read_bytes()[8 + length :] == original[start:]
        assert list(load_file(merged)) == list(load_file(a))
    c = saved("c", first)
    average_files([c, b], [1.0, 0.0], merged, metadata={"stage": "merge"})
    with safe_open(merged, framework="pt") as opened:
        assert opened.metadata() == {"stage": "merge"}


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_the_running_sum_is_that_of_all_terms_in_order(kind):
    values = [torch.randn(1001, generator=torch.Generator().manual_seed(seed)).to(kind) for seed in range(5)]
    weights = [0.2, 0.3, 0.0, 0.1, 0.4]
    wide = torch.promote_types(kind, torch.float32)
    expected = sum(weight * value.to(wide) for weight, value in zip(weights, values, strict=True))
    assert torch.equal(_combine([partial(torch.clone, value) for value in values], weights), expected.to(kind))


def test_a_tensor_is_gone_before_the_next_is_read():
    references = []

    def read(number):
        assert not any(reference() is not None for reference in references)
        tensor = torch.full((4,), float(number))
        references.append(weakref.ref(tensor))
        return tensor

    assert _combine([partial(read, number) for number in range(6)], [1.0] * 6).tolist() == [15.0] * 4


def test_the_benchmark_compares_with_a_plain_soup(tmp_path):
    options = ["--gigabytes", "0.01", "--pairs", "1", "--output", str(tmp_path / "merge.json")]
    subprocess.run([sys.executable, ROOT / "benchmarks/merge.py", *options], check=True, cwd=ROOT)
    found = json.loads((tmp_path / "merge.json").read_text())
    assert found["difference"] < 1e-6
    assert set(found["ratio"]) == {"seconds", "bytes"}
