"""The stage: what it writes at scale smoke and over a data set on disk, and how it fails."""

import json
from pathlib import Path

import pytest

from fcotvl.errors import DataError
from fcotvl.params import load
from fcotvl.records import read_records
from fcotvl.stages.curate import SPLITS, run
from tests.support.datasets import write_chartqa

OUTPUTS = ("corpus", "benchmarks", "audit.json")


def curate(scale: str, raw: Path, out: Path) -> dict:
    raw.mkdir(exist_ok=True)
    corpus, benchmarks, audit = (out / name for name in OUTPUTS)
    run(load(scale=scale), raw=raw, corpus=corpus, benchmarks=benchmarks, audit=audit)
    return json.loads(audit.read_text())


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_smoke_writes_what_its_scale_asks_for_and_repeats_itself(tmp_path):
    audit = curate("smoke", tmp_path / "raw", tmp_path / "one")
    curate("smoke", tmp_path / "raw", tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    at = load(scale="smoke").at
    pixels = []
    for split in SPLITS:
        records = list(read_records(tmp_path / "one" / "corpus" / split))
        assert len(records) == getattr(at.corpus, split) == audit["corpus"][split]["records"]
        assert {record.split for record in records} == {split}
        pixels += [record.sha256 for record in records]
    for name, benchmark in at.benchmarks.items():
        records = list(read_records(tmp_path / "one" / "benchmarks" / name))
        assert sum(len(record.turns) for record in records) == benchmark.count
        pixels += [record.sha256 for record in records]
    assert len(set(pixels)) == len(pixels)


def test_processes_write_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("fcotvl.stages.curate.WORTH", 0)
    for count in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", count)
        curate("smoke", tmp_path / "raw", tmp_path / count)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_an_official_folder_is_carved_audited_and_kept_apart(tmp_path):
    write_chartqa(tmp_path / "raw", "test", charts=5)
    root = write_chartqa(tmp_path / "raw", "train", charts=40, first_seed=100)
    leak = (tmp_path / "raw/ChartQA/ChartQA Dataset/test/png/0.png").read_bytes()
    (root / "png/100.png").write_bytes(leak)
    (root / "png/101.png").write_bytes(b"damaged")
    audit = curate("local", tmp_path / "raw", tmp_path / "out")
    reasons = {(row["as"], Path(row["file"]).name) for row in audit["dropped"]}
    assert reasons == {("contaminated", "100.png"), ("quarantined", "101.png")}
    assert audit["benchmarks"]["chartqa"]["turns"] == 15
    kept = {split: audit["corpus"][split]["records"] for split in SPLITS}
    assert sum(kept.values()) == 2 * 38
    splits = {}
    for split in SPLITS:
        for record in read_records(tmp_path / "out" / "corpus" / split):
            assert splits.setdefault(record.sha256, split) == split


def test_a_missing_raw_folder_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere; data.raw in params.yaml"):
        run(
            load(scale="smoke"),
            raw=tmp_path / "nowhere",
            **{name.partition(".")[0]: tmp_path / name for name in OUTPUTS},
        )


def test_a_failure_leaves_earlier_outputs_and_no_scratch(tmp_path):
    curate("smoke", tmp_path / "raw", tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match=r"none of .* is there: chartqa: no 'ChartQA/"):
        curate("local", tmp_path / "raw", tmp_path / "out")
    assert contents(tmp_path / "out") == before
