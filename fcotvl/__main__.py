"""``fcotvl STAGE --flag value``: one stage of the chain, as dvc.yaml calls it.

A stage is ``fcotvl.stages.<stage>.run(params, argument, ..., *, flag, ...)``. Its keywords are its flags, and the
``Args:`` of its docstring their help. Both are read from the syntax, so that help and refusals do not wait for torch. A
mistake that the user can correct is one line and exit code 2.
"""

import ast
import errno
import gc
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import fcotvl
from fcotvl import launcher, stages
from fcotvl.core import config, processes
from fcotvl.core.errors import FcotvlError

log = logging.getLogger("fcotvl")

GROUPS = {
    "Chain": "check curate teacher distill rscot sft merge predict score harness speed report",
    "Data": "plan audit prefetch",
    "Model": "ask demo serve card convert export",
    "Compare": "study attention compare lm-eval submit publish",
    "Project": "schemas",
}
"""The order of ``fcotvl --help``; stages that are not named here come last."""

PATH = click.Path(path_type=Path)
TYPES: dict[str, Any] = {"Path": PATH, "str": str, "int": int, "float": float}
MANY = "tuple[Path, ...]"
"""Annotation of a flag that takes several values, as in ``--student a b c``."""
ARGUMENTS = "tuple[str, ...]"
"""Annotation of an argument that takes the rest of the command line, for another program's."""
REST = -1
"""click's number of values for it."""

OVERRIDES = {
    "scale": (str, "Model and budgets: a file in workflow/scales."),
    "mix": (str, "Data: a file in workflow/mixes."),
    "compressor": (str, "The student's compressor."),
    "ratio": (float, "Share of visual tokens removed."),
    "seed": (int, "Seed of training."),
    "recipe": (str, "Post-training recipe."),
}
"""Flags of every command that replace a value of params.yaml: type and help. A stage's own flag of that name is for the
stage too, with its help."""


class Stage(click.Command):
    """A stage as a command; its module is imported when it runs."""

    def __init__(self, path: Path) -> None:
        """Read flags and help from the file ``path``."""
        tree = ast.parse(path.read_text(encoding="utf-8"))
        run = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "run")
        text = ast.get_docstring(run) or ""
        keywords = zip(run.args.kwonlyargs, run.args.kw_defaults, strict=True)
        texts = flag_help(text)
        self.arguments = [_argument(one, texts.get(one.arg)) for one in run.args.args[1:]]
        self.flags = [_option(flag, default, texts) for flag, default in keywords]
        self.given: list[str] = []
        """The command line, for other processes."""
        own = {flag.name for flag in self.flags}
        self.overrides = [
            click.Option([f"--{name}"], type=kind, help=line)
            for name, (kind, line) in OVERRIDES.items()
            if name not in own
        ]
        overlay = click.Option(["--params"], type=PATH, help="YAML file with values in place of those of params.yaml.")
        log_file = click.Option(["--log"], type=PATH, help="Log file (default: under logs/).")
        super().__init__(
            path.stem.replace("_", "-"),
            params=[*self.arguments, *self.flags, *self.overrides, overlay, log_file],
            callback=lambda **values: execute(path.stem, [*self.arguments, *self.flags], values, self.given),
            help=re.split(r"\n\n(?:Args|Raises|Returns):\n", text)[0].replace("``", "`"),
            short_help=(ast.get_docstring(tree) or "").partition("\n")[0],
        )
        if any(argument.nargs == REST for argument in self.arguments):  # options after the first belong to it
            self.allow_interspersed_args, self.ignore_unknown_options = False, True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Spell ``--many a b`` as click does: ``--many a --many b``."""
        self.given = [self.name or "", *args]
        many = {flag.opts[0] for flag in self.flags if flag.multiple}
        return super().parse_args(ctx, list(_repeated(args, many)))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the stage's own flags apart from those that every command has."""
        rest = self.get_params(ctx)[len(self.arguments) + len(self.flags) + len(self.overrides) :]
        for title, part in (("Flags", self.flags), ("In place of params.yaml", self.overrides), ("Options", rest)):
            if records := [found for one in part if (found := one.get_help_record(ctx))]:
                with formatter.section(title):
                    formatter.write_dl(records)


class Program(click.Group):
    """All stages, listed by group."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print one line for each command, under the name of its group."""
        grouped = " ".join(GROUPS.values()).split()
        others = " ".join(name for name in self.list_commands(ctx) if name not in grouped)
        width = max(map(len, self.commands))
        for title, names in (GROUPS | {"More": others}).items():
            found = [self.commands[name] for name in names.split() if name in self.commands]
            if found:
                with formatter.section(title):
                    formatter.write_dl([(f"{c.name:{width}}", c.short_help or "") for c in found])


