"""The tasks ask what the mixes and InternVL ask, and score by every metric of their benchmark."""

import io
import shutil
from dataclasses import replace

import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as Picture
from lm_eval.tasks import TaskManager
from PIL import Image

from fcotvl.core import config
from fcotvl.core.errors import DataError, ParamsError
from fcotvl.core.prompts import MODES, Prompts
from fcotvl.core.shards import read_records, write_shards
from fcotvl.evaluate import benchmarks, metrics
from fcotvl.harness import TASKS, task
from fcotvl.harness.questions import of_hub
from fcotvl.harness.task import study_metadata
from tests.support import datasets

PUBLIC = config.load(scale="internvl2-2b", mix="public")
INDEX = {
    name: entry.cfg
    for name, entry in TaskManager(include_path=TASKS, include_defaults=False).task_index.items()
    if "task" in entry.cfg and "group" not in entry.cfg
}
WHOLE = {name: cfg for name, cfg in INDEX.items() if "source" not in cfg["metadata"]}
BENCHMARKS = sorted({cfg["metadata"]["benchmark"] for cfg in INDEX.values()})
OF_MIX = [name for name, cfg in INDEX.items() if cfg["metadata"]["benchmark"] in PUBLIC.mix_config.benchmarks]
OWN_PROMPTS = {"fcotvl_ai2d_test": "{question}\nAnswer with the option's letter from the given choices directly."}
TEXT = Value("string")


