"""Scale internvl2-2b on mix public, from models and data sets of a hub on this machine to the report.

Budgets are cut and the models are small; vocabulary and widths apart, everything is as at full size: original key
layouts, 448-pixel tiles, every source and benchmark of the mix. The tests tell one story, in order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fcotvl.core import config
from fcotvl.stages import distill, predict, teacher
from tests.support.hub import serve
from tests.support.hub_samples import write_hub
from tests.support.imports import ROOT
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(900)]

SCALE, MIX = Path("workflow/scales/internvl2-2b.yaml"), Path("workflow/mixes/public.yaml")
SHARED = Path("data/internvl2-2b")
VARIANT = SHARED / "cnn-r0.5-s0"
FIRST = ["check", "curate", "distill", "rscot", "teacher"]
"""Stages that Snakemake runs; DVC runs the others."""
BUDGETS = {
    "prompts": {"direct_tokens": 4, "cot_tokens": 12},
    "distill": {"steps": 3, "batch_size": 4, "workers": 0},
    "rscot": {"questions": 40},
    "sft": {"steps": 4, "batch_size": 4, "workers": 0, "checkpoints": 2, "reweigh": 2},
    "merge": {"questions": 4},
    "evaluate": {"speed_pairs": 1},
    "launch": {"processes": 1},  # eight where there are accelerators
}
CORPUS = {"align": 16, "instruct": 64, "val": 4, "epochs": 2}


def cut(path: Path, sections: dict[str, dict[str, object]]) -> None:
    """Set values in the sections of a YAML file."""
    content = yaml.safe_load(path.read_text())
    for name, values in sections.items():
        content[name] |= values
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("hub")
    write_hub(home, ROOT / MIX)
    with serve(home) as address:
        yield address


@pytest.fixture(scope="module")
def clone(hub: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A clone with the real scale and mix, cut in length; it knows no other hub."""
    folder = tmp_path_factory.mktemp("real") / "clone"
    folder.mkdir()
    workspace = Workspace(folder)
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        workspace.environment.pop(name, None)
    workspace.environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(folder.parent / "cache")}
    workspace.fill()
    workspace.edit("params.yaml", "^scale: smoke", "scale: internvl2-2b")
    workspace.edit("params.yaml", "^mix: smoke", "mix: public")
    for scale in (SCALE, SCALE.with_name("internvl2-1b.yaml")):
        cut(folder / scale, BUDGETS)
    cut(folder / MIX, {"corpus": CORPUS})
    mix = yaml.safe_load((folder / MIX).read_text())
    for source in mix["sources"]:
        source["weight"] = 1  # so that a few pictures are of all sources
    (folder / MIX).write_text(yaml.safe_dump(mix, sort_keys=False))
    workspace.commit()
    return workspace


def test_snakemake_trains_from_the_hub(clone: Workspace):
    ran = clone.ok("snakemake", "--cores", "1", "data/check.txt", str(VARIANT / "distill.csv"), str(SHARED / "rationales.parquet"))
    assert ran.stages == FIRST


def test_dvc_goes_on_to_the_report(clone: Workspace):
    ran = clone.ok("dvc", "repro")
    assert ran.stages == 0
