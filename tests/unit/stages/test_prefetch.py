"""What is opened ahead, on other machines, is what curate would have opened itself."""

import json
import shutil
from pathlib import Path

import pytest

from fcotvl.core.config import load
from fcotvl.core.errors import ParamsError
from fcotvl.data import sources
from fcotvl.data.decoding import Opening
from fcotvl.stages import curate
from fcotvl.stages import prefetch as intake
from tests.support.datasets import small_shards, write_chartqa
from tests.support.imports import ROOT

PARTS = 3


@pytest.fixture(autouse=True)
def _small_cuts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "BLOCK", 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "raw").mkdir()


@pytest.fixture
def opened(monkeypatch):
    """One entry for each picture that is opened outside of the benchmarks."""
    whole, names = Opening.__call__, []

    def noted(self, drafts):
        names.extend(draft.file for draft in drafts if self.split != "test")
        return whole(self, drafts)

    monkeypatch.setattr(Opening, "__call__", noted)
    return names


def open_part(mix, number, out, study=ROOT / "params.yaml"):
    account = out / "intake" / f"{number}-of-{PARTS}.json"
    intake.run(
        load(study, mix=mix),
        raw=Path("raw"),
        part=f"{number}-of-{PARTS}",
        account=account,
    )
    return json.loads(account.read_text())


def mixed(mix, out, study=ROOT / "params.yaml"):
    """All bytes that curate writes."""
    paths = {name: out / name for name in ("corpus", "benchmarks", "audit")}
    curate.run(load(study, mix=mix), raw=Path("raw"), **paths)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_all_parts_together_leave_nothing_to_open(tmp_path, opened):
    wanted = mixed("smoke", tmp_path / "alone")
    asked = sorted(set(opened))
    opened.clear()
    accounts = [open_part("smoke", number, tmp_path / "shared") for number in (1, 2, 3)]
    assert set(asked) <= set(opened)
    assert len(opened) == len(set(opened))
    held = [sum(sum(row.values()) for row in one["items"].values()) for one in accounts]
    assert sum(held) == len(opened)
    assert min(held) > 0
    opened.clear()
    assert mixed("smoke", tmp_path / "shared") == wanted
    assert opened == []
    assert not (tmp_path / "shared/intake").exists()


def local_sources(raw):
    """Training charts with a picture of the benchmark and a damaged one among them."""
    write_chartqa(raw, "test", charts=5)
    root = write_chartqa(raw, "train", charts=40, first_seed=100)
    shutil.copy(raw / "ChartQA/ChartQA Dataset/test/png/0.png", root / "png/100.png")
    (root / "png/101.png").write_bytes(b"damaged")


@pytest.mark.parametrize("numbers", [(1, 2, 3), (1, 3), (2,)])
def test_missing_parts_are_opened_by_curate(tmp_path, opened, numbers):
    """Sources that run dry and are repeated; what is dropped is dropped for the same reasons."""
    local_sources(tmp_path / "raw")
    wanted = mixed("local", tmp_path / "alone")
    alone = len(opened)
    for number in numbers:
        open_part("local", number, tmp_path / "shared")
    opened.clear()
    assert mixed("local", tmp_path / "shared") == wanted
    assert (len(opened) < alone) == (1 in numbers)


def test_a_part_that_was_killed_opens_only_what_is_missing(tmp_path, opened):
    open_part("smoke", 1, tmp_path)
    cuts = sorted(tmp_path.glob("intake/*/*/*/*.parquet"))
    cuts[0].unlink()
    opened.clear()
    open_part("smoke", 1, tmp_path)
    assert len(opened) == sources.BLOCK
    assert sorted(tmp_path.glob("intake/*/*/*/*.parquet")) == cuts


@pytest.mark.parametrize("limit", [25, 70])
def test_a_killed_curate_goes_on_behind_what_was_opened_ahead(tmp_path, opened, monkeypatch, limit):
    """The kill comes while it opens what is missing; some finished shards are of cuts, some not."""
    local_sources(tmp_path / "raw")
    study = small_shards(tmp_path)
    wanted = mixed("local", tmp_path / "alone", study)
    alone = len(opened)
    open_part("local", 1, tmp_path / "shared", study)
    opened.clear()
    whole = Opening.__call__

    def killed(self, drafts):
        if len(opened) == limit:
            raise KeyboardInterrupt
        return whole(self, drafts)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(Opening, "__call__", killed)
        mixed("local", tmp_path / "shared", study)
    opened.clear()
    assert mixed("local", tmp_path / "shared", study) == wanted
    assert len(opened) < alone - 3


def test_what_was_opened_of_other_files_is_not_used(tmp_path, opened):
    local_sources(tmp_path / "raw")
    open_part("local", 1, tmp_path / "shared")
    image = next((tmp_path / "raw").rglob("train/png/110.png"))
    shutil.copy(tmp_path / "raw/ChartQA/ChartQA Dataset/test/png/1.png", image)
    opened.clear()
    changed = mixed("local", tmp_path / "shared")
    assert changed == mixed("local", tmp_path / "alone")
    assert b"110.png" in changed["audit"]
    open_part("local", 1, tmp_path / "shared")
    (key,) = [path for path in (tmp_path / "shared/intake").iterdir() if path.is_dir()]
    assert key.name == json.loads((tmp_path / "shared/intake/1-of-3.json").read_text())["key"]


@pytest.mark.parametrize("part", ["3", "0-of-3", "4-of-3", "a-of-b"])
def test_a_part_that_is_none_is_one_line(tmp_path, part):
    with pytest.raises(ParamsError, match=r"--part is .*, expected K-of-N"):
        intake.run(
            load(ROOT / "params.yaml", mix="smoke"),
            raw=Path("raw"),
            part=part,
            account=tmp_path / "a.json",
        )
