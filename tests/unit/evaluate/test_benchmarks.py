"""Every benchmark keeps one contract: its metrics exist, and one of them is the headline."""

import pytest

from fcotvl.core.errors import ParamsError
from fcotvl.evaluate import benchmarks, metrics


def test_finds_every_benchmark_of_the_folder():
    assert benchmarks.available() == ("ai2d", "chartqa", "docvqa", "infovqa", "ocrbench", "textvqa", "vqav2")


@pytest.mark.parametrize("name", benchmarks.available())
def test_its_metrics_are_registered_and_the_headline_is_one_of_them(name):
    benchmark = benchmarks.get(name)
    assert benchmark.headline in benchmark.metrics
    assert set(benchmark.metrics) <= set(metrics.available())


def test_chartqa_reports_every_dialect_of_relaxed_accuracy():
    dialects = {name for name in metrics.available() if name.startswith("relaxed_")}
    assert dialects <= set(benchmarks.get("chartqa").metrics)
    assert len(dialects) == 4


def test_an_unknown_benchmark_is_answered_with_the_known_ones():
    with pytest.raises(ParamsError, match="no benchmark 'gqa'; there are ai2d, chartqa, docvqa"):
        benchmarks.get("gqa")


def test_a_headline_that_is_not_computed_is_refused():
    with pytest.raises(ValueError, match="'bleu' is not computed"):
        benchmarks.Benchmark("New", "bleu", ("anls",))
