"""The tasks ask what the mixes and InternVL ask, and score by every metric of their benchmark."""

import io

import pytest
from datasets import Dataset, Features, Value
from datasets import Image as Picture
from lm_eval.tasks import TaskManager
from PIL import Image

from fcotvl.core import config
from fcotvl.core.errors import DataError
from fcotvl.core.prompts import MODES, Prompts
from fcotvl.core.shards import read_records, write_shards
from fcotvl.evaluate import benchmarks, metrics
from fcotvl.harness import TASKS, task
from fcotvl.harness.task import study_metadata
from tests.support import datasets

PUBLIC = config.load(scale="internvl2-2b", mix="public")
INDEX = {
    name: entry.cfg
    for name, entry in TaskManager(include_path=TASKS, include_defaults=False).task_index.items()
    if "task" in entry.cfg and "group" not in entry.cfg
}
WHOLE = {name: cfg for name, cfg in INDEX.items() if "source" not in cfg["metadata"]}


def manager(params, curated):
    prompts, mix = params.scale_config.prompts, params.mix_config.benchmarks
    study = study_metadata(prompts, params.mix, mix, curated)
    return TaskManager(include_path=TASKS, include_defaults=False, metadata=study)


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    """Questions of two charts under the name of each benchmark."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for name in PUBLIC.mix_config.benchmarks:
        records = [datasets.record(number, "How many?", "Which {{one}}?", split="test") for number in (1, 2)]
        write_shards(folder / name, records, shard_size=5)
    return folder


def whole(benchmark, mode="direct"):
    """The name of the task with all questions of ``benchmark``."""
    about = {"benchmark": benchmark, "prompt": mode}
    (name,) = (name for name, cfg in WHOLE.items() if about.items() <= cfg["metadata"].items())
    return name


def test_every_benchmark_of_the_public_mix_has_a_task_for_each_prompt():
    found = {(cfg["metadata"]["benchmark"], cfg["metadata"]["prompt"]) for cfg in WHOLE.values()}
    assert found >= {(name, mode) for name in PUBLIC.mix_config.benchmarks for mode in MODES}


@pytest.mark.parametrize("name", INDEX)
def test_a_task_asks_as_the_public_mix_and_the_internvl2_scales_do(name):
    cfg, prompts = INDEX[name], Prompts()
    mode, limits = cfg["metadata"]["prompt"], cfg["generation_kwargs"]
    template = {"direct": prompts.direct, "cot": prompts.cot}[mode]
    assert cfg["doc_to_text"] == "<image>" + template.replace("{question}", "{{question}}")
    assert limits["max_gen_toks"] == prompts.max_new_tokens(mode)
    assert (limits["until"], limits["do_sample"]) == ([], False)
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


@pytest.mark.parametrize("name", WHOLE)
def test_a_study_changes_prompt_limit_tiles_and_questions(name, curated):
    params = config.load(scale="smoke", mix="smoke")
    loaded = manager(params, curated).load(name)["tasks"][name]
    about = WHOLE[name]["metadata"]
    prompts, benchmark = params.scale_config.prompts, about["benchmark"]
    records = list(read_records(curated / benchmark))
    assert [loaded.doc_to_text(doc) for doc in loaded.eval_docs] == [
        "<image>" + prompts.ask(turn, about["prompt"]) for record in records for turn in record.turns
    ]
    limits = loaded.config.generation_kwargs
    assert limits["max_gen_toks"] == prompts.max_new_tokens(about["prompt"])
    tiles = params.mix_config.benchmarks[benchmark].max_tiles
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


def test_without_a_study_the_questions_are_the_hub_s(curated, tmp_path, monkeypatch):
    """A folder of Parquet files stands for the hub."""
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "PNG")
    rows = {"image": [{"bytes": file.getvalue(), "path": None}] * 2, "question": ["One?", "Two?"]}
    rows |= {"answer": ["1", "2"], "type": ["human_test", "augmented_test"]}
    features = Features({"image": Picture(), **{name: Value("string") for name in ("question", "answer", "type")}})
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "lmms-lab/ChartQA/data/test-0.parquet")
    monkeypatch.chdir(tmp_path)
    tasks = TaskManager(include_path=TASKS, include_defaults=False).load("fcotvl_chartqa")["tasks"]
    asked = {name: [(doc["source"], task.doc_to_text(doc)) for doc in task.eval_docs] for name, task in tasks.items()}
    tail = " Answer the question using a single word or phrase."
    assert asked == {
        "fcotvl_chartqa_human": [("chartqa/human", f"<image>One?{tail}")],
        "fcotvl_chartqa_augmented": [("chartqa/augmented", f"<image>Two?{tail}")],
    }


def test_a_half_that_the_questions_do_not_have_is_one_line(curated):
    params = config.load(scale="smoke", mix="smoke")
    with pytest.raises(DataError, match="task fcotvl_chartqa_human is about chartqa/human, but these questions are of"):
        manager(params, curated).load("fcotvl_chartqa_human")


@datasets.needs_realdata
@pytest.mark.parametrize(("benchmark", "count"), [("chartqa", 282), ("docvqa", 53), ("infovqa", 10)])
def test_official_folders_are_read_where_nothing_is_curated(benchmark, count, tmp_path, monkeypatch):
    params = config.load(scale="local", mix="local")
    folders = params.model_copy(update={"data": params.data.model_copy(update={"raw": str(datasets.realdata())})})
    monkeypatch.setattr(task.params, "load", lambda **_: folders)
    name = whole(benchmark)
    asked = manager(params, tmp_path).load(name)["tasks"][name].eval_docs
    assert len(asked) == count
