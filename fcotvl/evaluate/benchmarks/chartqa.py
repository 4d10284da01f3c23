"""ChartQA (arXiv 2203.10244): questions about charts, half written by people, half generated.

One of its questions: "How many bars are shown in the chart?" -> ["3"]. Test: 1,250 human and 1,250 augmented questions;
the score is the mean of the two halves, also where one is larger.
"""

from fcotvl.evaluate.benchmarks import Benchmark

BENCHMARK = Benchmark(
    title="ChartQA",
    headline="relaxed_internvl",
    metrics=("relaxed_internvl", "relaxed_lmms", "relaxed_vlmevalkit", "relaxed_strict", "exact_match"),
    halves=("chartqa/human", "chartqa/augmented"),
)