def flag_help(docstring: str) -> dict[str, str]:
    """The ``Args:`` section of a docstring: the text of each argument, on one line."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, re.DOTALL | re.MULTILINE)
    entries = re.split(r"^    (\w+):", section[1] if section else "", flags=re.MULTILINE)
    return dict(zip(entries[1::2], map(_sentence, entries[2::2]), strict=True))


def _sentence(text: str) -> str:
    text = " ".join(text.split()).replace("``", "`")
    return text[:1].upper() + text[1:]


def _type(argument: ast.arg) -> str:
    return ast.unparse(argument.annotation) if argument.annotation else "Path"


def _argument(argument: ast.arg, help_text: str | None) -> click.Argument:
    if _type(argument) == ARGUMENTS:
        return click.Argument([argument.arg], type=click.UNPROCESSED, nargs=REST, help=help_text)
    return click.Argument([argument.arg], type=TYPES[_type(argument)], help=help_text)


def _option(flag: ast.arg, default: ast.expr | None, help_texts: dict[str, str]) -> click.Option:
    annotation = _type(flag)
    if annotation == "bool":
        return click.Option([f"--{flag.arg.replace('_', '-')}", flag.arg], is_flag=True, help=help_texts.get(flag.arg))
    many = annotation == MANY
    value = {"default": ast.literal_eval(default)} if default and not many else {}
    return click.Option(
        [f"--{flag.arg.replace('_', '-')}", flag.arg],
        type=PATH if many else TYPES[annotation.removesuffix(" | None")],
        required=default is None,
        multiple=many,
        show_default=True,
        help=help_texts.get(flag.arg),
        **value,
    )


def _repeated(args: Sequence[str], many: set[str]) -> Iterator[str]:
    current = None
    for arg in args:
        if arg.startswith("--"):
            current = arg if arg in many else None
        if arg != current:
            yield from (current, arg) if current else (arg,)


def execute(stage: str, flags: Sequence[click.Parameter], values: dict[str, Any], arguments: Sequence[str]) -> int:
    """Run ``stage`` with parsed ``values``, which are those of ``arguments``, and return its exit code."""
    given, command = {flag.name: values[flag.name] for flag in flags if flag.name}, stage.replace("_", "-")
    # Outside the project's folder there are no params: the command is refused and leaves nothing there.
    log_file = values["log"] or (_log_path(stage, given) if config.STUDY.exists() else None)
    if processes.count() > 1:
        processes.end_with_launcher()
    try:
        _log_to(log_file if processes.is_main() else None)
        params = config.load(overlay=values["params"], **{name: values[name] for name in OVERRIDES})
        if threads := params.scale_config.model.threads:  # read when numpy and torch are imported
            os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        number = launcher.wanted(stage, params.scale_config.launch.processes)
        is_launcher = number > 1 and processes.count() == 1
        if number and launcher.CLAIM in os.environ and processes.count() == 1:
            launcher.claim(number, 1 if stage in launcher.TIMED else params.scale_config.launch.jobs_per_accelerator)
        if not is_launcher:
            if number and params.scale_config.launch.deterministic:
                launcher.use_deterministic_algorithms()
            _stage_module(stage).run(params, **given)
            return 0
        code, message = launcher.launch(arguments, number)
        if message:
            log.error("%s", message if message.startswith(f"{command}: ") else f"{command}: {message}")
    except FcotvlError as error:
        code = _fail(2, f"{command}: {error}")
    except Exception as error:
        if full := _disk_is_full(error):
            return _fail(2, f"{command}: {full}; free some and run it again")
        if operation := re.search(r"(\S+) does not have a deterministic implementation", str(error)):
            reason = f"{operation[1]} has no deterministic implementation on this device"
            return _fail(2, f"{command}: {reason}; set launch.deterministic to false in the scale file")
        code = _fail(1, f"{command}: this is a bug, please report it\n{traceback.format_exc().rstrip()}")
    return code


def _stage_module(stage: str) -> ModuleType:
    """The stage's module.

    What it imports is a million objects that stay. The garbage collector is kept from them while they are made and
    when the program ends, which takes a third off a stage that does nothing else.
    """
    name = f"fcotvl.stages.{stage}"
    if name not in sys.modules:
        gc.disable()
        try:
            import_module(name)
        finally:
            gc.freeze()
            gc.enable()
    return sys.modules[name]


def _fail(code: int, text: str) -> int:
    """Say what went wrong, once for all processes of a launch; returns ``code``."""
    if launcher.is_launched():
        launcher.leave_error(text)
    else:
        log.error("%s", text)
    return code


def _disk_is_full(error: BaseException | None) -> str | None:
    """What the system said if ``error``, or what led to it, is a full disk, a quota or a limit on files."""
    while error:
        number = re.search(r"\[Errno (\d+)\]|os error (\d+)", str(error))  # the libraries' own kinds of errors
        code = getattr(error, "errno", None) or (number and int(number[1] or number[2]))
        if code in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            return os.strerror(code)
        error = error.__cause__ or error.__context__
    return None


def _log_path(stage: str, given: dict[str, Any]) -> Path:
    """``logs/<folder of the stage's last file>/<stage>.log``: variants do not share one."""
    written = [value for value in given.values() if isinstance(value, Path)]
    place = written[-1].parent if written else Path()
    place = Path(*place.parts[1:]) if place.parts[:1] == ("data",) else Path()
    return Path("logs") / place / f"{stage}.log"


class LogFile(logging.FileHandler):
    """A log that does without what a full disk does not take: the screen has every line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Print no traceback."""


def _log_to(path: Path | None) -> None:
    """Log to the screen, and to the file ``path`` if there is one. Of several processes, the main one tells all."""
    screen = logging.StreamHandler()
    screen.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger("fcotvl")
    root.handlers = [screen]
    root.setLevel(logging.INFO if processes.is_main() else logging.ERROR)
    root.propagate = False
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not launcher.is_launched():  # its launcher began the file
            path.write_bytes(b"")
        file = LogFile(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(file)


def program() -> click.Command:
    """The command line with every stage of ``fcotvl/stages``."""
    files = sorted(f for folder in stages.__path__ for f in Path(folder).glob("[!_]*.py"))
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    commands = [Stage(path) for path in files]
    group = Program("fcotvl", commands, help=fcotvl.__doc__, context_settings=settings)
    return click.version_option(fcotvl.__version__)(group)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage and return the exit code."""
    try:
        return program().main(argv, prog_name="fcotvl", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # Ctrl-C
        return 130


if __name__ == "__main__":
    sys.exit(main())
