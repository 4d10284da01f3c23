"""Clones of the project in which the real engines run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.imports import ROOT

STAGE = re.compile(r"^Running stage '([^']+)'|^(?:local)?rule (\w+):|^Job \d+: (\w+), log in", re.MULTILINE)
COLLECT = {"all", "prefetch", "variants"}


@dataclass(frozen=True)
class Ran:
    """One command: its exit code, its output, and which stages it ran."""

    code: int
    text: str

    @property
    def stages(self) -> list[str]:
        """Names of the stages that were run, sorted; a rule that only collects is no stage."""
        names = ("".join(groups) for groups in STAGE.findall(self.text))
        return sorted(name for name in names if name not in COLLECT)


class Workspace:
    """A folder in which commands run as a user types them."""

    def __init__(self, folder: Path) -> None:
        """Take ``folder`` as it is."""
        self.folder = folder
        self.environment = _environment(folder)

    def fill(self) -> None:
        """Copy the committed and the new files of this checkout, at test size and with one recipe, and commit them."""
        folder = self.folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            source, target = ROOT / name, folder / name
            if source.is_symlink() or source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        (folder / "dvc.lock").unlink(missing_ok=True)
        self.edit("params.yaml", r"^scale: \w+", "scale: smoke")
        self.edit("params.yaml", r"^mix: \w+", "mix: smoke")
        one = "ablation_recipes:\n- full\n"
        self.edit("params.yaml", r"^ablation_recipes:.*\n(- .*\n)+", one)
        self.edit(
            "params.yaml",
            r"^  compressor:\n(  - .*\n)+  ratio:\n(  - .*\n)+",
            "  compressor:\n  - cnn\n  - pool\n  ratio:\n  - 0.5\n",
        )
        self.edit("params.yaml", r"^  ratios:\n(  - .*\n)+", "  ratios:\n  - 0.5\n")
        self.edit("workflow/scales/smoke.yaml", r"^  speed_batch: \d+", "  speed_batch: 1")
        self.run("git", "init", "--quiet", "--initial-branch=main")
        self.name_user()
        self.commit()

    def name_user(self) -> None:
        """Tell Git who commits here."""
        self.run("git", "config", "user.name", "fcotvl")
        self.run("git", "config", "user.email", "fcotvl@example.org")

    def run(self, *command: str, **environment: str) -> Ran:
        """Run ``command`` here, without a terminal."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return Ran(done.returncode, done.stdout)

    def ok(self, *command: str, **environment: str) -> Ran:
        """Run ``command``, which must succeed."""
        ran = self.run(*command, **environment)
        assert ran.code == 0, f"{' '.join(command)}\n{ran.text[-4000:]}"
        return ran

    def edit(self, name: str, pattern: str, replacement: str) -> None:
        """Replace the one place in a file that matches."""
        path = self.folder / name
        text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
        assert count == 1, f"{pattern!r} is {count} times in {name}"
        path.write_text(text)

    def commit(self) -> None:
        """Commit everything that Git does not ignore."""
        self.ok("git", "add", "--all")
        self.ok("git", "commit", "--quiet", "--message", "state")

    def is_idle(self) -> None:
        """Assert that neither engine has anything to do."""
        assert "Nothing to be done" in self.ok("snakemake", "--dry-run").text
        assert "up to date" in self.ok("dvc", "status").text


def _environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    mine = {"PATH": path, "DVC_SITE_CACHE_DIR": str(folder.parent / "site-cache"), "COLUMNS": "1000"}
    mine |= {"OMP_NUM_THREADS": "1"}
    dropped = {"PYTHONPATH", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE", "DVC_STAGE", "DVC_ROOT"}
    return {k: v for k, v in os.environ.items() if k not in dropped} | mine
