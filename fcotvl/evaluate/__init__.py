"""Metrics, benchmarks, and scores from tables of predictions."""
