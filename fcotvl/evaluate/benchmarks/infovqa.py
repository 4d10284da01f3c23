"""InfographicVQA (arXiv 2104.12756): questions about infographics, many of them to work out.

One of its questions: "When was lithography invented?" -> ["1796"].
Validation: 2,801 questions; the answers of the test split are hidden.
"""

from fcotvl.evaluate.benchmarks import Benchmark, register

INFOVQA = register(
    Benchmark(
        name="infovqa",
        title="InfographicVQA",
        headline="anls",
        metrics=("anls", "exact_match"),
        max_tiles=24,
    )
)
