"""The command line: what it lists, what its flags are, and how it ends."""

import gc
import inspect
import logging
import re
import resource
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

import fcotvl
from fcotvl import __main__ as command_line
from fcotvl import stages
from fcotvl.__main__ import GROUPS, flag_help, main, program

ROOT = Path(__file__).parents[2]
STAGES = sorted(path.stem for path in (ROOT / "fcotvl/stages").glob("[!_]*.py"))
EVERY_STAGE = pytest.mark.parametrize("stage", STAGES)

ECHO = '''
"""Print what it is given."""

from pathlib import Path

from fcotvl.core.config import Params
from fcotvl.core.errors import DataError


def run(
    params: Params,
    *,
    output: Path,
    count: int = 3,
    name: str | None = None,
    parts: tuple[Path, ...] = (),
    read_from: Path | None = None,
) -> None:
    """Print the flags.

    Second paragraph.

    Args:
        params: the study.
        output: where ``output``
            goes.
        count: how many.

    Raises:
        DataError: the name is "wrong".
    """
    if name == "wrong":
        raise DataError("the name is wrong, take another")
    if name == "full":
        output.write_text("x" * 10_000)
    if name == "full below a library":
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    if name == "broken":
        raise RuntimeError("no one expects this")
    print((params.ratio, params.seed, params.mix), output, count, name, parts, read_from)
'''


@pytest.fixture
def echo(tmp_path, monkeypatch):
    """A stage that is not one of the project's; logs go to the test's folder."""
    folder = tmp_path / "stages"
    folder.mkdir()
    (folder / "echo.py").write_text(ECHO)
    monkeypatch.setattr(stages, "__path__", [*stages.__path__, str(folder)])
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "workflow"):
        (tmp_path / name).symlink_to(ROOT / name)
    logger = logging.getLogger("fcotvl")
    before = logger.handlers, logger.level, logger.propagate
    yield tmp_path
    logger.handlers, logger.level, logger.propagate = before
    sys.modules.pop("fcotvl.stages.echo", None)


def command_of(stage):
    """The command of a stage: hyphens for underscores."""
    return stage.replace("_", "-")


def helped(capsys, *arguments):
    assert main([*arguments, "--help"]) == 0
    return capsys.readouterr().out


