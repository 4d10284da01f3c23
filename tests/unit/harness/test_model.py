"""lm-eval's model gives the replies of ``generate``, and refuses what it would not obey."""

import pytest
from lm_eval.api.instance import Instance

from fcotvl.compress.checkpoints import make_student, processor_for, save_student_tensors
from fcotvl.core import config
from fcotvl.core.errors import CheckpointError, ParamsError
from fcotvl.export.export import export_student
from fcotvl.harness.model import FcotvlLM
from fcotvl.inference import pruning
from fcotvl.inference.generate import Query, generate
from tests.support import corpora, models

LIMITS = {"until": [], "max_gen_toks": 6, "do_sample": False}
PICTURES = {name: models.picture(112, 56, seed) for seed, name in enumerate("abc")}
ASKED = [("a", "Total?"), ("b", "Name?"), ("a", "Date?"), ("c", "Is <image> a word?")]


@pytest.fixture
def folder(tmp_path):
    """A teacher, the tensors of a student, and the student exported."""
    corpora.write_teacher(tmp_path / "teacher")
    student = make_student(models.teacher(), compressor="cnn", ratio=0.5)
    save_student_tensors(student, tmp_path / "merged.safetensors", stage="merge")
    prompts = config.load(scale="smoke", mix="smoke").scale_config.prompts
    export_student(student, models.processor(), tmp_path / "mine", name="mine", stage="merge", prompts=prompts)
    return tmp_path


def requests(limits=LIMITS, *, asked=ASKED, image="<image>"):
    return [
        Instance(
            "generate_until",
            {"image_id": name, "max_tiles": 2},
            (f"{image}{question}", dict(limits), {"visual": [PICTURES[name]]}),
            0,
            ("task", number, 1),
        )
        for number, (name, question) in enumerate(asked)
    ]


def expected(model, **other):
    queries = [Query(PICTURES[name].copy, name, question) for name, question in ASKED]
    processor = processor_for(models.processor(), model.config)
    return generate(model, processor, queries, max_new_tokens=6, max_tiles=2, batch_size=3, label=None, **other)


def test_an_exported_student_and_a_stage_file_reply_as_the_student(folder):
    replies = expected(make_student(models.teacher(), compressor="cnn", ratio=0.5))
    assert FcotvlLM(str(folder / "mine"), batch_size="3").generate_until(requests()) == replies
    file = str(folder / "merged.safetensors")
    assert FcotvlLM(file, teacher=str(folder / "teacher"), batch_tokens=200).generate_until(requests()) == replies
    assert len(set(replies)) > 1


def test_a_teacher_replies_as_it_does_alone_and_pruned(folder):
    teacher = models.teacher()
    assert FcotvlLM(str(folder / "teacher"), batch_size=3).generate_until(requests()) == expected(teacher)
    system = pruning.build("fastv", teacher, ratio=0.75, layer=1)
    pruned = FcotvlLM(str(folder / "teacher"), pruning="fastv", ratio=0.75, layer=1, batch_size=3)
    assert pruned.generate_until(requests()) == expected(teacher, pruning=system.pruning) != expected(teacher)


def test_a_reply_ends_where_the_task_says(folder):
    model = FcotvlLM(str(folder / "teacher"), batch_size=3)
    whole = expected(models.teacher())
    end = max(whole, key=len)[-2:]
    replies = model.generate_until(requests(LIMITS | {"until": [end]}))
    assert replies == [reply.partition(end)[0] for reply in whole] != whole


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"top_p": 0.9}, "generation_kwargs has top_p; fcotvl obeys until, max_gen_toks"),
        ({"do_sample": True}, "asks for sampling; fcotvl decodes greedily"),
    ],
)
def test_what_would_not_be_obeyed_is_refused(folder, limits, message):
    with pytest.raises(ParamsError, match=message):
        FcotvlLM(str(folder / "teacher")).generate_until(requests(LIMITS | limits))


def test_tasks_of_other_kinds_are_refused(folder):
    model = FcotvlLM(str(folder / "teacher"))
    with pytest.raises(ParamsError, match="about 1 pictures; expected <image>, then a question"):
        model.generate_until(requests(image="Here is one: <image>"))
    for method in (model.loglikelihood, model.loglikelihood_rolling):
        with pytest.raises(ParamsError, match="task task needs log-likelihoods; fcotvl has generate_until"):
            method(requests())
    with pytest.raises(ParamsError, match="leave out --apply_chat_template"):
        model.apply_chat_template([])


def test_arguments_that_cannot_be_are_one_line(folder):
    with pytest.raises(ParamsError, match="batch_size is 'auto', expected the number of replies"):
        FcotvlLM(str(folder / "teacher"), batch_size="auto")
    with pytest.raises(ParamsError, match="batch_tokens is 0, expected the number of tokens"):
        FcotvlLM(str(folder / "teacher"), batch_tokens=0)
    with pytest.raises(ParamsError, match="dtype is 'int8', expected auto, float32"):
        FcotvlLM(str(folder / "teacher"), dtype="int8")
    with pytest.raises(ParamsError, match="no training-free baseline 'fastw'; did you mean fastv"):
        FcotvlLM(str(folder / "teacher"), pruning="fastw")
    with pytest.raises(ParamsError, match="unknown model_args: prunning; give pretrained, and if you like teacher"):
        FcotvlLM(str(folder / "teacher"), prunning="fastv")
    with pytest.raises(ParamsError, match="model_args has no pretrained"):
        FcotvlLM()
    with pytest.raises(ParamsError, match=r"ratio is 0\.5 and layer 4; expected a share below 1, and 1 to 3"):
        FcotvlLM(str(folder / "teacher"), pruning="fastv", layer=4)
    with pytest.raises(CheckpointError, match="none is not a folder"):
        FcotvlLM(str(folder / "none"))
