"""``python -m fcotvl.dag ...``: what the engines do not tell each other by themselves.

* ``commit``: tell DVC what a killed Snakemake had finished.
* ``publish``: make a DVC experiment of each finished point of the ablation grid.
* ``restore``: bring what a DVC queue finished of the grid into this folder, for Snakemake.
"""

from __future__ import annotations

import argparse
import sys

from fcotvl.core.errors import FcotvlError
from fcotvl.dag import Chain, commit
from fcotvl.dag.variants import publish, restore


def main() -> int:
    """Run one of the two and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="fcotvl.dag", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["commit", "publish", "restore"])
    what = parser.parse_args().what
    try:
        if what == "commit":
            commit(Chain())
        else:
            print("\n".join((publish if what == "publish" else restore)(Chain())))
    except FcotvlError as error:
        print(f"fcotvl.dag: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
