"""The audit as an HTML page: one mix, or several side by side."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fcotvl.report.templates import render_template

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
MAX_LISTED = 200
"""Dropped records that the page lists; the JSON lists all."""


@dataclass(frozen=True)
class Table:
    """A table."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    id: str
    title: str
    tables: list[Table]


def page(audits: Audits) -> str:
    """The page as HTML, without references to other files."""
    sections = [Section("sources", "Sources", list(_sources(audits)))]
    sections += [_split(audits, group, name) for group, name in _splits(audits)]
    sections.append(Section("dropped", "Dropped", [_reasons(audits), *_listed(audits)]))
    contents = [(section.id, section.title) for section in sections]
    return render_template("audit.html.j2", mixes=list(audits), contents=contents, sections=sections)


def _splits(audits: Audits) -> Iterator[tuple[str, str]]:
    for group in ("corpus", "benchmarks"):
        for name in dict.fromkeys(name for audit in audits.values() for name in audit[group]):
            yield group, name


def _sources(audits: Audits) -> Iterator[Table]:
    columns = ("read", "kept", "duplicates", "contaminated", "quarantined")
    rows: list[tuple[Cell, ...]] = []
    missing: list[tuple[Cell, ...]] = []
    for mix, audit in audits.items():
        for group, split in _splits({mix: audit}):
            for source, row in audit[group][split]["sources"].items():
                place = (source, *_if_several(audits, mix), split)
                if row["absent"]:
                    missing.append((*place, row["absent"]))
                    continue
                repeated = ("yes" if row["ran_dry"] else "no", row["repeats"], row["epochs"])
                shares = (_percent(row["share_asked"]), _percent(row["share_kept"]))
                counts = [int(row[column]) for column in columns]
                rows.append((*place, *counts, *repeated, *shares))
    last = ("ran dry", "repeats", "epochs", "share requested", "share of split")
    first = ("source", *_if_several(audits, "mix"), "split")
    yield Table("Records of each source", (*first, *columns, *last), rows)
    if missing:
        yield Table("Missing sources", (*first, "why"), missing)


def _split(audits: Audits, group: str, name: str) -> Section:
    held = {mix: audit[group][name] for mix, audit in audits.items() if name in audit[group]}
    tables = [_counts(title, key, held) for key, title in COMPOSITION.items()]
    tables += [_tokens(held), *_cut(held)]
    return Section(f"{group}-{name}", f"{name} ({group})", tables)


def _counts(title: str, key: str, held: Audits) -> Table:
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
    header = ["", *(column for mix in held for column in (mix if len(held) > 1 else "count", "share"))]
    return Table(title, tuple(header), rows)


def _tokens(held: Audits) -> Table:
    columns = ("mean", "median", "p95", "max", "total")
    rows: list[tuple[Cell, ...]] = []
    for mix, audit in held.items():
        found = {"tiles": audit["tiles"], "answer, characters": audit["answer_characters"]}
        tokens = audit["visual_tokens"].items()
        found |= {f"visual tokens at ratio {ratio}": values for ratio, values in tokens}
        name = _if_several(held, mix)
        rows += [(what, *name, *map(values.get, columns)) for what, values in found.items() if values]
    title = "Visual tokens of an image, characters of an answer"
    return Table(title, ("of", *_if_several(held, "mix"), *columns), rows)


def _cut(held: Audits) -> Iterator[Table]:
    rows: list[tuple[Cell, ...]] = []
    for mix, audit in held.items():
        for source, counts in audit["cut"].items():
            images, name = counts["images"], _if_several(held, mix)
            share = images / (audit["by_source"].get(source) or 1)
            rows.append((source, *name, images, _percent(share), counts["tokens"]))
    if rows:
        header = ("source", *_if_several(held, "mix"), "images", "share of source", "tokens cut")
        yield Table("Images whose text is cut to the longest row of training, estimated from characters", header, rows)


def _reasons(audits: Audits) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for mix, audit in audits.items():
        found = Counter((row["split"], row["as"]) for row in audit["dropped"])
        name = _if_several(audits, mix)
        rows += [(split, *name, kind, count) for (split, kind), count in sorted(found.items())]
    return Table("Dropped images by reason", ("split", *_if_several(audits, "mix"), "as", "images"), rows)


def _listed(audits: Audits) -> Iterator[Table]:
    for mix, audit in audits.items():
        rows: list[tuple[Cell, ...]] = [
            (row["file"], row["split"], row["as"], row.get("reason") or _same(row))
            for row in audit["dropped"][:MAX_LISTED]
        ]
        more = len(audit["dropped"]) - len(rows)
        title = f"Dropped images of {mix}" + (f" (and {more:,} more in the JSON)" if more else "")
        yield Table(title, ("file", "split", "as", "why"), rows)


def _if_several(audits: Audits, cell: str) -> tuple[str, ...]:
    """``cell`` of the column ``mix``, which only a page of several mixes has."""
    return (cell,) if len(audits) > 1 else ()


def _same(row: Mapping[str, Any]) -> str:
    how = f"{row['distance']} bits from" if row["distance"] else "the pixels of"
    return f"{how} {row['same_as']}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
