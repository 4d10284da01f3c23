"""A benchmark as a task of lm-eval: what its YAML says, adapted to a study where there is one.

Alone, a task asks what its YAML says of the hub's data. With ``study`` in lm-eval's ``--metadata``, as
``study_metadata`` makes it and ``fcotvl lm-eval`` gives it, prompt and limit are those of a scale, questions and tiles
those of a mix. ``{"count": 500}`` in ``--metadata`` reads the first 500 questions of the hub's data, and no more.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval.api.task import ConfigurableTask

from fcotvl.core import config as params
from fcotvl.core.config import BenchmarkParams
from fcotvl.core.errors import DataError, ParamsError
from fcotvl.core.prompts import Prompts
from fcotvl.core.records import Record
from fcotvl.core.shards import read_records
from fcotvl.evaluate import benchmarks, metrics
from fcotvl.evaluate.scoring import answer
from fcotvl.harness.questions import Document, Questions, of_hub, of_mix

Config = dict[str, Any]


class QuestionTask(ConfigurableTask):
    """Questions about pictures, scored by every metric of their benchmark.

    Beside lm-eval's own keys a YAML has in ``metadata``: ``benchmark`` (a name of ``fcotvl.evaluate.benchmarks``),
    ``prompt`` (``direct`` or ``cot``), ``max_tiles``, ``licence``, ``source`` where the task is a part of the
    benchmark, and ``own_prompt`` where the prompts of a scale cannot ask its questions, such as those with options.
    ``dataset_kwargs`` are options of the reader ``huggingface``.

    Args:
        config: of the YAML file, with lm-eval's metadata.

    Raises:
        DataError: there are no such questions.
    """

    def __init__(self, config: Config) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        about = config["metadata"]
        study, prompt = about.get("study"), about["prompt"]
        prompts, max_tiles = Prompts(), about["max_tiles"]
        if study:
            prompts, max_tiles = Prompts(**study["prompts"]), study["max_tiles"].get(about["benchmark"], max_tiles)
            limits = {"max_gen_toks": prompts.max_new_tokens(prompt), "min_new_tokens": prompts.min_tokens}
            config |= {"generation_kwargs": config["generation_kwargs"] | limits}
            if not about.get("own_prompt"):
                config |= {"doc_to_text": "<image>{{prompt}}"}
        records = _records(config)
        self.questions = Questions(records, prompts, prompt, max_tiles)
        names = benchmarks.get(about["benchmark"]).metrics
        config |= {
            "doc_to_image": self.questions.pictures,
            "doc_to_target": "references",
            "process_results": partial(scores, names=names, prompt=prompt),
            "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names],
        }
        super().__init__(config=config)

    def download(self, dataset_kwargs: Config | None = None, **_: Any) -> None:  # noqa: ARG002 - lm-eval's
        """Take the questions in place of ``datasets.load_dataset``."""
        self.dataset = {self.config.test_split: self.questions}


def scores(document: Document, replies: Sequence[str], *, names: Sequence[str], prompt: str) -> dict[str, float]:
    """The score of one reply by each metric; nothing where the references are hidden."""
    references = document["references"]
    if not references:
        return {}
    return {name: metrics.get(name)(answer(replies[0], prompt), references) for name in names}


def study_metadata(
    prompts: Prompts, mix: str, settings: Mapping[str, BenchmarkParams], curated: Path
) -> dict[str, dict[str, Any]]:
    """The metadata with which tasks are those of a study; benchmarks that curation left empty are none of them.

    Args:
        prompts: of its scale.
        mix: its name.
        settings: of the benchmarks of the mix.
        curated: folder of the curated ones.
    """
    tiles = {
        name: benchmark.max_tiles
        for name, benchmark in settings.items()
        if not (curated / name).is_dir() or any(read_records(curated / name))
    }
    study = {"prompts": prompts.model_dump(), "mix": mix, "max_tiles": tiles, "curated": str(curated)}
    return {"study": study}


def _records(config: Config) -> list[Record]:
    """The pictures of a task: as curated, else from the source of the study's mix, else from the hub."""
    about = config["metadata"]
    study, benchmark, count = about.get("study"), about["benchmark"], about.get("count")
    if count is not None and not (isinstance(count, int) and count > 0):
        raise ParamsError(f"count in --metadata is {count!r}, expected how many questions to read, from 1 on")
    if count and study and benchmark in study["max_tiles"]:
        raise ParamsError(f"count in --metadata is of tasks that read from the hub; for {benchmark}, --limit {count}")
    if study and (folder := Path(study["curated"]) / benchmark).is_dir():
        records = list(read_records(folder))
    elif study and benchmark in study["max_tiles"]:
        records = of_mix(params.load(mix=study["mix"]), benchmark)
    else:
        options = config.get("dataset_kwargs", {})
        place = {"config": config.get("dataset_name"), "split": config["test_split"], "licence": about["licence"]}
        records = of_hub(config["dataset_path"], **place, options=options, count=count)
    if not records:
        asked = f"the curated mix {study['mix']}" if study else config["dataset_path"]
        raise DataError(f"task {config['task']}: {asked} has no question of {benchmark}")
    if part := about.get("source"):
        found = sorted({record.source for record in records})
        records = [record for record in records if record.source == part]
        if not records:
            raise DataError(f"task {config['task']} is about {part}, but these questions are of {', '.join(found)}")
    return records
