"""AI2D (arXiv 1603.07396): questions about diagrams of school science, with options to choose from.

A question is followed by its options, a line each: "A. ...", "B. ..."; the reference is a letter. Test: 3,088
questions.
"""

from fcotvl.evaluate.benchmarks import Benchmark

BENCHMARK = Benchmark(title="AI2D", headline="exact_match", metrics=("exact_match",))
