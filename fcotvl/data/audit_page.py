"""The audit as a page to read: one mix, or several side by side."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

Cell = str | int | float
Audits = Mapping[str, Mapping[str, Any]]
"""Audits by the name of their mix."""

COMPOSITION = {
    "by_source": "Images by source",
    "by_licence": "Images by licence",
    "by_longer_side": "Images by longer side, pixels",
    "by_kind": "Questions by task",
    "by_answer": "Questions by type of answer",
}
LISTED = 200
"""Dropped records that the page shows one by one; the JSON has all."""
_SHARE = re.compile(r"^\d+\.\d %$")


@dataclass(frozen=True)
class Grid:
    """A table."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


@dataclass(frozen=True)
class Section:
    """A chapter of the page."""

    id: str
    title: str
    grids: list[Grid]


def page(audits: Audits) -> str:
    """The whole page as HTML that needs no other file."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["share"] = lambda cell: isinstance(cell, str) and bool(_SHARE.match(cell))
    source = files("fcotvl.data").joinpath("audit.html.j2").read_text(encoding="utf-8")
    sections = [Section("sources", "Sources", list(_sources(audits)))]
    sections += [_split(audits, group, name) for group, name in _splits(audits)]
    sections.append(Section("dropped", "Dropped", [_reasons(audits), *_listed(audits)]))
    return environment.from_string(source).render(mixes=list(audits), sections=sections)


def _splits(audits: Audits) -> Iterator[tuple[str, str]]:
    for group in ("corpus", "benchmarks"):
        for name in dict.fromkeys(name for audit in audits.values() for name in audit[group]):
            yield group, name


def _sources(audits: Audits) -> Iterator[Grid]:
    columns = ("read", "kept", "duplicates", "contaminated", "quarantined")
    rows: list[tuple[Cell, ...]] = []
    absent: list[tuple[Cell, ...]] = []
    for mix, audit in audits.items():
        for group, split in _splits({mix: audit}):
            for source, row in audit[group][split]["sources"].items():
                if row["absent"]:
                    absent.append((mix, split, source, row["absent"]))
                    continue
                counts = [int(row[column]) for column in columns]
                shares = (_percent(row["share_asked"]), _percent(row["share_kept"]))
                dry = "yes" if row["ran_dry"] else "no"
                again = (dry, row["repeats"], row["epochs"])
                rows.append((mix, split, source, *counts, *again, *shares))
    again = ("ran dry", "repeats", "epochs")
    header = ("mix", "split", "source", *columns, *again, "share asked", "share of split")
    yield Grid("What each source was asked for and gave", header, rows)
    if absent:
        yield Grid("Sources that are not there", ("mix", "split", "source", "why"), absent)


def _split(audits: Audits, group: str, name: str) -> Section:
    held = {mix: audit[group][name] for mix, audit in audits.items() if name in audit[group]}
    grids = [_counts(title, key, held) for key, title in COMPOSITION.items()]
    grids.append(_tokens(held))
    return Section(f"{group}-{name}", f"{name} ({group})", grids)


def _counts(title: str, key: str, held: Audits) -> Grid:
    """Counts and shares of each mix in columns, all categories of any mix in rows."""
    names = dict.fromkeys(name for audit in held.values() for name in audit[key])
    totals = {mix: sum(audit[key].values()) or 1 for mix, audit in held.items()}
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        cells: list[Cell] = [name]
        for mix, audit in held.items():
            count = audit[key].get(name, 0)
            cells += [count, _percent(count / totals[mix])]
        rows.append(tuple(cells))
    header = ["", *(column for mix in held for column in (mix, "share"))]
    return Grid(title, tuple(header), rows)


def _tokens(held: Audits) -> Grid:
    columns = ("mean", "median", "p95", "max", "total")
    rows: list[tuple[Cell, ...]] = []
    for mix, audit in held.items():
        spreads = {"tiles": audit["tiles"], "answer, characters": audit["answer_characters"]}
        for ratio, spread in audit["visual_tokens"].items():
            spreads[f"visual tokens at ratio {ratio}"] = spread
        rows += [
            (mix, what, *(spread[column] for column in columns))
            for what, spread in spreads.items()
            if spread
        ]
    return Grid("Length of an image and of an answer", ("mix", "", *columns), rows)


def _reasons(audits: Audits) -> Grid:
    rows: list[tuple[Cell, ...]] = []
    for mix, audit in audits.items():
        found = Counter((row["split"], row["as"]) for row in audit["dropped"])
        rows += [(mix, split, kind, count) for (split, kind), count in sorted(found.items())]
    return Grid("How many, and as what", ("mix", "split", "as", "images"), rows)


def _listed(audits: Audits) -> Iterator[Grid]:
    for mix, audit in audits.items():
        rows: list[tuple[Cell, ...]] = [
            (row["split"], row["as"], row["file"], row.get("reason") or _same(row))
            for row in audit["dropped"][:LISTED]
        ]
        more = len(audit["dropped"]) - len(rows)
        title = f"{mix}, one by one" + (f" (and {more:,} more in the JSON)" if more else "")
        yield Grid(title, ("split", "as", "file", "why"), rows)


def _same(row: Mapping[str, Any]) -> str:
    how = f"{row['distance']} bits from" if row["distance"] else "the pixels of"
    return f"{how} {row['same_as']}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
