"""The evaluate room: metrics, benchmarks, intervals, and scores from tables of predictions."""