def manager(params, curated):
    prompts, mix = params.scale_config.prompts, params.mix_config.benchmarks
    study = study_metadata(prompts, params.mix, mix, curated)
    return TaskManager(include_path=TASKS, include_defaults=False, metadata=study)


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    """Questions about two pictures under the name of each benchmark, all ten answers to one alike."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for name in BENCHMARKS:
        records = [datasets.record(number, "How many?", "Which {{one}}?", split="test") for number in (1, 2)]
        records = [
            replace(one, turns=tuple(replace(turn, answers=("yes",) * 10) for turn in one.turns)) for one in records
        ]
        write_shards(folder / name, records, shard_size=5)
    return folder


def write_hub(folder, name, features, rows):
    """A Parquet file that stands for a data set of the hub; each row has a picture of its own colour."""
    pictures = []
    for number, _ in enumerate(rows):
        file = io.BytesIO()
        Image.new("RGB", (20, 20), (number, 0, 0)).save(file, "PNG")
        pictures.append({"bytes": file.getvalue(), "path": None})
    features = Features({"image": Picture(), **features})
    table = [{"image": picture, **row} for picture, row in zip(pictures, rows, strict=True)]
    Dataset.from_list(table, features=features).to_parquet(folder / name)


def whole(benchmark, mode="direct"):
    """The name of the task with all questions of ``benchmark``."""
    about = {"benchmark": benchmark, "prompt": mode}
    (name,) = (name for name, cfg in WHOLE.items() if about.items() <= cfg["metadata"].items())
    return name


def test_every_benchmark_of_the_public_mix_has_a_task_for_each_prompt():
    found = {(cfg["metadata"]["benchmark"], cfg["metadata"]["prompt"]) for cfg in WHOLE.values()}
    assert found >= {(name, mode) for name in PUBLIC.mix_config.benchmarks for mode in MODES}


def test_every_benchmark_has_tasks():
    assert tuple(BENCHMARKS) == benchmarks.available()


@pytest.mark.parametrize("name", INDEX)
def test_a_task_asks_as_the_internvl2_scales_do(name):
    cfg, prompts = INDEX[name], Prompts()
    mode, limits = cfg["metadata"]["prompt"], cfg["generation_kwargs"]
    template = OWN_PROMPTS.get(name) or {"direct": prompts.direct, "cot": prompts.cot}[mode]
    assert cfg["doc_to_text"] == "<image>" + template.replace("{question}", "{{question}}")
    assert limits["max_gen_toks"] == prompts.max_new_tokens(mode)
    assert limits["min_new_tokens"] == prompts.min_tokens
    assert (limits["until"], limits["do_sample"]) == ([], False)


@pytest.mark.parametrize("name", OF_MIX)
def test_a_task_asks_what_the_public_mix_asks(name):
    cfg = INDEX[name]
    settings = PUBLIC.mix_config.benchmarks[cfg["metadata"]["benchmark"]]
    hub = {"id": cfg["dataset_path"], "split": cfg["test_split"], **cfg["dataset_kwargs"]}
    hub |= {"config": cfg["dataset_name"]} if "dataset_name" in cfg else {}
    assert (hub, cfg["metadata"]["max_tiles"]) == (settings.options, settings.max_tiles)
    assert cfg["metadata"]["licence"] == settings.licence


@pytest.mark.parametrize("name", INDEX)
def test_a_task_says_where_it_comes_from(name):
    folder = next(TASKS.glob(f"*/{name}.yaml")).parent
    text = (folder / "README.md").read_text()
    assert f"`{name}`" in text
    assert INDEX[name]["dataset_path"] in text
    assert INDEX[name]["metadata"]["licence"] in text


def test_the_table_of_sets_is_that_of_the_tasks():
    lines = (TASKS / "README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| [")]
    found = {
        (cfg["metadata"]["benchmark"], f"`{cfg['dataset_path']}`", cfg["test_split"], cfg["metadata"]["licence"])
        for cfg in INDEX.values()
    }
    assert {
        (link.partition("(")[2].partition("/")[0], hub, split, own) for link, _, hub, split, _, own in rows
    } == found


@pytest.mark.parametrize("name", WHOLE)
def test_a_study_changes_prompt_limit_tiles_and_questions(name, curated):
    params = config.load(scale="smoke", mix="smoke")
    loaded = manager(params, curated).load(name)["tasks"][name]
    about = WHOLE[name]["metadata"]
    prompts, benchmark = params.scale_config.prompts, about["benchmark"]
    asking = Prompts(direct=OWN_PROMPTS[name]) if name in OWN_PROMPTS else prompts
    records = list(read_records(curated / benchmark))
    assert [loaded.doc_to_text(doc) for doc in loaded.eval_docs] == [
        "<image>" + asking.ask(turn, about["prompt"]) for record in records for turn in record.turns
    ]
    limits = loaded.config.generation_kwargs
    assert limits["max_gen_toks"] == prompts.max_new_tokens(about["prompt"])
    assert limits["min_new_tokens"] == prompts.min_tokens
    settings = params.mix_config.benchmarks.get(benchmark)
    tiles = settings.max_tiles if settings else about["max_tiles"]
    assert {doc["max_tiles"] for doc in loaded.eval_docs} == {tiles}
    (picture,) = loaded.doc_to_image(loaded.eval_docs[0])
    assert picture.convert("RGB").tobytes() == records[0].decode().tobytes()


@pytest.mark.parametrize("name", WHOLE)
def test_a_reply_is_scored_by_every_metric(name, curated):
    params = config.load(scale="smoke", mix="smoke")
    loaded = manager(params, curated).load(name)["tasks"][name]
    about, doc = WHOLE[name]["metadata"], loaded.eval_docs[0]
    answer = doc["references"][0]
    reply = {"direct": answer, "cot": f"I read it.\nAnswer: {answer}"}[about["prompt"]]
    names = benchmarks.get(about["benchmark"]).metrics
    assert loaded.process_results(doc, [reply]) == {m: metrics.get(m)(answer, doc["references"]) for m in names}
    assert set(loaded.process_results(doc, [reply]).values()) == {1.0}
    assert set(loaded.process_results(doc, ["else"]).values()) == {0.0}
    assert loaded.process_results(doc | {"references": []}, [reply]) == {}


def test_without_a_study_the_questions_are_the_hub_s(tmp_path, monkeypatch):
    """A folder of Parquet files stands for the hub, here and below."""
    rows = [
        {"question": "One?", "answer": "1", "type": "human_test"},
        {"question": "Two?", "answer": "2", "type": "augmented_test"},
    ]
    features = dict.fromkeys(("question", "answer", "type"), TEXT)
    write_hub(tmp_path, "lmms-lab/ChartQA/data/test-0.parquet", features, rows)
    monkeypatch.chdir(tmp_path)
    tasks = TaskManager(include_path=TASKS, include_defaults=False).load("fcotvl_chartqa")["tasks"]
    asked = {name: [(doc["source"], task.doc_to_text(doc)) for doc in task.eval_docs] for name, task in tasks.items()}
    tail = " Answer the question using a single word or phrase."
    assert asked == {
        "fcotvl_chartqa_human": [("chartqa/human", f"<image>One?{tail}")],
        "fcotvl_chartqa_augmented": [("chartqa/augmented", f"<image>Two?{tail}")],
    }


def test_a_choice_is_asked_for_by_its_letter_also_in_a_study(tmp_path, monkeypatch):
    rows = [{"question": "Which is a plant?", "options": ["Fox", "Oak"], "answer": "1"}]
    features = {"question": TEXT, "options": List(TEXT), "answer": TEXT}
    write_hub(tmp_path, "lmms-lab/ai2d/data/test-0.parquet", features, rows)
    tasks, name = manager(config.load(scale="smoke", mix="smoke"), tmp_path / "none"), whole("ai2d")
    monkeypatch.chdir(tmp_path)
    task = tasks.load(name)["tasks"][name]
    (document,) = task.eval_docs
    assert task.doc_to_text(document) == (
        "<image>Which is a plant?\nA. Fox\nB. Oak\nAnswer with the option's letter from the given choices directly."
    )
    scores = [task.process_results(document, [reply])["exact_match"] for reply in ("B", " b", "A", "Oak")]
    assert scores == [1, 1, 0, 0]


def test_formulas_of_ocrbench_have_a_rule_of_their_own(tmp_path, monkeypatch):
    rows = [
        {"dataset": "HME100k", "question": "Formula?", "question_type": "Formulas", "answer": ["X _ 2\n"]},
        {"dataset": "IAM", "question": "Text?", "question_type": "Handwriting", "answer": ["Mr X ", "X"]},
    ]
    features = dict.fromkeys(("dataset", "question", "question_type"), TEXT) | {"answer": List(TEXT)}
    write_hub(tmp_path, "echo840/OCRBench/data/test-0.parquet", features, rows)
    monkeypatch.chdir(tmp_path)
    name = whole("ocrbench")
    task = TaskManager(include_path=TASKS, include_defaults=False).load(name)["tasks"][name]
    replies = ("It is X_2.", "x_2", "mr x")
    found = {
        document["question"]: [task.process_results(document, [one]) for one in replies] for document in task.eval_docs
    }
    assert found == {
        "Formula?": [{"ocrbench": 1}, {"ocrbench": 0}, {"ocrbench": 0}],
        "Text?": [{"ocrbench": 1}, {"ocrbench": 1}, {"ocrbench": 1}],
    }


VOTES = {
    "fcotvl_textvqa_val": ("lmms-lab/textvqa", List(TEXT), lambda said: said),
    "fcotvl_vqav2_val": (
        "lmms-lab/VQAv2",
        List({"answer": TEXT, "answer_confidence": TEXT, "answer_id": Value("int64")}),
        lambda said: [{"answer": one, "answer_confidence": "yes", "answer_id": id_} for id_, one in enumerate(said, 1)],
    ),
}
"""Where the hub's answers of ten people are, their type, and how they are held."""


