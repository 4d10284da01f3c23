"""Points of the ablation grid: experiments for DVC, files side by side for Snakemake."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.stage.cache import RunCacheNotFoundError
from dvc.utils.serialize import modify_yaml

from fcotvl.core.io import write_text
from fcotvl.dag.exchange import STAMP, adopt, is_built, sync
from fcotvl.dag.pipeline import Chain, Job
from fcotvl.dag.subprocesses import EngineError, run

BROUGHT = ("params.yaml", "dvc.lock", "reports/")
"""What an experiment brings itself; all other changes must be in Git before."""


def publish(chain: Chain) -> list[str]:
    """Save each finished point of the grid as a DVC experiment and return their names.

    Only its report is made. A point's experiment lists its own recipe alone under ``modules``.

    Raises:
        EngineError: sources differ from the last commit, or a command failed.
    """
    _require_committed()
    sync(chain)
    published = []
    for name, values in _points(chain):
        jobs = chain.jobs(**values)
        report = jobs.pop("report")
        missing = [key for key, job in jobs.items() if not is_built(job)]
        if missing:
            print(f"{name}: run `snakemake variants` first ({missing[0]})", file=sys.stderr)
            continue
        with _worktree(name, values, jobs.values()) as tree:
            run(*shlex.split(report.cmd), folder=tree)
            run("dvc", "commit", "--force", "--no-relink", folder=tree)
            run("dvc", "exp", "save", "--force", "--name", name, folder=tree)
        published.append(name)
    return published


def restore(chain: Chain) -> list[str]:
    """Bring what DVC's run-cache knows of the grid into the folder, and return what was brought.

    A queue of experiments works in folders of its own: this makes its results Snakemake's, too.

    Raises:
        EngineError: sources differ from the last commit, or a command failed.
    """
    _require_committed()
    sync(chain)
    logging.getLogger("dvc").setLevel(logging.WARNING)
    restored = []
    for name, values in _points(chain):
        jobs = {key: job for key, job in chain.jobs(**values).items() if job.stage != "report"}
        kept = [job for job in jobs.values() if is_built(job)]
        with _worktree(name, values, kept) as tree:
            absent = {key: job for key, job in jobs.items() if job not in kept}
            found = list(_restored(tree, absent))
            for job in found:
                for out in job.outs:
                    _link(tree / out, Path(out))
        if found:
            adopt(found)
            restored += [out for job in found for out in job.outs]
    return restored


def _points(chain: Chain) -> Iterator[tuple[str, dict[str, Any]]]:
    for point in chain.grid():
        name = "{compressor}-r{ratio}-s{seed}-{recipe}".format(**point)
        yield name, point | {"modules": [point["recipe"]]}


def _restored(tree: Path, jobs: dict[str, Job]) -> Iterator[Job]:
    """The jobs whose outputs the run-cache holds; they are written below ``tree``."""
    with chdir(tree), Repo() as repo, repo.lock:
        stages = {stage.name: stage for stage in repo.index.stages}
        for name, job in jobs.items():  # in the order of the chain: inputs are there before
            try:
                if all(Path(path).exists() for path in job.inputs):
                    repo.stage_cache.restore(stages[name])
                    yield job
            except RunCacheNotFoundError:
                continue


def _require_committed() -> None:
    changed = [line[3:] for line in run("git", "status", "--porcelain").splitlines()]
    if uncommitted := [path for path in changed if not path.startswith(BROUGHT)]:
        raise EngineError(f"commit your changes first: {', '.join(uncommitted)}")


@contextmanager
def _worktree(name: str, values: dict[str, Any], jobs: Iterable[Job]) -> Iterator[Path]:
    """Yield a checkout of the last commit with other params, ``jobs``'s outputs and DVC's cache."""
    tree = Path(".dvc/tmp/variants", name).resolve()
    cache = run("dvc", "cache", "dir").strip()
    run("git", "worktree", "add", "--force", "--detach", str(tree), "HEAD")
    try:
        write_text(tree / ".dvc/config.local", f"[cache]\n    dir = {cache}\n")
        with modify_yaml(str(tree / "params.yaml")) as params:  # as -S does: comments survive
            params.update(values)
            raw = Path(params["data"]["raw"])
        places = [Path(out) for job in jobs for out in job.outs]
        for place in places if raw.is_absolute() else [raw, *places]:
            _link(place, tree / place)
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
