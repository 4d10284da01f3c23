"""TextVQA (arXiv 1904.08920): questions about text in photographs, each answered by ten people.

A question has ten answers, equal ones among them, and each counts as a vote. Validation: 5,000 questions; the answers
of the test split are hidden.
"""

from fcotvl.evaluate.benchmarks import Benchmark

BENCHMARK = Benchmark(title="TextVQA", headline="vqa_accuracy", metrics=("vqa_accuracy", "exact_match"))
