"""The stage: what it writes at scale smoke and over a data set on disk, and how it fails."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcotvl.core.config import load
from fcotvl.core.errors import DataError
from fcotvl.core.shards import read_records
from fcotvl.data.decoding import Decoder
from fcotvl.stages.curate import SPLITS, run
from tests.support.datasets import small_shards, write_chartqa
from tests.support.imports import ROOT

OUTPUTS = ("corpus", "benchmarks", "audit.json")


@pytest.fixture(autouse=True)
def _scratch_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def curate(mix: str, raw: Path, out: Path, study: Path = ROOT / "params.yaml") -> dict:
    raw.mkdir(exist_ok=True)
    corpus, benchmarks, audit = (out / name for name in OUTPUTS)
    run(load(study, mix=mix), raw=raw, corpus=corpus, benchmarks=benchmarks, audit=audit)
    return json.loads(audit.read_text())


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_smoke_writes_what_its_scale_asks_for_and_repeats_itself(tmp_path):
    audit = curate("smoke", tmp_path / "raw", tmp_path / "one")
    curate("smoke", tmp_path / "raw", tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    mix = load(ROOT / "params.yaml", mix="smoke").mix_config
    pixels = []
    for split in SPLITS:
        records = list(read_records(tmp_path / "one" / "corpus" / split))
        assert len(records) == getattr(mix.corpus, split) == audit["corpus"][split]["records"]
        assert {record.split for record in records} == {split}
        pixels += [record.sha256 for record in records]
    for name, benchmark in mix.benchmarks.items():
        records = list(read_records(tmp_path / "one" / "benchmarks" / name))
        assert sum(len(record.turns) for record in records) == benchmark.count
        pixels += [record.sha256 for record in records]
    assert len(set(pixels)) == len(pixels)


def test_processes_write_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("fcotvl.data.decoding.MIN_PARALLEL", 0)
    for count in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", count)
        curate("smoke", tmp_path / "raw", tmp_path / count)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_an_official_folder_is_split_audited_and_kept_apart(tmp_path):
    write_chartqa(tmp_path / "raw", "test", charts=5)
    root = write_chartqa(tmp_path / "raw", "train", charts=40, first_seed=100)
    leak = (tmp_path / "raw/ChartQA/ChartQA Dataset/test/png/0.png").read_bytes()
    (root / "png/100.png").write_bytes(leak)
    (root / "png/101.png").write_bytes(b"damaged")
    audit = curate("local", tmp_path / "raw", tmp_path / "out")
    reasons = {(row["as"], Path(row["file"]).name) for row in audit["dropped"]}
    assert reasons == {("contaminated", "100.png"), ("quarantined", "101.png")}
    assert audit["benchmarks"]["chartqa"]["turns"] == 15
    kept = {}
    for split in SPLITS:
        rows = audit["corpus"][split]["sources"].values()
        kept[split] = sum(row["kept"] for row in rows)
        repeats = sum(row["repeats"] for row in rows)
        assert audit["corpus"][split]["records"] == kept[split] + repeats
        assert repeats == (0 if split == "val" else 3 * kept[split])
        ids = [record.id for record in read_records(tmp_path / "out" / "corpus" / split)]
        assert len(ids) == len(set(ids)) == kept[split] + repeats
    assert sum(kept.values()) == 2 * 38
    splits = {}
    for split in SPLITS:
        for record in read_records(tmp_path / "out" / "corpus" / split):
            assert splits.setdefault(record.sha256, split) == split


def test_a_missing_raw_folder_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere; data.raw in params.yaml"):
        run(
            load(ROOT / "params.yaml", mix="smoke"),
            raw=tmp_path / "nowhere",
            **{name.partition(".")[0]: tmp_path / name for name in OUTPUTS},
        )


def test_the_folder_is_that_of_the_params_unless_given(tmp_path):
    """Not one of the command line: any name is taken as it is, and no shell reads it."""
    raw = tmp_path / "$(touch injected) {x} \"`'"
    raw.mkdir()
    study = load(ROOT / "params.yaml", mix="smoke")
    study = study.model_copy(update={"data": study.data.model_copy(update={"raw": str(raw)})})
    run(study, **{name.partition(".")[0]: tmp_path / name for name in OUTPUTS})
    assert (tmp_path / "audit.json").is_file()
    raw.rmdir()
    with pytest.raises(DataError, match=r"no folder .*touch injected"):
        run(study, **{name.partition(".")[0]: tmp_path / name for name in OUTPUTS})


def test_a_failure_leaves_earlier_outputs_and_no_scratch(tmp_path):
    curate("smoke", tmp_path / "raw", tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match=r"all benchmarks .* missing: chartqa: no 'ChartQA/"):
        curate("local", tmp_path / "raw", tmp_path / "out")
    assert contents(tmp_path / "out") == before


def interrupt(monkeypatch, pictures: int) -> None:
    """Stop, as a kill would, after ``pictures`` pictures are decoded."""
    original, calls = Decoder.__call__, iter(range(pictures))

    def limited(self, entries):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return original(self, entries)

    monkeypatch.setattr(Decoder, "__call__", limited)


@pytest.fixture
def one_process(monkeypatch):
    """What is patched here would not reach other processes."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def count_decoded(monkeypatch) -> list[int]:
    original, decoded = Decoder.__call__, []
    monkeypatch.setattr(Decoder, "__call__", lambda self, entries: decoded.append(1) or original(self, entries))
    return decoded


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("pictures", [30, 110])
def test_a_run_continues_after_its_last_finished_shard(tmp_path, monkeypatch, pictures):
    """Over dry sources that are repeated, with a benchmark picture and a damaged one among them."""
    study = small_shards(tmp_path)
    write_chartqa(tmp_path / "raw", "test", charts=5)
    root = write_chartqa(tmp_path / "raw", "train", charts=40, first_seed=100)
    shutil.copy(tmp_path / "raw/ChartQA/ChartQA Dataset/test/png/0.png", root / "png/100.png")
    (root / "png/101.png").write_bytes(b"damaged")
    with monkeypatch.context() as patch:
        all_decoded = count_decoded(patch)
        curate("local", tmp_path / "raw", tmp_path / "whole", study)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        interrupt(patch, pictures)
        curate("local", tmp_path / "raw", tmp_path / "again", study)
    assert not contents(tmp_path / "again")
    decoded = count_decoded(monkeypatch)
    curate("local", tmp_path / "raw", tmp_path / "again", study)
    assert contents(tmp_path / "whole") == contents(tmp_path / "again")
    assert len(decoded) <= len(all_decoded) - 5
    assert not list((tmp_path / ".scratch").iterdir())


