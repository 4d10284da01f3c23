"""Compare two runs on the same questions."""

import sys
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from fcotvl.core.config import Params
from fcotvl.core.errors import DataError
from fcotvl.evaluate.summary import compare
from fcotvl.report.inputs import read_scores


def run(params: Params, *, scores: Path, beside: Path) -> None:  # noqa: ARG001 - every command
    """Print what each system gains from ``scores`` to ``beside``, in points with 95 % intervals.

    Args:
        params: not used.
        scores: table of scores of the first run.
        beside: table of scores of the second run, on the same questions.

    Raises:
        DataError: a file is not a table of scores, or they have no question in common.
    """
    first, second = read_scores(scores), read_scores(beside)
    systems = [name for name in first["system"].unique() if name in set(second["system"])]
    both = pd.concat([first.assign(system="0 " + first["system"]), second])
    gains = compare(both, [(name, f"0 {name}") for name in systems])
    gains = gains[gains["headline"]]
    if gains.empty:
        raise DataError(f"{scores} and {beside} share no system and question; name two runs of one")
    rows = [
        [
            *(row[key] for key in ("system", "benchmark", "prompt", "n")),
            f"{row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]",
        ]
        for row in gains.to_dict("records")
    ]
    header = ["system", "benchmark", "prompt", "n", f"{beside} minus {scores}"]
    sys.stdout.write(tabulate(rows, header, tablefmt="github", disable_numparse=True) + "\n")
