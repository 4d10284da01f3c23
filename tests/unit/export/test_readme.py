"""What the README says about a student is done as it stands there, with the bundled teacher behind it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fcotvl.compress.checkpoints import load_teacher, make_student, save_student_tensors
from tests.support.documents import code_blocks
from tests.support.imports import ROOT

STUDENT = "data/tiny/cnn-r0.5-s0/full/merged/merged.safetensors"


def test_export_and_ask_prints_what_the_readme_prints(tmp_path, monkeypatch, capfd):
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Export a student and ask it\n")[1]
    section = section.partition("\n## ")[0]
    for name in ("params.yaml", "workflow"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data/tiny").mkdir(parents=True)
    (tmp_path / "data/tiny/teacher").symlink_to(ROOT / "teachers/tiny")
    # A student of the chain would take minutes; one that removes nothing replies as its teacher does.
    student = make_student(load_teacher(ROOT / "teachers/tiny"), compressor="identity", ratio=0.0)
    save_student_tensors(
        student, tmp_path / STUDENT, stage="merge", names=["model.multi_modal_projector.layer_norm.weight"]
    )
    monkeypatch.chdir(tmp_path)

    (typed,) = code_blocks(section, "console")
    assert f"--student {STUDENT}" in typed
    activate, export = typed.split("\n", 1)
    assert activate == "source .venv/bin/activate"
    found = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-euc", export], env=found, check=True)
    (code,) = code_blocks(section, "python")
    capfd.readouterr()
    exec(code, {})
    (printed,) = code_blocks(section, "text")
    assert capfd.readouterr().out == printed
