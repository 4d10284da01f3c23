"""DocVQA (arXiv 2007.00398): questions about scanned pages.

One of its questions: "Where is the university located ?" -> ["san diego", "San Diego"]. Validation: 5,349 questions
about 1,286 pages; the answers of the test split are hidden.
"""

from fcotvl.evaluate.benchmarks import Benchmark

BENCHMARK = Benchmark(title="DocVQA", headline="anls", metrics=("anls", "exact_match"))
