"""Every stage of dvc.yaml at test size: attacked, run again, and compared with what it writes undisturbed."""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import yaml

from fcotvl.__main__ import main
from fcotvl.dag.pipeline import Job, Pipeline
from tests.soak.forks import PATIENCE, Child, Ended, at_each_write, kill_at, limit_files
from tests.support.imports import ROOT

MEASURED = "speed"
"""The stage whose output is a measurement: it is complete or not, but never twice the same."""
STUDY = {
    "scale": "smoke",
    "mix": "smoke",
    "ablation_recipes": ["full"],
    "baselines": {"methods": ["fastv"], "ratios": [0.5], "fastv_layer": 2},
    "ablation": {"compressor": ["cnn"], "ratio": [0.5], "seed": [0], "recipe": ["full"]},
}


@dataclass
class Tally:
    """What was tried, and what broke."""

    tried: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str, str]] = field(default_factory=list)
    """Attack, kind of damage, and where."""

    def blame(self, attack: str, damage: str, where: str) -> None:
        """Note damage."""
        self.broken.append((attack, damage, where))


Task = Callable[[Tally], None]
"""One attack: it adds to the counts what it tried, and what broke."""


class Chain:
    """The jobs of one experiment, each with what it writes undisturbed.

    Args:
        folder: an empty folder, which becomes the workspace.
        last: the last stage to run (none: the whole chain).
    """

    def __init__(self, folder: Path, last: str | None) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "workflow", folder / "workflow")
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy(ROOT / name, folder)
        for name in ("teachers", "fcotvl"):
            (folder / name).symlink_to(ROOT / name)
        _edit(folder / "params.yaml", STUDY)
        _edit(folder / "workflow/mixes/smoke.yaml", {"corpus": {"shard_size": 8}})
        (folder / "data/raw").mkdir(parents=True)
        self.jobs: dict[str, Job] = {}
        self.writes: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.largest: dict[str, int] = {}
        self.expected: dict[str, dict[str, dict[str, str]]] = {}
        with chdir(folder):
            for name, job in Pipeline().jobs().items():
                self._run_undisturbed(name, job)
                if job.stage == last:
                    break

    def _run_undisturbed(self, name: str, job: Job) -> None:
        ended = Child(partial(_count_writes, job)).wait(120)
        if ended.code:
            raise RuntimeError(f"{name} fails undisturbed:\n{ended.text}")
        self.jobs[name], self.seconds[name] = job, ended.seconds
        self.writes[name] = int(ended.text.split()[-1])
        self.expected[name] = digests(self.folder, job)
        self.largest[name] = max(file.stat().st_size for out in job.outs for file in _files(self.folder / out))

    @contextmanager
    def bench(self, name: str) -> Iterator[Path]:
        """A folder with the inputs of a job and none of its outputs, as the working folder."""
        with tempfile.TemporaryDirectory(dir=self.folder.parent, ignore_cleanup_errors=True) as folder, chdir(folder):
            self._furnish(Path(folder), name)
            yield Path(folder)

    def _furnish(self, bench: Path, name: str) -> None:
        """Link the inputs of a job into ``bench``."""
        inputs = [path for path in self.jobs[name].inputs if path.startswith("data/")]
        for path in ("params.yaml", "workflow", "teachers", "data/raw", *inputs):
            if not (bench / path).exists():
                (bench / path).parent.mkdir(parents=True, exist_ok=True)
                (bench / path).symlink_to(self.folder / path)

    def kills_before_writes(self, rng: random.Random, most: int | None) -> Iterator[Task]:
        """Kill each stage before each change of a file or folder (at ``most`` so many), and run it again."""
        for name in self.jobs:
            numbers = range(self.writes[name])
            for number in numbers if most is None else rng.sample(numbers, min(most, len(numbers))):
                kill = partial(kill_at, number)
                yield partial(self._disturb, "kill before a write", name, kill, f"write {number} of {len(numbers)}")

    def kills_within_writes(self, rng: random.Random, times: int) -> Iterator[Task]:
        """Let the kernel kill each stage at some byte of a file, and run it again."""
        for name in self.jobs:
            for _ in range(times):
                size = self._some_size(rng, name)
                yield partial(
                    self._disturb, "kill within a write", name, partial(limit_files, size, deadly=True), f"byte {size}"
                )

    def kills_at_moments(self, rng: random.Random, times: int) -> Iterator[Task]:
        """Kill each stage at two random moments, one run after the other, and run it again."""
        for name in self.jobs:
            for _ in range(times):
                yield partial(self._kill_twice, name, [rng.uniform(0, self.seconds[name]) for _ in range(2)])

    def full_disks(self, rng: random.Random, times: int) -> Iterator[Task]:
        """Let no file grow beyond a size, as on a full disk: the stage says so in one line, and goes on later."""
        for name in self.jobs:
            for _ in range(times):
                yield partial(self._fill_the_disk, name, self._some_size(rng, name))

    def pairs(self, times: int) -> Iterator[Task]:
        """Run each stage twice at once: in one folder, and in two of DVC's queue, which share their scratch."""
        for name in self.jobs:
            for time in range(times):
                yield partial(self._run_twice_at_once, name, queued=bool(time % 2))

    def _disturb(self, attack: str, name: str, disturb: Callable[[], None], where: str, tally: Tally) -> None:
        with self.bench(name) as bench:
            tally.tried[attack] += 1
            ended = self._start(name, disturb).wait(self.patience(name))
            if ended.code not in (0, -signal.SIGKILL, -signal.SIGXFSZ):
                tally.blame(attack, "error", f"{name}, {where}: {ended.text[-500:]}")
            self._check_published(attack, name, bench, where, tally)
            self._again(attack, name, bench, where, tally)

    def _kill_twice(self, name: str, moments: list[float], tally: Tally) -> None:
        attack = "kill at a moment"
        with self.bench(name) as bench:
            for moment in moments:
                tally.tried[attack] += 1
                self._start(name).wait(moment)
                self._check_published(attack, name, bench, f"{moment:.3f} s", tally)
            self._again(attack, name, bench, f"{moments} s", tally)

    def _fill_the_disk(self, name: str, size: int, tally: Tally) -> None:
        attack, where = "full disk", f"{name} at {size} bytes"
        with self.bench(name) as bench:
            tally.tried[attack] += 1
            ended = self._start(name, partial(limit_files, size, deadly=False)).wait(self.patience(name))
            _check_end(attack, ended, where, tally, codes=(0, 2))
            self._check_published(attack, name, bench, where, tally)
            self._again(attack, name, bench, where, tally)

    def _run_twice_at_once(self, name: str, tally: Tally, *, queued: bool) -> None:
        attack = "pair"
        with self.bench(name) as bench:
            tally.tried[attack] += 1
            folders = [bench / f".dvc/tmp/exps/{n}" for n in "ab"] if queued else [bench, bench]
            children = []
            for folder in folders:
                self._furnish(folder, name)
                with chdir(folder):
                    children.append(self._start(name))
            ends = [child.wait(self.patience(name)) for child in children]
            if all(_check_end(attack, ended, name, tally, codes=(0,)) for ended in ends):
                for folder in folders:
                    self._check_whole(attack, name, folder, f"queued={queued}", tally)
                _check_left(attack, bench, name, tally)

    def patience(self, name: str) -> float:
        """Seconds after which a stage hangs: more than usual only where the machine is too busy for it."""
        return max(PATIENCE, 10 * self.seconds[name])

    def _start(self, name: str, disturb: Callable[[], None] = lambda: None) -> Child:
        return Child(partial(_run, self.jobs[name], disturb))

    def _some_size(self, rng: random.Random, name: str) -> int:
        """A number of bytes within the files of a stage, at every order of magnitude."""
        return round(2 ** rng.uniform(0, 1 + self.largest[name].bit_length()))

    def _again(self, attack: str, name: str, bench: Path, where: str, tally: Tally) -> None:
        """Run undisturbed: the outputs are what they always are, and nothing else is left."""
        where = f"{name} again after {where}"
        if _check_end(attack, self._start(name).wait(self.patience(name)), where, tally, codes=(0,)):
            self._check_whole(attack, name, bench, where, tally)
            _check_left(attack, bench, where, tally)

    def _check_published(self, attack: str, name: str, bench: Path, where: str, tally: Tally) -> None:
        """What is there under the name of an output is all of it."""
        if self.jobs[name].stage == MEASURED:
            return
        expected = self.expected[name]
        for out, found in digests(bench, self.jobs[name]).items():
            if found != expected[out]:
                tally.blame(attack, "half-written output", f"{out} after {where}")

    def _check_whole(self, attack: str, name: str, bench: Path, where: str, tally: Tally) -> None:
        found, expected = digests(bench, self.jobs[name]), self.expected[name]
        if found.keys() != expected.keys() or (self.jobs[name].stage != MEASURED and found != expected):
            tally.blame(attack, "differing artifact", f"{name} after {where}")


