"""Print a mix as a table, before anything is downloaded."""

import sys

from tabulate import tabulate

from fcotvl.core.config import Params
from fcotvl.data.lazy_records import SPLIT_SHARES
from fcotvl.data.plan import Planned, plan

REPEATED = 1.005
"""Epochs from which on a source counts as repeated: less is rounding."""


def run(params: Params) -> None:
    """Print how many images each split takes of each source, with licences, sizes and epochs."""
    corpus = params.mix_config.corpus
    planned = plan(params.mix_config.sources, corpus)
    rows = [
        [
            *(one.name, one.licence, _shown(one.images), _shown(one.gigabytes), *_counts(one)),
            f"{one.epochs:.2f}" if one.epochs > REPEATED else "",
        ]
        for one in planned
    ]
    totals = {split: sum(one.taken.get(split, 0) for one in planned) for split in SPLIT_SHARES}
    rows.append(["all", "", "", "", *(f"{totals[split]:,}" for split in SPLIT_SHARES)])
    rows.append(["requested", "", "", "", *(f"{getattr(corpus, split):,}" for split in SPLIT_SHARES)])
    header = ["source", "licence", "images", "GB", *SPLIT_SHARES, "epochs"]
    right = ["left", "left", *["right"] * (len(header) - 2)]
    print(tabulate(rows, header, tablefmt="github", colalign=right, disable_numparse=True))
    hub = [
        one for one, source in zip(planned, params.mix_config.sources, strict=True) if source.reader == "huggingface"
    ]
    unknown = [one.name for one in hub if one.gigabytes is None]
    known = sum(one.gigabytes or 0 for one in hub)
    sys.stdout.write(
        f"\nDownloads: {known:,.0f} GB for {len(hub) - len(unknown)} of {len(hub)} hub sources. "
        "Rows are streamed: only what is kept is written; each further epoch streams again.\n"
    )
    if unknown:
        sys.stdout.write(f"Of unknown size: {', '.join(unknown)}.\n")


def _counts(one: Planned) -> list[str]:
    return [f"{one.taken[split]:,}" if split in one.taken else "" for split in SPLIT_SHARES]


def _shown(value: int | float | None) -> str:
    return "?" if value is None else f"{value:,}"
