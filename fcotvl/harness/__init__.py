"""lm-evaluation-harness: our models and benchmarks in its terms. The only package that imports ``lm_eval``."""

from pathlib import Path

TASKS = Path(__file__).parent / "tasks"
"""Folder of the task files, for ``--include_path``."""
