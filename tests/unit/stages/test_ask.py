"""A question from the command line gets the reply that the chain would give."""

import pytest

from fcotvl.compress.checkpoints import make_student, processor_for, save_student_tensors
from fcotvl.core import config
from fcotvl.core.errors import CheckpointError, DataError
from fcotvl.export.export import export_student
from fcotvl.inference.generate import Query, generate
from fcotvl.stages import ask
from tests.support import corpora, models

QUESTION = "Total?"


@pytest.fixture
def params():
    return config.load(scale="smoke", mix="smoke")


@pytest.fixture
def workspace(tmp_path, monkeypatch, params):
    """A teacher, its merged student and a picture, where the chain puts them."""
    corpora.write_teacher(tmp_path / "data/smoke/teacher")
    student = make_student(models.teacher(), compressor="cnn", ratio=0.5)
    path = tmp_path / "data/smoke/cnn-r0.5-s0/full/merged/merged.safetensors"
    save_student_tensors(student, path, stage="merge")
    export_student(
        student, models.processor(), tmp_path / "mine", name="mine", stage="merge", prompts=params.scale_config.prompts
    )
    models.picture(112, 56).save(tmp_path / "page.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(model, mode, prompts):
    processor = processor_for(models.processor(), model.config)
    text = {"direct": prompts.direct, "cot": prompts.cot}[mode].format(question=QUESTION)
    query = Query(lambda: models.picture(112, 56), "x", text)
    return generate(model, processor, [query], max_new_tokens=prompts.max_new_tokens(mode), label=None)[0]


@pytest.mark.parametrize("cot", [False, True])
def test_the_reply_is_that_of_the_student(workspace, params, capsys, cot):
    ask.run(params, workspace / "page.png", QUESTION, cot=cot)
    student = make_student(models.teacher(), compressor="cnn", ratio=0.5)
    reply = expected(student, "cot" if cot else "direct", params.scale_config.prompts)
    assert capsys.readouterr().out == f"{reply}\n"


@pytest.mark.parametrize("written", ["0", "0.0"])
def test_a_student_that_removes_nothing_is_found_however_its_ratio_is_written(workspace, params, capsys, written):
    student = make_student(models.teacher(), compressor="identity", ratio=0.0)
    path = workspace / f"data/smoke/identity-r{written}-s0/full/merged/merged.safetensors"
    save_student_tensors(student, path, stage="merge")
    asked = params.model_copy(update={"compressor": "identity", "ratio": 0.0})
    ask.run(asked, workspace / "page.png", QUESTION)
    assert capsys.readouterr().out == f"{expected(models.teacher(), 'direct', params.scale_config.prompts)}\n"


def test_systems_are_compared_with_the_tokens_that_each_reads(workspace, params, capsys):
    ask.run(params, workspace / "page.png", QUESTION, compare=True)
    rows = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    seen = {name.strip(): tokens.strip() for name, tokens in rows if tokens.strip()}
    assert seen == {"system": "visual tokens", "teacher": "48", "student": "24", "FastV 0.5": "24"}


def test_an_exported_folder_is_asked(workspace, params, capsys):
    ask.run(params, workspace / "page.png", QUESTION, model=(workspace / "mine",))
    student = make_student(models.teacher(), compressor="cnn", ratio=0.5)
    assert capsys.readouterr().out == expected(student, "direct", params.scale_config.prompts) + "\n"


def test_what_is_not_there_is_one_line(workspace, params):
    with pytest.raises(DataError, match=r"none\.png cannot be read \(No such file.*name a file with a picture"):
        ask.run(params, workspace / "none.png", QUESTION)
    (workspace / "text.png").write_text("no picture")
    with pytest.raises(DataError, match="not a readable image: no known format"):
        ask.run(params, workspace / "text.png", QUESTION)
    with pytest.raises(CheckpointError, match=r"merged\.safetensors is missing; run make repro"):
        ask.run(params.model_copy(update={"ratio": 0.75}), workspace / "page.png", QUESTION)
    with pytest.raises(CheckpointError, match="has no processor"):
        ask.run(params, workspace / "page.png", QUESTION, model=(workspace / "data",))