def test_help_lists_every_stage_once_under_its_group_with_a_line(capsys):
    text = helped(capsys)
    listed = re.findall(r"^  ([a-z-]+)  +(.+)$", text.partition("Chain:")[2], re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(map(command_of, STAGES))
    positions = [text.index(f"\n{title}:\n") for title in ("Chain", "Data", "Model", "Compare")]
    assert positions == sorted(positions)
    assert "More:" not in text
    assert all(program().commands[command_of(name)].short_help for name in STAGES)


def test_the_chain_is_listed_in_its_order(capsys):
    chain = helped(capsys).partition("Chain:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  ([a-z]+) ", chain, re.MULTILINE) == GROUPS["Chain"].split()


def test_a_new_stage_is_listed_without_editing_the_groups(echo, capsys):
    assert re.search(r"\nMore:\n  echo +Print what it is given\.\n", helped(capsys))


@pytest.mark.parametrize("arguments", [["--help"], ["distill", "--help"], ["distill", "--wrong"]])
def test_help_and_refusals_do_not_import_what_stages_need(arguments):
    code = (
        "import sys; from fcotvl.__main__ import main; main(sys.argv[1:]); "
        "print([m for m in sys.modules if m.startswith(('torch', 'pandas', 'fcotvl.stages.'))])"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_stage_imports_what_few_of_them_need():
    """lm-eval, gradio, dvclive and servers are imported where they are used, not at the start."""
    code = (
        "import sys; from importlib import import_module\n"
        f"for name in {STAGES!r}: import_module(f'fcotvl.stages.{{name}}')\n"
        "few = {'lm_eval', 'gradio', 'dvclive', 'fastapi', 'uvicorn', 'openai', 'vllm', 'mkdocs'}\n"
        "print(sorted(few & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@EVERY_STAGE
def test_flags_are_the_keywords_of_run(stage):
    signature = inspect.signature(import_module(f"fcotvl.stages.{stage}").run, eval_str=True)
    params, *others = signature.parameters.values()
    assert params.annotation.__name__ == "Params"
    keywords = [one for one in others if one.kind is one.KEYWORD_ONLY]
    arguments = [one.name for one in program().commands[command_of(stage)].arguments]
    assert arguments == [one.name for one in others if one.kind is not one.KEYWORD_ONLY]
    flags = {flag.name: flag for flag in program().commands[command_of(stage)].flags}
    assert list(flags) == [keyword.name for keyword in keywords]
    for keyword in keywords:
        flag = flags[keyword.name]
        assert flag.opts == [f"--{keyword.name.replace('_', '-')}"]
        assert flag.required == (keyword.default is inspect.Parameter.empty)
        assert flag.multiple == (keyword.annotation == tuple[Path, ...])
        assert flag.is_flag == (keyword.annotation is bool)


@EVERY_STAGE
def test_every_flag_has_a_help_text(stage):
    command = program().commands[command_of(stage)]
    missing = {option.name for option in command.params if not option.help}
    assert not missing


def test_the_first_line_of_a_docstring_is_the_help_line():
    commands = {name: command.short_help for name, command in program().commands.items()}
    assert commands["check"] == "Validate params.yaml, every scale and every mix."
    assert all(line.endswith(".") and len(line) < 66 for line in commands.values())  # on one line of the terminal


def test_flag_help_reads_the_args_of_a_docstring():
    text = inspect.cleandoc(ECHO.split('"""')[3])
    found = flag_help(text)
    assert found == {"params": "The study.", "output": "Where `output` goes.", "count": "How many."}
    assert flag_help("Nothing here.") == {}


def test_help_of_a_stage_shows_text_and_defaults(echo, capsys):
    text = helped(capsys, "echo")
    assert "Print the flags.\n\n  Second paragraph." in text
    assert "Raises" not in text
    assert re.search(r"--output PATH +Where `output` goes\.  \[required\]", text)
    assert re.search(r"--count INTEGER +How many\.  \[default: 3\]", text)
    for flag in ("--read-from", "--log", *(f"--{name}" for name in command_line.OVERRIDES)):
        assert flag in text


def test_flags_get_their_types_and_replace_params(echo, capsys):
    flags = "--output out --count 5 --name x --read-from y --ratio 0.75 --seed 7 --mix smoke"
    assert main(["echo", *flags.split()]) == 0
    assert capsys.readouterr().out == "(0.75, 7, 'smoke') out 5 x () y\n"


def test_a_stages_own_flag_stands_in_place_of_the_override(capsys):
    text = helped(capsys, "export")
    assert text.count("--ratio") == 1
    assert re.search(r"Flags:.*--ratio FLOAT +Share of visual tokens removed, for a student.*In place", text, re.DOTALL)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--parts a b c", "a b c"),
        ("--parts a b --count 3 --parts c", "a b c"),
        ("--parts a", "a"),
        ("--parts", ""),
        ("", ""),
    ],
)
def test_a_flag_of_several_values_takes_all_that_follow(echo, capsys, given, expected):
    assert main(["echo", *given.split(), "--output", "out"]) == 0
    paths = tuple(Path(name) for name in expected.split())
    assert f"out 3 None {paths} None" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--outputs o", "No such option '--outputs'"),
        ("--outp o", "No such option '--outp'"),
        ("--output o --count many", "'many' is not a valid integer"),
        ("--output o --ratio half", "'half' is not a valid float"),
        ("--output o extra", "unexpected extra argument (extra)"),
        ("--count 1", "Missing option '--output'"),
        ("--output", "Option '--output' requires an argument"),
    ],
)
def test_wrong_flags_are_refused(echo, capsys, flags, message):
    assert main(["echo", *flags.split()]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (echo / "logs").exists()


def test_a_required_flag_of_several_values_needs_one(capsys):
    assert main(["export", "--teacher", "t", "--folder", "f", "--student"]) == 2
    assert "Missing option '--student'" in capsys.readouterr().err


def test_an_unknown_stage_gets_a_suggestion(capsys):
    assert main(["mergee"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("Did you mean 'merge'?")


def test_what_the_user_can_correct_is_one_line(echo, capsys):
    for flags, message in (
        (["--name", "wrong"], "echo: the name is wrong, take another"),
        (["--ratio", "0.3"], "echo: params.yaml: ratio 0.3 is not one of 0.0, 0.25"),
    ):
        assert main(["echo", "--output", "out", *flags]) == 2
        text = capsys.readouterr().err
        assert text.startswith(message)
        assert text.count("\n") == 1
        assert message in (echo / "logs/echo.log").read_text()


def test_outside_the_project_a_command_says_so_and_leaves_nothing(echo, capsys, monkeypatch):
    folder = echo / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert main(["echo", "--output", "out"]) == 2
    assert capsys.readouterr().err == "echo: params.yaml not found; run in the project's folder\n"
    assert not list(folder.iterdir())


def test_a_bug_keeps_its_traceback(echo, capsys):
    assert main(["echo", "--output", "out", "--name", "broken"]) == 1
    text = capsys.readouterr().err
    assert text.startswith("echo: this is a bug, please report it\nTraceback")
    assert text.endswith("RuntimeError: no one expects this\n")
    assert "RuntimeError: no one expects this" in (echo / "logs/echo.log").read_text()


@pytest.mark.parametrize(("more", "code"), [("", 0), ("import no_such_module", 1)])
def test_garbage_is_looked_for_again_once_a_stage_is_imported(echo, more, code):
    seen = "import gc, sys\nsys.seen = [gc.isenabled()]"
    (echo / "stages/tidy.py").write_text(f'"""Look."""\n{seen}\n{more}\ndef run(params):\n    """Look."""\n')
    frozen = gc.get_freeze_count()
    try:
        assert main(["tidy"]) == code
        assert [*sys.seen, gc.isenabled()] == [False, True]
        assert gc.get_freeze_count() > frozen
    finally:
        sys.modules.pop("fcotvl.stages.tidy", None)
        del sys.seen


@pytest.mark.parametrize(
    ("name", "message"), [("full", "File too large"), ("full below a library", "No space left on device")]
)
def test_a_full_disk_is_no_bug(echo, name, message):
    command = [sys.executable, "-m", "fcotvl", "echo", "--output", "out", "--name", name]
    code = "import sys; from fcotvl import stages; stages.__path__.append('stages'); "
    code += f"from fcotvl.__main__ import main; sys.exit(main({command[3:]}))"
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (8192, 8192))
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"echo: {message}; free some and run it again\n"


@pytest.mark.parametrize(
    ("flags", "log"),
    [
        ("--output out", "logs/echo.log"),
        ("--output data/tiny/cnn-r0.5-s0/out", "logs/tiny/cnn-r0.5-s0/echo.log"),
        ("--read-from data/tiny/full/x --output data/tiny/out", "logs/tiny/full/echo.log"),
        ("--output data/tiny/out --log elsewhere/my.log", "elsewhere/my.log"),
    ],
)
def test_the_log_lies_where_the_last_file_does(echo, flags, log):
    assert main(["echo", *flags.split()]) == 0
    assert [str(path.relative_to(echo)) for path in echo.rglob("*.log")] == [log]


def test_version(capsys):
    assert main(["--version"]) == 0
    assert fcotvl.__version__ in capsys.readouterr().out


def test_arguments_without_a_flag_are_named_in_usage_and_refusal(capsys):
    text = helped(capsys, "ask")
    assert "Usage: fcotvl ask [OPTIONS] PICTURE QUESTION" in text
    assert re.search(r"^Positional arguments:\n  PICTURE +PNG, JPEG", text, re.MULTILINE)
    assert main(["ask", "page.png"]) == 2
    assert "Missing argument 'QUESTION'" in capsys.readouterr().err
