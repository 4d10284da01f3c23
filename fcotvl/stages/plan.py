"""Command ``plan``: the mix of a scale as a table, before anything is downloaded."""

from __future__ import annotations

import sys

from tabulate import tabulate

from fcotvl.data.drafts import CARVE
from fcotvl.data.plan import Planned, plan
from fcotvl.params import Params


def run(params: Params) -> None:
    """Print what each split takes of each source, with licences, downloads and what is short."""
    corpus = params.at.corpus
    planned = plan(params.at.sources, corpus)
    rows = [
        [one.name, one.licence, _shown(one.images), _shown(one.gigabytes), *_counts(one)]
        for one in planned
    ]
    totals = {split: sum(one.taken.get(split, 0) for one in planned) for split in CARVE}
    rows.append(["all", "", "", "", *(f"{totals[split]:,}" for split in CARVE)])
    rows.append(["asked for", "", "", "", *(f"{getattr(corpus, split):,}" for split in CARVE)])
    header = ["source", "licence", "images", "GB", *CARVE]
    right = ["left", "left", *["right"] * (len(header) - 2)]
    print(tabulate(rows, header, tablefmt="github", colalign=right, disable_numparse=True))
    silent = [one for one in planned if one.gigabytes is None]
    known = sum(one.gigabytes or 0 for one in planned)
    sys.stdout.write(
        f"\nDownloads: {known:.0f} GB by the cards of {len(planned) - len(silent)} sources; "
        f"{len(silent)} give no size. Rows are streamed: only what is kept is written.\n"
    )


def _counts(one: Planned) -> list[str]:
    return [f"{one.taken[split]:,}" if split in one.taken else "" for split in CARVE]


def _shown(value: int | float | None) -> str:
    return "?" if value is None else f"{value:,}"
