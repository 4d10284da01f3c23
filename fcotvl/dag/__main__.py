"""``python -m fcotvl.dag commit`` after a killed Snakemake; ``publish`` after an ablation."""

from __future__ import annotations

import argparse
import sys

from fcotvl.dag import Chain, commit
from fcotvl.dag.publish import publish
from fcotvl.errors import FcotvlError


def main() -> int:
    """Run one of the two and return the exit code."""
    parser = argparse.ArgumentParser(prog="fcotvl.dag", description=__doc__)
    parser.add_argument("what", choices=["commit", "publish"])
    try:
        if parser.parse_args().what == "commit":
            commit(Chain())
        else:
            for name in publish(Chain()):
                print(name)
    except FcotvlError as error:
        print(f"fcotvl.dag: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
