"""Stages as commands: what starts often starts fast, and what cannot be had is one line."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.support.imports import ROOT

HEAVY = ("torch", "transformers")


def test_what_engines_and_light_stages_start_is_free_of_torch():
    modules = ["dag", "core.config", "stages.check", "stages.curate", "stages.report", "stages.score"]
    code = (
        "import sys; from importlib import import_module\n"
        f"for name in {modules!r}:\n"
        "    import_module(f'fcotvl.{name}')\n"
        f"    print(*[f'{{name}} imports {{heavy}}' for heavy in {HEAVY} if heavy in sys.modules], end='')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == ""


def refused(*arguments: str, **extra: str) -> str:
    """What a stage says that must end with exit code 2; no hub answers."""
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_DOWNLOAD_TIMEOUT": "1", **extra}
    done = subprocess.run(
        [sys.executable, "-m", "fcotvl", *arguments],
        cwd=ROOT,
        env=os.environ | closed,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_an_unreachable_hub_is_one_line_that_names_what_was_wanted(tmp_path):
    made = tmp_path / "teacher"
    message = refused("teacher", "--scale", "internvl2-1b", "--bundled", "x", "--teacher", str(made))
    assert "OpenGVLab/InternVL2-1B" in message
    assert "check the network" in message
    assert not list(tmp_path.iterdir())


def test_curate_without_a_hub_names_the_data_set(tmp_path):
    raw, made = tmp_path / "raw", tmp_path / "made"
    raw.mkdir()
    paths = ["--raw", raw, "--corpus", made, "--benchmarks", made / "b", "--audit", made / "a.json"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}  # without it the library waits 20 s
    message = refused("curate", "--mix", "public", *map(str, paths), **offline)
    assert "lmms-lab/DocVQA" in message
    assert "check its id and the connection" in message
    assert not made.exists()


def test_a_teacher_that_is_not_there_is_one_line(tmp_path):
    corpus, student = tmp_path / "corpus", tmp_path / "student.safetensors"
    paths = ["--corpus", corpus, "--teacher", tmp_path / "none", "--student", student]
    message = refused("distill", *map(str, [*paths, "--losses", tmp_path / "losses.csv"]))
    assert str(tmp_path) in message
    assert not list(tmp_path.iterdir())


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """What ``make repro`` reads before it installs anything, as from an archive: without Git."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "teachers").mkdir()
    (tmp_path / "teachers/tiny").symlink_to(ROOT / "teachers/tiny")
    return tmp_path


def stopped(folder: Path, *arguments: str, target: str = "repro", **environment: str) -> list[str]:
    """What ``make`` prints when it stops, without its own last word; as typed, also where make runs the tests."""
    typed = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    done = subprocess.run(
        ["make", "--silent", target, *arguments],
        cwd=folder,
        env=typed | {"GIT_CEILING_DIRECTORIES": str(folder.parent), **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stdout
    assert not done.stdout
    assert not (folder / ".venv/.ready").exists()
    return [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]


def test_make_outside_git_is_one_line(unpacked):
    (line,) = stopped(unpacked)
    assert line.startswith("not a Git repository")
    assert not (unpacked / ".venv").exists()


@pytest.mark.parametrize("python", ["false", "no-such-python"])
def test_make_without_a_recent_python_is_one_line(unpacked, python):
    subprocess.run(["git", "init", "--quiet", unpacked], check=True)
    (line,) = stopped(unpacked, f"PYTHON={python}")
    assert line == f"{python} is not Python 3.11 or newer: name one, as in make repro PYTHON=python3.12"
    assert not (unpacked / ".venv").exists()


def test_every_locked_package_runs_on_the_oldest_python_that_the_readme_names():
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = [Requirement(line).name for line in lines if line and not line.startswith("#")]
    assert f"Python {oldest} or newer" in (ROOT / "README.md").read_text()
    wanted = {name: metadata(name)["Requires-Python"] or "" for name in locked}
    assert not {name: python for name, python in wanted.items() if oldest not in SpecifierSet(python)}


def test_make_without_the_bundled_teacher_says_how_to_get_it(unpacked):
    subprocess.run(["git", "init", "--quiet", unpacked], check=True)
    (unpacked / "teachers/tiny").unlink()
    (line,) = stopped(unpacked)
    assert line.endswith("restore it with git checkout HEAD -- teachers/tiny")
    assert not (unpacked / ".venv").exists()


def test_make_without_a_package_index_is_one_line(unpacked):
    subprocess.run(["git", "init", "--quiet", unpacked], check=True)
    closed = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    none = dict.fromkeys(["PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"], "")
    (line,) = stopped(unpacked, f"PYTHON={sys.executable}", **closed, **none)
    assert line.startswith("no package index answers: check the network")
    assert not list((unpacked / ".venv").rglob("accelerate*"))


def test_a_missing_bundled_teacher_is_one_line_that_says_how_to_get_it(tmp_path):
    message = refused("teacher", "--scale", "tiny", "--bundled", "gone", "--teacher", str(tmp_path / "teacher"))
    assert "gone holds no model.safetensors: restore it with `git checkout HEAD -- gone`" in message


def test_make_results_before_a_run_keeps_the_committed_pages(unpacked):
    page = unpacked / "docs/results/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("committed")
    (line,) = stopped(unpacked, target="results")
    assert line == "reports/index.html is missing: run make repro first"
    assert page.read_text() == "committed"
