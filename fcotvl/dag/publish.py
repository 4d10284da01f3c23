"""Finished variants of the ablation grid as DVC experiments, without running them again."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fcotvl.dag.chain import Chain, Job
from fcotvl.dag.exchange import STAMP
from fcotvl.dag.programs import EngineError, run
from fcotvl.files import write_text

MAY_DIFFER = ("params.yaml", "dvc.lock", "reports/")
"""What an experiment brings itself; all other changes must be in Git before."""


def publish(chain: Chain) -> list[str]:
    """Save each finished point of the grid as a DVC experiment and return their names.

    A point's experiment has its own recipe alone under ``modules``. Only its report is made.

    Raises:
        EngineError: sources differ from the last commit, or a command failed.
    """
    changed = [line[3:] for line in run("git", "status", "--porcelain").splitlines()]
    if uncommitted := [path for path in changed if not path.startswith(MAY_DIFFER)]:
        raise EngineError(f"commit your changes first: {', '.join(uncommitted)}")
    published = []
    for point in chain.grid():
        name = "{compressor}-r{ratio}-s{seed}-{recipe}".format(**point)
        values = point | {"modules": [point["recipe"]]}
        jobs = chain.jobs(**values)
        report = jobs.pop("report")
        outs = [Path(out) for job in jobs.values() for out in job.outs]
        if missing := [out for out in outs if not out.exists()]:
            print(f"{name}: not built ({missing[0]} is missing)", file=sys.stderr)
            continue
        with _worktree(name) as tree:
            for path in [*outs, Path(chain.values["data"]["raw"])]:
                if not path.is_absolute():
                    _link(path, tree / path)
            _experiment(tree, name, values, report)
        published.append(name)
    return published


def _experiment(tree: Path, name: str, values: dict[str, Any], report: Job) -> None:
    from dvc.utils.serialize import modify_yaml  # noqa: PLC0415 - as -S does: comments survive

    with modify_yaml(str(tree / "params.yaml")) as params:
        params.update(values)
    run(*shlex.split(report.cmd), folder=tree)
    run("dvc", "commit", "--force", "--no-relink", folder=tree)
    run("dvc", "exp", "save", "--force", "--name", name, folder=tree)


@contextmanager
def _worktree(name: str) -> Iterator[Path]:
    """Yield a checkout of the last commit that shares this folder's DVC cache."""
    tree = Path(".dvc/tmp/publish", name).resolve()
    cache = run("dvc", "cache", "dir").strip()
    run("git", "worktree", "add", "--force", "--detach", str(tree), "HEAD")
    try:
        write_text(tree / ".dvc/config.local", f"[cache]\n    dir = {cache}\n")
        yield tree
    finally:
        run("git", "worktree", "remove", "--force", str(tree))


def _link(source: Path, target: Path) -> None:
    """Make ``source`` appear at ``target``, as hard links: nothing is copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        ignore = shutil.ignore_patterns(STAMP)
        shutil.copytree(source, target, copy_function=os.link, ignore=ignore)
    else:
        target.unlink(missing_ok=True)
        target.hardlink_to(source)
