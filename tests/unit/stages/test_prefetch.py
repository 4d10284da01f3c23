"""What is prefetched, on other machines, is what curate would have decoded itself."""

import json
import shutil
from pathlib import Path

import pytest

from fcotvl.core.config import load
from fcotvl.core.errors import ParamsError
from fcotvl.data import sources
from fcotvl.data.decoding import Decoder
from fcotvl.stages import curate, prefetch
from tests.support.datasets import small_shards, write_chartqa
from tests.support.imports import ROOT

PARTS = 3


@pytest.fixture(autouse=True)
def _small_chunks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "CHUNK_SIZE", 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "raw").mkdir()


@pytest.fixture
def decoded(monkeypatch):
    """One entry for each picture that is decoded outside of the benchmarks."""
    original, names = Decoder.__call__, []

    def noted(self, entries):
        names.extend(entry.file for entry in entries if self.split != "test")
        return original(self, entries)

    monkeypatch.setattr(Decoder, "__call__", noted)
    return names


def prefetch_part(mix, number, out, study=ROOT / "params.yaml"):
    summary = out / "prefetch" / f"{number}-of-{PARTS}.json"
    prefetch.run(load(study, mix=mix), raw=Path("raw"), part=f"{number}-of-{PARTS}", summary=summary)
    return json.loads(summary.read_text())


def curated(mix, out, study=ROOT / "params.yaml"):
    """All bytes that curate writes."""
    paths = {name: out / name for name in ("corpus", "benchmarks", "audit")}
    curate.run(load(study, mix=mix), raw=Path("raw"), **paths)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_what_other_params_left_goes_and_what_another_part_is_about_to_write_stays(tmp_path):
    left, written = (tmp_path / "prefetch" / name for name in ("0123456789abcdef", ".2-of-3.json.x"))
    left.mkdir(parents=True)
    written.mkdir()
    prefetch_part("smoke", 1, tmp_path)
    assert (left.exists(), written.exists()) == (False, True)


def test_all_parts_together_leave_nothing_to_decode(tmp_path, decoded):
    wanted = curated("smoke", tmp_path / "alone")
    needed = sorted(set(decoded))
    decoded.clear()
    summaries = [prefetch_part("smoke", number, tmp_path / "shared") for number in (1, 2, 3)]
    assert set(needed) <= set(decoded)
    assert len(decoded) == len(set(decoded))
    counts = [sum(sum(row.values()) for row in one["items"].values()) for one in summaries]
    assert sum(counts) == len(decoded)
    assert min(counts) > 0
    decoded.clear()
    assert curated("smoke", tmp_path / "shared") == wanted
    assert decoded == []
    assert not (tmp_path / "shared/prefetch").exists()


def local_sources(raw):
    """Training charts with a picture of the benchmark and a damaged one among them."""
    write_chartqa(raw, "test", charts=5)
    root = write_chartqa(raw, "train", charts=40, first_seed=100)
    shutil.copy(raw / "ChartQA/ChartQA Dataset/test/png/0.png", root / "png/100.png")
    (root / "png/101.png").write_bytes(b"damaged")


@pytest.mark.parametrize("numbers", [(1, 2, 3), (1, 3), (2,)])
def test_missing_parts_are_decoded_by_curate(tmp_path, decoded, numbers):
    """Sources that run dry and are repeated; what is dropped is dropped for the same reasons."""
    local_sources(tmp_path / "raw")
    wanted = curated("local", tmp_path / "alone")
    alone = len(decoded)
    for number in numbers:
        prefetch_part("local", number, tmp_path / "shared")
    decoded.clear()
    assert curated("local", tmp_path / "shared") == wanted
    assert (len(decoded) < alone) == (1 in numbers)


def test_a_killed_part_decodes_only_what_is_missing(tmp_path, decoded):
    prefetch_part("smoke", 1, tmp_path)
    chunks = sorted(tmp_path.glob("prefetch/*/*/*/*.parquet"))
    chunks[0].unlink()
    decoded.clear()
    prefetch_part("smoke", 1, tmp_path)
    assert len(decoded) == sources.CHUNK_SIZE
    assert sorted(tmp_path.glob("prefetch/*/*/*/*.parquet")) == chunks


@pytest.mark.parametrize("limit", [25, 70])
def test_a_killed_curate_continues_after_prefetched_chunks(tmp_path, decoded, monkeypatch, limit):
    """It is killed while it decodes what is missing, after shards of chunks and of others."""
    local_sources(tmp_path / "raw")
    study = small_shards(tmp_path)
    wanted = curated("local", tmp_path / "alone", study)
    alone = len(decoded)
    prefetch_part("local", 1, tmp_path / "shared", study)
    decoded.clear()
    original = Decoder.__call__

    def killed(self, entries):
        if len(decoded) == limit:
            raise KeyboardInterrupt
        return original(self, entries)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(Decoder, "__call__", killed)
        curated("local", tmp_path / "shared", study)
    decoded.clear()
    assert curated("local", tmp_path / "shared", study) == wanted
    assert len(decoded) < alone - 3


def test_chunks_of_other_files_are_not_used(tmp_path, decoded):
    local_sources(tmp_path / "raw")
    prefetch_part("local", 1, tmp_path / "shared")
    image = next((tmp_path / "raw").rglob("train/png/110.png"))
    shutil.copy(tmp_path / "raw/ChartQA/ChartQA Dataset/test/png/1.png", image)
    decoded.clear()
    changed = curated("local", tmp_path / "shared")
    assert changed == curated("local", tmp_path / "alone")
    assert b"110.png" in changed["audit"]
    prefetch_part("local", 1, tmp_path / "shared")
    (key,) = [path for path in (tmp_path / "shared/prefetch").iterdir() if path.is_dir()]
    assert key.name == json.loads((tmp_path / "shared/prefetch/1-of-3.json").read_text())["key"]


@pytest.mark.parametrize("part", ["3", "0-of-3", "4-of-3", "a-of-b"])
def test_a_malformed_part_is_one_line(tmp_path, part):
    with pytest.raises(ParamsError, match=r"--part is .*, expected K-of-N"):
        prefetch.run(load(ROOT / "params.yaml", mix="smoke"), raw=Path("raw"), part=part, summary=tmp_path / "a.json")