@pytest.mark.parametrize("name", VOTES)
def test_ten_people_s_answers_count_as_votes(name, tmp_path, monkeypatch):
    hub_id, kind, held = VOTES[name]
    said = [["Red", "red.", "the red", *["blue"] * 5, "", ""], ["2"] * 10, ["no"] * 10]
    rows = [{"question": f"{number}?", "answers": held(answers)} for number, answers in enumerate(said)]
    write_hub(tmp_path, f"{hub_id}/data/validation-0.parquet", {"question": TEXT, "answers": kind}, rows)
    monkeypatch.chdir(tmp_path)
    task = TaskManager(include_path=TASKS, include_defaults=False, metadata={"count": 2}).load(name)["tasks"][name]
    red, two = task.eval_docs
    assert (red["references"], two["question"]) == (sorted(said[0], key=lambda one: one != "blue"), "1?")
    assert task.process_results(red, ["red"])["vqa_accuracy"] == pytest.approx(0.9)
    assert task.process_results(red, ["Blue"])["vqa_accuracy"] == pytest.approx(1)
    assert task.process_results(two, ["two"]) == {"vqa_accuracy": 1, "exact_match": 0}


def test_a_picture_of_several_questions_is_held_once(tmp_path):
    rows = [
        {"image": {"bytes": datasets.encoded(datasets.picture(1)), "path": None}, "question": f"{one}?"} for one in "ab"
    ]
    features = Features({"image": Picture(), "question": TEXT, "answers": List(TEXT)})
    Dataset.from_list([row | {"answers": ["x"] * 10} for row in rows], features=features).to_parquet(
        tmp_path / "train.parquet"
    )
    place = {"config": None, "split": "train", "licence": "CC0", "count": None}
    first, second = of_hub(str(tmp_path), **place, options={"source": "vqav2", "format": "votes", "answer": "answers"})
    assert first.turns != second.turns
    assert first.image is second.image


