"""Scale internvl2-2b on mix public, from a hub on this machine to the report: the tests tell one story, in order.

Budgets are cut, in the scale and mix files of a clone, and the models have small widths and vocabularies. Key layouts,
tokenizers, tiles, sources, benchmarks and their columns are those of the real ones. There is one process where the
shipped scale has eight, and two in a test of their own.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from fcotvl.core import config
from fcotvl.stages import distill, predict, teacher
from tests.support.hub import serve
from tests.support.hub_samples import REPLIES, write_hub
from tests.support.imports import ROOT
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(900)]

SCALES, MIX = Path("workflow/scales"), Path("workflow/mixes/public.yaml")
SHARED = Path("data/internvl2-2b")
VARIANT = SHARED / "cnn-r0.5-s0"
BUDGETS: dict[str, dict[str, object]] = {
    "model": {"max_tiles": 1},  # of training; benchmarks have theirs, and pictures of three tiles
    "prompts": {"direct_tokens": 4, "cot_tokens": 12},
    "distill": {"steps": 3, "batch_size": 4},
    "rscot": {"questions": 12},
    "sft": {"steps": 4, "batch_size": 4, "checkpoints": 2, "reweigh": 2},
    "merge": {"questions": 4},
    "evaluate": {"speed_pairs": 1},
    "launch": {"processes": 1, "distill": {"workers": 0}, "sft": {"workers": 0}},
}
CORPUS = {"align": 16, "instruct": 64, "val": 4, "epochs": 2}
QUESTIONS = 2
"""Of each benchmark; the answer to one of them is among the models' replies."""
SYSTEMS = {"Teacher", "Distilled student", "Fine-tuned, recipe full", "Merged, shapley", "FastV, 50 % removed"}
BFLOAT16 = 2**-8
"""Precision of the numbers that these models compute in."""
IN_TURN = """
import shlex, sys
from fcotvl.__main__ import main
sys.exit(max(main(shlex.split(command)) for command in sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A hub's folder and address."""
    home = tmp_path_factory.mktemp("hub")
    write_hub(home, ROOT / MIX)
    with serve(home) as address:
        yield home, address


@pytest.fixture(scope="module")
def clone(hub: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A clone with the real scale and mix, cut in length, and the paper's fine-tuning; it knows no other hub."""
    home, address = hub
    folder = tmp_path_factory.mktemp("real") / "clone"
    folder.mkdir()
    workspace = Workspace(folder)
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        workspace.environment.pop(name, None)
    workspace.environment |= {"HF_ENDPOINT": address, "HF_HOME": str(folder.parent / "cache")}
    workspace.fill()
    workspace.edit("params.yaml", "^scale: smoke", "scale: internvl2-2b")
    workspace.edit("params.yaml", "^mix: smoke", "mix: public")
    workspace.edit("params.yaml", r"^baselines:\n  methods:\n(  - .*\n)+", "baselines:\n  methods:\n  - fastv\n")
    change(folder / SCALES / "internvl2-2b.yaml", BUDGETS)
    folder_of_1b = {"hub": str(home / "models/OpenGVLab/InternVL2-1B")}
    change(folder / SCALES / "internvl2-1b.yaml", BUDGETS | {"model": BUDGETS["model"] | folder_of_1b})
    mix = yaml.safe_load((folder / MIX).read_text())
    short = {name: {"count": QUESTIONS} for name in mix["benchmarks"]}
    every_source = [source | {"weight": 1} for source in mix["sources"]]  # among a few pictures
    change(folder / MIX, {"corpus": CORPUS, "benchmarks": short, "sources": every_source})
    workspace.commit()
    return workspace


def change(path: Path, values: dict[str, Any]) -> None:
    """Set values in a YAML file, in its sections where they are sections."""

    def merged(old: Any, new: Any) -> Any:
        if not isinstance(new, dict):
            return new
        return old | {name: merged(old.get(name, {}), value) for name, value in new.items()}

    path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), values), sort_keys=False))


def test_snakemake_fetches_curates_trains_and_samples(clone: Workspace):
    targets = ["data/check.txt", str(VARIANT / "distill.csv"), str(SHARED / "rationales.parquet")]
    assert clone.ok("snakemake", "--cores", "1", *targets).stages == ["check", "curate", "distill", "rscot", "teacher"]


def test_dvc_goes_on_to_the_report_and_leaves_nothing_to_do(clone: Workspace):
    ran = {stage.partition("@")[0] for stage in clone.ok("dvc", "repro").stages}
    assert ran == {
        *("sft", "merge", "harness", "speed", "report"),
        *(f"{what}_{of}" for what in ("predict", "score") for of in ("baselines", "distilled", "sft", "merged")),
    }
    assert "Nothing to be done" in clone.ok("snakemake", "--dry-run").text


