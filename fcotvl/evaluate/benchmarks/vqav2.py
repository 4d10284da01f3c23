"""VQAv2 (arXiv 1612.00837): questions about photographs of everyday scenes (COCO), each answered by ten people.

One of its questions: "Where is he looking?" -> down (seven times), at table, skateboard, table. Validation: 214,354
questions; the answers of the test splits are hidden.
"""

from fcotvl.evaluate.benchmarks import Benchmark

BENCHMARK = Benchmark(title="VQAv2", headline="vqa_accuracy", metrics=("vqa_accuracy", "exact_match"))
