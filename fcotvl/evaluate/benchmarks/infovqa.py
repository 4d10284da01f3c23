"""InfographicVQA (arXiv 2104.12756): questions about infographics, many of which need reasoning.

One of its questions: "When was lithography invented?" -> ["1796"]. Validation: 2,801 questions; the answers of the test
split are hidden.
"""

from fcotvl.evaluate.benchmarks import Benchmark

BENCHMARK = Benchmark(title="InfographicVQA", headline="anls", metrics=("anls", "exact_match"))
