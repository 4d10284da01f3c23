"""Teacher and students are measured on the same words: what is written, and what is refused."""

import pandas as pd
import pytest

from fcotvl.compress.checkpoints import StudentHeader, load_teacher, make_student, write_student_tensors
from fcotvl.core import config
from fcotvl.core.errors import CheckpointError, DataError
from fcotvl.core.shards import write_shards
from fcotvl.stages import attention
from tests.support import corpora

STUDY = config.load(scale="smoke", mix="smoke")


@pytest.fixture
def asked(tmp_path):
    """Three pictures of each benchmark, a teacher, and its replies."""
    rows = []
    for name in STUDY.mix_config.benchmarks:
        records = [corpora.record(number) for number in range(3)]
        write_shards(tmp_path / "benchmarks" / name, records, shard_size=5)
        rows += [
            {"benchmark": name, "prompt": prompt, "question_id": turn.id}
            for record in records
            for turn in record.turns
            for prompt in ("direct", "cot")
        ]
    replies = pd.DataFrame(rows).assign(system="teacher", prediction="It is\nAnswer: 7", references=[["7"]] * len(rows))
    others = replies.assign(system="random-r0.5", prediction="?")
    pd.concat([others, replies]).to_parquet(tmp_path / "predictions.parquet")
    teacher = corpora.write_teacher(tmp_path / "teacher")
    files = {"benchmarks": tmp_path / "benchmarks", "predictions": tmp_path / "predictions.parquet"}
    return files | {"teacher": teacher, "output": tmp_path / "attention.parquet"}


@pytest.fixture
def student(asked, tmp_path):
    """A folder of checkpoints, of which only the last can be read."""
    folder = tmp_path / "checkpoints"
    model = make_student(load_teacher(asked["teacher"]), compressor="pool", ratio=0.5)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if "projector" in name}
    write_student_tensors(folder / "2.safetensors", tensors, StudentHeader("sft", "pool", 0.5))
    (folder / "1.safetensors").write_text("half written")
    return folder


def test_a_row_for_each_question_prompt_part_and_layer(asked, student):
    attention.run(STUDY, **asked, questions=3)
    table = pd.read_parquet(asked["output"])
    keys = ["benchmark", "prompt", "question_id", "part", "layer"]
    assert len(table) == len(table.drop_duplicates(keys)) == 3 * 2 * 3 * 2 * 4
    assert table.drop_duplicates("question_id")["kind"].value_counts().to_dict() == dict.fromkeys(
        ("transcribe", "extractive", "reason"), 1
    )
    assert table["mass"].between(0, 1).all()
    attention.run(STUDY, **asked, questions=3, student=student)
    own = pd.read_parquet(asked["output"])
    assert own[keys].equals(table[keys])
    assert (own["mass"] != table["mass"]).all()


def test_a_folder_without_students_and_a_table_of_others_are_one_line(asked, tmp_path):
    with pytest.raises(CheckpointError, match="holds no safetensors"):
        attention.run(STUDY, **asked, student=tmp_path)
    table = pd.read_parquet(asked["predictions"])
    table[table["system"] != "teacher"].to_parquet(asked["predictions"])
    with pytest.raises(DataError, match=r"has no reply of the teacher to .* give the table that predict wrote"):
        attention.run(STUDY, **asked)
