"""What a page of the report leaves beside itself."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from fcotvl.core.io import atomic
from fcotvl.report.plots import Plot
from fcotvl.report.table import Table, render


def write_tables(output: Path, tables: Sequence[Table], plots: Mapping[str, Plot]) -> None:
    """Write ``tables/`` (Markdown, CSV and LaTeX) and ``figures/`` (SVG) below ``output``."""
    with atomic(output / "tables") as scratch:
        scratch.mkdir()
        for table in tables:
            for suffix, text in render(table).items():
                (scratch / f"{table.name}.{suffix}").write_text(text, encoding="utf-8")
    with atomic(output / "figures") as scratch:
        scratch.mkdir()
        for name, plot in plots.items():
            (scratch / f"{name}.svg").write_text(plot.file, encoding="utf-8")


def commit() -> str:
    """The commit of the code, or ``none`` outside Git."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - the user's own git
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "none"
