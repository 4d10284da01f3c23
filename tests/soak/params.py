"""Mutated params, scales and mixes: each is refused in one line, or both engines can plan with it."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fcotvl.core import config
from fcotvl.core.errors import FcotvlError
from fcotvl.dag.pipeline import Pipeline
from fcotvl.stages import check
from tests.support.imports import ROOT

FILES = {"params.yaml": 3, "workflow/scales/smoke.yaml": 2, "workflow/mixes/smoke.yaml": 2}
"""Files, and how often each is mutated relative to the others."""
MODEL = ("compressors", "baselines", "architecture")
"""Keys from which a model is built."""
EVIL: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 99, 225, 300, 10**6, 10**9, 10**12, 10**30, -(10**30)),
    *(0.0, -0.0, 0.1, 0.5, 1e-300, 1e30, 1e308, float("inf"), float("-inf"), float("nan")),
    *(
        "",
        " ",
        "0",
        "1e9",
        "tiny",
        "smoke",
        "full",
        "cnn",
        "pretrained",
        "train",
        "..",
        "../..",
        "/",
        "/dev/null",
        "a/b",
    ),
    *(
        "$(touch injected)",
        "`touch injected`",
        '"',
        "'",
        "{x}",
        "{}",
        "{question}",
        "{question!r}",
        "{question.x}",
        "${seed}",
    ),
    *(
        "{question} {other}",
        "\0",
        "\n",
        "\ud7ff",
        "\u202e",
        "x" * 300,
        "x" * 100_000,
        "data/{x}",
        "%s",
        "-x",
        "--scale",
    ),
    *([], [[]], [0], ["full"], [None], [0.5, 0.5], list(range(2000)), {}, {"x": 1}, {1: 2}, {"": ""}, {None: None}),
    {"scale": {"scale": {}}},
)
TEXTS = (
    *("010", "0o10", "0x1F", "1_000", "1:30", "yes", "on", "~", "1e-3", "+1", ".5", "5.", "2024-13-45", "9" * 5000),
    *(
        "!!float x",
        "!!int ''",
        "!!bool x",
        "!!binary '*'",
        "!!python/name:os.system",
        "!foo bar",
        "&a [*a]",
        "*a",
        "<<",
    ),
    *(
        "[" * 3000,
        "{" * 3000,
        "[" * 3000 + "]" * 3000,
        "|\n x",
        "'",
        '"\\ud800"',
        "\x07",
        "\ufeff",
        "- - -",
        "? ",
        ": ",
    ),
)
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


def mutated(rng: random.Random, folder: Path) -> str | None:
    """Mutate one of the three files in ``folder``, read all as both engines do, and return the refusal, if any.

    Raises:
        Exception: what a user would see as a traceback.
    """
    if not (folder / "params.yaml").exists():
        for name in FILES:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    study = folder / "params.yaml"
    study.write_text(
        (ROOT / "params.yaml").read_text().replace("scale: tiny", "scale: smoke").replace("mix: rendered", "mix: smoke")
    )
    (name,) = rng.choices(list(FILES), list(FILES.values()))
    path = folder / name
    before = path.read_bytes()
    try:
        text, touched = _mutation(rng, before)
        path.write_bytes(text)
        params = config.load(study)
        check.validate(params.model_copy(update={"data": params.data.model_copy(update={"raw": str(folder)})}))
        if touched.intersection(MODEL) or rng.random() < 0.01:
            check.build_variants(params)
        pipeline = Pipeline(folder)
        for stage in pipeline.stages:
            pipeline.rule(stage)
        pipeline.jobs()
        check.validate(params)
    except FcotvlError as error:
        if "\n" in str(error) or not 0 < len(str(error)) < 3000:
            raise AssertionError(f"not one line of a readable length: {str(error)[:500]!r}") from error
        return str(error)
    finally:
        path.write_bytes(before)
    return None


def _mutation(rng: random.Random, before: bytes) -> tuple[bytes, set[str]]:
    """A changed file, and the keys on the way to what was changed."""
    kind = rng.random()
    if kind < 0.1:  # bytes
        data = bytearray(before)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data))
            data[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        return bytes(data), set()
    if kind < 0.13:
        bomb = rng.choice([BOMB, MERGE_BOMB, "x: [" * 500, "x" * 300_000, ""])
        return before + bomb.encode(), set()
    values = copy.deepcopy(yaml.safe_load(before))
    *way, last = rng.choice(list(_places(values)))
    parent = values
    for part in way:
        parent = parent[part]
    touched = {part for part in (*way, last) if isinstance(part, str)}
    if kind < 0.25:  # another text in place of a value: what only a parser makes of it
        parent[last] = "@@"
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10**6)
        return text.replace("'@@'", rng.choice(TEXTS), 1).encode("utf-8", "surrogatepass"), touched
    if kind < 0.4:
        del parent[last]
    elif kind < 0.55 and isinstance(parent, dict):
        parent[rng.choice([f"{last}s", str(last)[:-1], "x", "a\nb", 1, "workflow"])] = parent.pop(last)
    else:
        parent[last] = rng.choice(EVIL)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass"), touched


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything below ``value``."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*way, key)
        yield from _places(child, (*way, key))