def test_a_killed_process_keeps_its_shards_and_the_next_writes_the_same_bytes(tmp_path):
    study = small_shards(tmp_path)
    study.write_text(study.read_text().replace("mix: rendered", "mix: smoke"))
    (tmp_path / "raw").mkdir()
    command = [sys.executable, "-m", "fcotvl", "curate", "--raw", "raw"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(out: str) -> subprocess.Popen:
        flags = [f"--{name.partition('.')[0]}={out}/{name}" for name in OUTPUTS]
        return subprocess.Popen([*command, *flags], cwd=tmp_path, env=environment)

    assert start("whole").wait() == 0
    killed = start("again")
    while not (found := list(tmp_path.glob(".scratch/curate-*/log/corpus/align/00001.jsonl"))):
        assert killed.poll() is None
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not contents(tmp_path / "again")
    shard = found[0].parents[3] / "corpus/align/00001.parquet"
    written = shard.stat().st_mtime_ns
    assert start("again").wait() == 0
    assert contents(tmp_path / "whole") == contents(tmp_path / "again")
    assert (tmp_path / "again/corpus/align/00001.parquet").stat().st_mtime_ns == written


@pytest.mark.usefixtures("one_process")
def test_two_at_once_do_not_share_scratch(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        interrupt(patch, 20)
        curate("smoke", tmp_path / "raw", tmp_path / "one")
    (other,) = (tmp_path / ".scratch").iterdir()
    before = contents(other)
    with (other / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        curate("smoke", tmp_path / "raw", tmp_path / "two")
    assert contents(other) == before
    assert (tmp_path / "two/audit.json").is_file()