def test_a_count_of_questions_that_is_none_is_one_line():
    tasks = TaskManager(include_path=TASKS, include_defaults=False, metadata={"count": "few"})
    with pytest.raises(ParamsError, match="count in --metadata is 'few', expected how many questions"):
        tasks.load("fcotvl_vqav2_val")


def test_a_count_is_refused_where_the_mix_has_the_questions(curated):
    params = config.load(scale="smoke", mix="smoke")
    study = study_metadata(params.scale_config.prompts, params.mix, params.mix_config.benchmarks, curated)
    tasks = TaskManager(include_path=TASKS, include_defaults=False, metadata=study | {"count": 2})
    with pytest.raises(ParamsError, match=r"count in --metadata is of tasks that read from the hub; .* --limit 2"):
        tasks.load(whole("docvqa"))


@pytest.mark.parametrize(("benchmark", "name"), [("docvqa", whole("docvqa")), ("chartqa", "fcotvl_chartqa_human")])
def test_a_benchmark_that_curation_left_empty_is_no_part_of_a_study(benchmark, name, tmp_path, curated):
    params = config.load(scale="smoke", mix="smoke")
    folder = shutil.copytree(curated, tmp_path / "benchmarks")
    shutil.rmtree(folder / benchmark)
    write_shards(folder / benchmark, [], shard_size=5)
    study = study_metadata(params.scale_config.prompts, params.mix, params.mix_config.benchmarks, folder)["study"]
    assert set(study["max_tiles"]) == set(params.mix_config.benchmarks) - {benchmark}
    with pytest.raises(DataError, match=f"the curated mix smoke has no question of {benchmark}"):
        manager(params, folder).load(name)


def test_a_half_that_the_questions_do_not_have_is_one_line(curated):
    params = config.load(scale="smoke", mix="smoke")
    with pytest.raises(DataError, match="task fcotvl_chartqa_human is about chartqa/human, but these questions are of"):
        manager(params, curated).load("fcotvl_chartqa_human")


@datasets.needs_realdata
@pytest.mark.parametrize(("benchmark", "count"), [("chartqa", 282), ("docvqa", 53), ("infovqa", 10), ("ocrbench", 59)])
def test_official_folders_are_read_where_nothing_is_curated(benchmark, count, tmp_path, monkeypatch):
    params = config.load(scale="local", mix="local")
    ocrbench = config.BenchmarkParams(reader="ocrbench", licence="MIT", count=1000, max_tiles=4)
    mix = params.mix_config.model_copy(update={"benchmarks": {**params.mix_config.benchmarks, "ocrbench": ocrbench}})
    raw = params.data.model_copy(update={"raw": str(datasets.realdata())})
    params = params.model_copy(update={"data": raw, "mix_config": mix})
    monkeypatch.setattr(task.params, "load", lambda **_: params)
    name = whole(benchmark)
    asked = manager(params, tmp_path).load(name)["tasks"][name].eval_docs
    assert len(asked) == count
