"""Command ``compare``: the scores of two runs on the same questions, paired."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
from tabulate import tabulate

from fcotvl.core.config import Params
from fcotvl.core.errors import DataError
from fcotvl.evaluate.scoring import SCORE_COLUMNS
from fcotvl.evaluate.summary import compare


def run(params: Params, *, scores: Path, beside: Path) -> None:
    """Print what each system gains from ``scores`` to ``beside``, in points with 95 % intervals.

    Raises:
        DataError: a file is no table of scores, or they have no question in common.
    """
    del params  # every command takes them
    first, second = _read(scores), _read(beside)
    systems = [name for name in first["system"].unique() if name in set(second["system"])]
    both = pd.concat([first.assign(system="0 " + first["system"]), second])
    found = compare(both, [(name, f"0 {name}") for name in systems])
    found = found[found["headline"]]
    if found.empty:
        raise DataError(f"{scores} and {beside} share no system and question; name two runs of one")
    rows = [
        [
            *(row[key] for key in ("system", "benchmark", "prompt", "n")),
            f"{row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]",
        ]
        for row in found.to_dict("records")
    ]
    header = ["system", "benchmark", "prompt", "n", f"{beside} minus {scores}"]
    sys.stdout.write(tabulate(rows, header, tablefmt="github", disable_numparse=True) + "\n")


def _read(path: Path) -> pd.DataFrame:
    try:
        found = pd.read_parquet(path)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a table of scores ({reason}); run score first") from error
    if missing := set(SCORE_COLUMNS) - set(found.columns):
        raise DataError(f"{path} is not a table of scores: it has no {', '.join(sorted(missing))}")
    return found
