"""``python -m fcotvl STAGE --flag value``: one stage of the chain, as dvc.yaml calls it.

A stage is ``fcotvl.stages.<stage>.run(params, *, flag, ...)``; its flags are its keyword names.
What names the experiment (``--scale``, ``--compressor``, ``--ratio``, ``--seed``, ``--recipe``)
replaces the value of params.yaml. A mistake that the user can correct is one line and exit code 2.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import pkgutil
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fcotvl import stages
from fcotvl.core import config as params_module
from fcotvl.core.errors import FcotvlError

log = logging.getLogger("fcotvl")

OVERRIDES: dict[str, Callable[[str], Any]] = {
    "scale": str,
    "compressor": str,
    "ratio": float,
    "seed": int,
    "recipe": str,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    names = sorted(module.name for module in pkgutil.iter_modules(stages.__path__))
    chooser = argparse.ArgumentParser(prog="fcotvl", description=__doc__)
    chooser.add_argument("stage", choices=names, metavar="STAGE", help=", ".join(names))
    stage = chooser.parse_args(arguments[:1]).stage
    run = import_module(f"fcotvl.stages.{stage}").run
    try:
        _run(stage, run, arguments[1:])
    except FcotvlError as error:
        log.error("%s: %s", stage, error)  # noqa: TRY400 - one line, without a traceback
        return 2
    except Exception:
        log.exception("%s: this is a bug, please report it", stage)
        return 1
    return 0


def _run(stage: str, run: Callable[..., None], arguments: Sequence[str]) -> None:
    flags = list(inspect.signature(run, eval_str=True).parameters.values())[1:]
    parser = argparse.ArgumentParser(
        prog=f"fcotvl {stage}", description=inspect.getdoc(run), allow_abbrev=False
    )
    for name, kind in OVERRIDES.items():
        parser.add_argument(f"--{name}", type=kind, help="replaces the value of params.yaml")
    for flag in flags:
        required = flag.default is inspect.Parameter.empty
        kind = str if flag.annotation in (str, str | None) else Path
        option = f"--{flag.name.replace('_', '-')}"
        many = {"nargs": "*"} if flag.annotation == tuple[Path, ...] else {}
        parser.add_argument(option, type=kind, required=required, default=flag.default, **many)
    parser.add_argument("--log", type=Path, help="log file (default: under logs/)")
    given = vars(parser.parse_args(arguments))
    overrides = {name: given.pop(name) for name in OVERRIDES}
    _log_to(given.pop("log") or _log_path(stage, given))
    run(params_module.load(**overrides), **given)


def _log_path(stage: str, given: dict[str, Any]) -> Path:
    """``logs/<where the stage's last file lies>/<stage>.log``: variants do not share one."""
    written = [value for value in given.values() if isinstance(value, Path)]
    place = written[-1].parent if written else Path()
    place = Path(*place.parts[1:]) if place.parts[:1] == ("data",) else Path()
    return Path("logs") / place / f"{stage}.log"


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    screen = logging.StreamHandler()
    screen.setFormatter(logging.Formatter("%(message)s"))
    file = logging.FileHandler(path, mode="w", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("fcotvl")
    root.handlers = [screen, file]
    root.setLevel(logging.INFO)
    root.propagate = False


if __name__ == "__main__":
    sys.exit(main())
