"""Every benchmark keeps one contract: its metrics exist, and its set-up is InternVL's."""

import pytest

from fcotvl.core.errors import ParamsError
from fcotvl.evaluate import benchmarks, metrics


def test_finds_every_benchmark_of_the_folder():
    assert benchmarks.available() == ("chartqa", "docvqa", "infovqa")


@pytest.mark.parametrize("name", benchmarks.available())
def test_its_metrics_are_registered_and_the_headline_is_one_of_them(name):
    benchmark = benchmarks.get(name)
    assert benchmark.name == name
    assert benchmark.headline in benchmark.metrics
    assert set(benchmark.metrics) <= set(metrics.available())


@pytest.mark.parametrize(("name", "tiles"), [("chartqa", 12), ("docvqa", 18), ("infovqa", 24)])
def test_tiles_and_tokens_are_capped_as_in_the_published_evaluation(name, tiles):
    benchmark = benchmarks.get(name)
    assert (benchmark.max_tiles, benchmark.max_new_tokens) == (tiles, 100)
    assert benchmark.direct_prompt.format(question="Who?") == (
        "Who? Answer the question using a single word or phrase."
    )


def test_chartqa_reports_every_dialect_of_relaxed_accuracy():
    dialects = {name for name in metrics.available() if name.startswith("relaxed_")}
    assert dialects <= set(benchmarks.get("chartqa").metrics)
    assert len(dialects) == 4


def test_an_unknown_benchmark_is_answered_with_the_known_ones():
    with pytest.raises(ParamsError, match="no benchmark 'vqa'; there are chartqa, docvqa, infovqa"):
        benchmarks.get("vqa")


def test_a_headline_that_is_not_computed_is_refused():
    with pytest.raises(ValueError, match="'bleu' is not computed"):
        benchmarks.register(benchmarks.Benchmark("new", "New", "bleu", ("anls",), max_tiles=6))


def test_a_second_benchmark_of_the_same_name_is_refused():
    with pytest.raises(ValueError, match="two benchmarks are called 'docvqa'"):
        benchmarks.register(benchmarks.get("docvqa"))
