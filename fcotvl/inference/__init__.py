"""Batched generation and training-free pruning of visual tokens."""
