"""Save points of the ablation grid as DVC experiments."""

import sys

from fcotvl.core.config import Params
from fcotvl.dag import Pipeline
from fcotvl.dag.publish import publish


def run(params: Params) -> None:
    """Publish what ``snakemake variants`` has finished and print the experiments' names."""
    del params  # every command takes them
    sys.stdout.writelines(f"{name}\n" for name in publish(Pipeline()))