def test_every_source_is_read_and_what_has_two_pictures_is_set_aside(clone: Workspace):
    audit = json.loads((clone.folder / "data/public/audit.json").read_text())
    kept: dict[str, int] = {}
    for split in audit["corpus"].values():
        for name, row in split["sources"].items():
            kept[name] = kept.get(name, 0) + row["kept"]
    assert len(kept) == len(config.load(clone.folder / "params.yaml", mix="public").mix_config.sources)
    assert min(kept.values()) > 0
    assert {split: row["records"] for split, row in audit["corpus"].items()} == {
        name: count for name, count in CORPUS.items() if name != "epochs"
    }
    (dropped,) = audit["dropped"]
    assert (dropped["as"], dropped["file"]) == ("quarantined", "HuggingFaceM4/Docmatix train, row 0:0")
    assert dropped["reason"] == "images holds 2 pictures, expected one"


def test_rationales_are_kept_and_trained_on(clone: Workspace):
    rationales = pd.read_parquet(clone.folder / SHARED / "rationales.parquet")
    assert set(rationales["rationale"]) == {REPLIES[1]}
    trained = pd.read_csv(clone.folder / VARIANT / "full/sft.csv")["dataset"]
    assert set(trained.str.rpartition("/")[2]) == {"direct", "cot"}


def test_the_report_names_the_model_and_has_every_system(clone: Workspace):
    assert "InternVL2-2B" in (clone.folder / "reports/index.html").read_text()
    for prompt in ("direct", "cot"):
        table = (clone.folder / f"reports/tables/results-{prompt}.md").read_text()
        assert "Questions: DocVQA 2, ChartQA 2, InfographicVQA 2." in table
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line[:1] == "|"]
        scores = {system: cells for system, *cells in rows[2:]}
        assert set(scores) == SYSTEMS
        assert all(cell.startswith("50.0") for cell in scores["Teacher"][1:])
    metrics = json.loads((clone.folder / "reports/metrics.json").read_text())
    assert {"docvqa_cot", "chartqa_cot", "infovqa_cot"} <= set(metrics)
    agreement = json.loads((clone.folder / VARIANT / "full/harness.json").read_text())
    assert all(part["equal"] == part["total"] > 0 for one in agreement.values() for part in one.values())


def test_two_processes_do_what_one_does(clone: Workspace):
    """They start once for four commands; how a command starts its own is in ``tests/unit/stages/test_processes.py``."""
    stages = yaml.safe_load((clone.folder / "dvc.lock").read_text())["stages"]
    commands = []
    for name in ("distill", "rscot", "sft@full", "predict_baselines"):
        outs = {out["path"] for out in stages[name]["outs"]}
        words = shlex.split(stages[name]["cmd"])[3:]
        commands.append(shlex.join(f"two/{word}" if word in outs else word for word in words))
    script = clone.folder.parent / "in_turn.py"
    script.write_text(IN_TURN)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script)]
    clone.ok(*torchrun, *commands, PYTHONPATH=str(clone.folder))
    two = clone.folder / "two"
    for name in ("rationales.parquet", "acceptance.csv", "predictions.parquet"):
        assert (two / SHARED / name).read_bytes() == (clone.folder / SHARED / name).read_bytes()
    for name in ("distill.csv", "full/sft.csv"):
        alone, shared = (pd.read_csv(home / VARIANT / name) for home in (clone.folder, two))
        assert shared["loss"].to_list() == pytest.approx(alone["loss"].to_list(), rel=BFLOAT16)


def test_internvl2_1b_from_a_folder(clone: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(clone.folder)
    study, folder, student = config.load(scale="internvl2-1b"), tmp_path / "teacher", tmp_path / "student.safetensors"
    teacher.run(study, bundled=Path("none"), teacher=folder)
    corpus, benchmarks, losses = Path("data/public/corpus"), Path("data/public/benchmarks"), tmp_path / "distill.csv"
    distill.run(study, corpus=corpus, teacher=folder, student=student, losses=losses)
    assert len(pd.read_csv(losses)) == 3
    answers = tmp_path / "predictions.parquet"
    predict.run(study, benchmarks=benchmarks, teacher=folder, student=student, system="distilled", predictions=answers)
    predicted = pd.read_parquet(answers)
    assert len(predicted) == 2 * 3 * QUESTIONS
    assert set(predicted["prediction"].str.split().str[0]) <= {reply.split()[0] for reply in REPLIES}
