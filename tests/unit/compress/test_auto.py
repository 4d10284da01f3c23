"""``import fcotvl`` makes the Auto classes know the student, in any order and without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fcotvl.compress.checkpoints import make_student
from tests.support import models

CHECK = """
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
assert type(AutoProcessor.from_pretrained({teacher!r})).__name__ == "FcotvlProcessor"
assert type(AutoConfig.from_pretrained({student!r})).__name__ == "FcotvlConfig"
model = AutoModelForImageTextToText.from_pretrained({student!r})
assert type(model).__name__ == "FcotvlForConditionalGeneration"
"""
ORDERS = [
    "import fcotvl",
    "import transformers.models.auto.modeling_auto, fcotvl",
    "import fcotvl; from transformers import InternVLForConditionalGeneration",
    "import fcotvl.compress.processor",
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    teacher = models.teacher()
    teacher.save_pretrained(folder / "teacher")
    models.processor().save_pretrained(folder / "teacher")
    make_student(teacher, compressor="cnn", ratio=0.5).save_pretrained(folder / "student")
    return {"teacher": str(folder / "teacher"), "student": str(folder / "student")}


@pytest.mark.parametrize("order", ORDERS)
def test_the_auto_classes_load_a_saved_student(saved, order):
    done = subprocess.run(
        [sys.executable, "-c", f"{order}\n{CHECK.format(**saved)}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_neither_torch_nor_transformers():
    code = "import sys, fcotvl; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
