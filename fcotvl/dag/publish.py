"""Finished points of the ablation grid as DVC experiments, for ``dvc exp show``."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.utils.serialize import modify_yaml

from fcotvl.core.io import write_text
from fcotvl.dag.exchange import STAMP, is_built, sync
from fcotvl.dag.pipeline import Job, Pipeline
from fcotvl.dag.subprocesses import EngineError, run

WORKING = ("params.yaml", "dvc.lock")
"""What an experiment takes from the working folder or makes anew; all else must be committed."""


def publish(pipeline: Pipeline) -> list[str]:
    """Save each finished point of the grid as a DVC experiment and return their names.

    No stage but the report is run. The params are those of the working folder, which the outputs were built with; a
    point's experiment lists its own recipe alone under ``ablation_recipes``.

    Raises:
        EngineError: sources differ from the last commit, or a command failed.
    """
    changed = [line[3:] for line in run("git", "status", "--porcelain").splitlines()]
    if uncommitted := [path for path in changed if not path.startswith(WORKING)]:
        raise EngineError(f"commit your changes first: {', '.join(uncommitted)}")
    sync(pipeline)
    published = []
    for point in pipeline.grid():
        name = "{compressor}-r{ratio}-s{seed}-{recipe}".format(**point)
        values = point | {"ablation_recipes": [point["recipe"]]}
        jobs = pipeline.jobs(**values)
        report = jobs.pop("report")
        if missing := [key for key, job in jobs.items() if not is_built(job)]:
            print(f"{name}: run `snakemake variants` first ({missing[0]})", file=sys.stderr)
            continue
        with _worktree(name, values, jobs.values()) as tree:
            run(*shlex.split(report.cmd), folder=tree)
            run("dvc", "commit", "--force", folder=tree)
            run("dvc", "exp", "save", "--force", "--name", name, folder=tree)
        published.append(name)
    return published


@contextmanager
def _worktree(name: str, values: dict[str, Any], jobs: Iterable[Job]) -> Iterator[Path]:
    """Yield a checkout of the last commit with our params, ``jobs``'s outputs and DVC's cache."""
    tree = Path(".dvc/tmp/variants", name).resolve()
    cache = run("dvc", "cache", "dir").strip()
    shutil.rmtree(tree, ignore_errors=True)  # of a run that was killed; Git takes the second --force for that
    run("git", "worktree", "add", "--force", "--force", "--detach", str(tree), "HEAD")
    try:
        write_text(tree / ".dvc/config.local", f"[cache]\n    dir = {cache}\n")
        shutil.copy2("params.yaml", tree / "params.yaml")
        with modify_yaml(str(tree / "params.yaml")) as params:  # as -S does: comments survive
            params.update(values)
            raw = Path(params["data"]["raw"])
        outputs = [Path(out) for job in jobs for out in job.outs]
        for path in outputs if raw.is_absolute() else [raw, *outputs]:
            _link(path, tree / path)
        yield tree
    finally:
        run("git", "worktree", "remove", "--force", str(tree))


def _link(source: Path, target: Path) -> None:
    """Make ``source`` appear at ``target``, as hard links: nothing is copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    if source.is_dir():
        ignore = shutil.ignore_patterns(STAMP)
        shutil.copytree(source, target, copy_function=os.link, ignore=ignore)
    else:
        target.hardlink_to(source)