def _check_end(attack: str, ended: Ended, where: str, tally: Tally, codes: tuple[int, ...]) -> bool:
    if ended.code is None:
        tally.blame(attack, "hang", where)
    elif "Traceback" in ended.text:
        tally.blame(attack, "traceback", f"{where}: {ended.text[-800:]}")
    elif ended.code not in codes:
        tally.blame(attack, "error", f"{where}: code {ended.code}: {ended.text[-300:]}")
    else:
        return True
    return False


def _check_left(attack: str, bench: Path, where: str, tally: Tally) -> None:
    folders = [bench, *bench.glob(".dvc/tmp/exps/*")]
    left = [path for f in folders for p in (".scratch/*", "data/**/.?*", "reports/**/.?*") for path in f.glob(p)]
    if left:
        tally.blame(attack, "left behind", f"{where}: {', '.join(map(str, left))}")


def digests(folder: Path, job: Job) -> dict[str, dict[str, str]]:
    """A checksum of each file of each output that exists."""
    return {
        out: {
            str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in _files(folder / out)
        }
        for out in job.outs
        if (folder / out).exists()
    }


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _run(job: Job, disturb: Callable[[], None] = lambda: None) -> int:
    """Run ``job`` in this process, as ``python -m fcotvl`` does."""
    disturb()
    return main(shlex.split(job.cmd)[3:])


def _count_writes(job: Job) -> int:
    count = 0

    def action(number: int) -> None:
        nonlocal count
        count = number + 1

    code = _run(job, lambda: at_each_write(action))
    os.write(1, f"\n{count}\n".encode())
    return code


def _edit(path: Path, changes: dict[str, object]) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
