r"""What each merge method costs: averages that it scores, wall time, memory; and the utility that it reaches.

    VARIANT=data/tiny/cnn-r0.5-s0
    python benchmarks/merge_rules.py --scale tiny --teacher data/tiny/teacher --student $VARIANT/student.safetensors \
        --checkpoints $VARIANT/full/checkpoints --questions data/rendered/corpus/val

Each method scores only what it looks at, on pictures that are encoded; the stage ``merge`` scores every coalition of a
small pool once, for all of them. Times are ratios to the quickest method that scores anything. Memory is what the
process allocates at its peak, above what it has before. Linux only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from merge import Peak
from tabulate import tabulate

from fcotvl.core import config
from fcotvl.core.config import MergeParams
from fcotvl.merge import methods
from fcotvl.merge.average import average_files
from fcotvl.merge.shapley import LazyTable
from fcotvl.stages import merge


def measure(
    method: str, params: MergeParams, pool: dict[str, Path], score: merge.Score, empty: merge.Utilities
) -> tuple[int, float, float, float]:
    """Averages that ``method`` scores, seconds, peak MiB, and the utility of its merged student."""
    scored: list[Path] = []

    def counted(shares: merge.Shares, place: Path) -> merge.Utilities:
        scored.append(place)
        return score(shares, place) if shares else empty

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = LazyTable(pool, lambda members: counted(merge.uniform(members), folder / merge.coalition_name(members)))
        utility = merge.make_utility(pool, table, counted, folder)
        peak, start = Peak(), time.perf_counter()
        shares = methods.get(method)(utility, params)
        average_files(list(pool.values()), [shares[player] for player in pool], folder / "merged.safetensors")
        seconds, most, averages = time.perf_counter() - start, peak.end(), len(scored)
        return averages, seconds, most / 2**20, utility.average(shares)


def main() -> None:
    """Run every method on the same pool and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--params", type=Path, help="values in place of those of params.yaml")
    for name in ("teacher", "student", "checkpoints", "questions"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    params = config.load(scale=args.scale, overlay=args.params)
    pool = {path.stem: path for path in sorted(args.checkpoints.glob("*.safetensors"))}
    questions = merge.choose_questions(args.questions, params.scale_config.merge.questions, params.data_seed)
    score = merge.make_scorer(params, args.teacher, args.student, pool, questions)
    with tempfile.TemporaryDirectory() as name:
        # It comes first: others load their tensors over the distilled student's.
        empty = score({}, Path(name) / "empty_coalition")
    found = {method: measure(method, params.merge, pool, score, empty) for method in methods.available()}
    unit = min(seconds for averages, seconds, *_ in found.values() if averages)
    rows = [[name, one[0], one[1] / unit, *one[2:]] for name, one in sorted(found.items(), key=lambda item: item[1][1])]
    print(tabulate(rows, ["method", "averages", "time", "peak MiB", "utility"], tablefmt="github", floatfmt=".3g"))


if __name__ == "__main__":
    main()
