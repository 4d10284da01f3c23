"""OCRBench (arXiv 2305.07895): short questions on text in images of 29 data sets.

One of its questions: "Who is predicted to have the highest gross profit margin?" -> ["Ted Baker"]. Test: 1,000
questions, 100 of which ask for a handwritten formula; the published score is the number of right answers.
"""

from fcotvl.evaluate.benchmarks import Benchmark

BENCHMARK = Benchmark(title="OCRBench", headline="ocrbench", metrics=("ocrbench",))
