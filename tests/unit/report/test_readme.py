"""The README's headline, and a table of docs/choices.md, say what the committed tables say."""

import hashlib
from collections import Counter

import pandas as pd
import pytest
import yaml

from fcotvl.core import config
from tests.support.imports import ROOT

RESULTS = ROOT / "docs/results"
PROMPTS = {"cot": "chain of thought", "direct": "direct"}
BENCHMARKS = ("docvqa", "chartqa", "infovqa")
BASELINES = {
    "teacher": ("teacher", 64),
    "fastv-r0.5": ("FastV, 50 % removed", 32),
    "fastv-equal-cost-r0.5": ("FastV at the student's cost", 19),
}
STUDENTS = {0.5: ("student, 50 % removed", 32), 0.75: ("student, 75 % removed", 16)}
ORDER = ("teacher", 0.5, "fastv-r0.5", "fastv-equal-cost-r0.5", 0.75)
STUDY = ((0.5, "distilled"), (0.5, "sft-long"), (0.75, "distilled"), (0.75, "sft-full"), (0.875, "distilled"))
"""Ratio and stage of the students in the study's table."""
POSITIONS = (("cnn", 0.25), ("cnn", 0.5), ("cnn", 0.75), ("cnn", 0.875), ("pool", 0.5), ("cnn-default", 0.5))
"""Students of the table of positions in docs/choices.md."""


def headline() -> list[str]:
    """Its rows, from ``results-*.csv`` and, for both ratios, ``ablation-*.csv``."""
    rows = []
    for prompt, title in PROMPTS.items():
        results = pd.read_csv(RESULTS / f"tables/results-{prompt}.csv")
        grid = pd.read_csv(RESULTS / f"ablation/tables/ablation-{prompt}.csv")
        grid = grid[(grid.compressor == "cnn") & (grid.stage == "full")]
        for key in ORDER:
            name, tokens = STUDENTS[key] if key in STUDENTS else BASELINES[key]
            table = grid[grid.ratio == key] if key in STUDENTS else results[results.system == key]
            found = table[table.headline].set_index("benchmark").loc[list(BENCHMARKS)]
            cells = [f"{row.score:.1f} [{row.low:.1f}, {row.high:.1f}]" for row in found.itertuples()]
            rows.append(f"| {' | '.join([title, name, str(tokens), *cells])} |")
    return rows


def retention() -> list[str]:
    """What students keep of the teacher's score, from the study's ``retention-*.csv``."""
    rows = []
    for prompt, title in PROMPTS.items():
        table = pd.read_csv(RESULTS / f"study/tables/retention-{prompt}.csv")
        table = table[(table.kind == "cnn") & (table.benchmark == "mean")]
        found = table.set_index(["ratio", "stage"]).loc[list(STUDY)]
        cells = [f"{row.value:.1f} [{row.low:.1f}, {row.high:.1f}]" for row in found.itertuples()]
        rows.append(f"| {' | '.join([title, *cells])} |")
    return rows


def rates() -> list[str]:
    """The best peak rate found for each student of the study, and the others that were tried."""
    rows = []
    found = pd.read_csv(ROOT / "docs/choices/rates.csv").sort_values("lr")
    for (kind, ratio, pictures), tried in found.groupby(["compressor", "ratio", "pictures"]):
        cells = [f"{_shown(row.lr)}: {row.kl:.4f}" for row in tried.itertuples()]
        best = cells.pop(tried["kl"].argmin())
        rows.append(f"| `{kind}` | {100 * ratio:g} % | {pictures:,} | **{best}** | {', '.join(cells)} |")
    return rows


def _shown(rate: float) -> str:
    """``5e-4``."""
    digits, exponent = f"{rate:e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def longest() -> list[str]:
    """What the students that are fine-tuned longest keep of the study's questions, of others, and of all."""
    rows = []
    for asked, found in pd.read_csv(ROOT / "docs/choices/long.csv").groupby("asked", sort=False):
        row = found.set_index("prompt").loc[list(PROMPTS)]
        cells = [f"{one.value:.1f} [{one.low:.1f}, {one.high:.1f}]" for one in row.itertuples()]
        rows.append(f"| {' | '.join([str(asked), f'{row.questions.iloc[0]:,}', *cells])} |")
    return rows


def positions() -> list[str]:
    """What students keep with consecutive and with spread positions."""
    rows = []
    for kind, ratio in POSITIONS:
        cells = [f"`{kind}`", f"{100 * ratio:g} %"]
        for prompt in PROMPTS:
            for counted in ("consecutive", "spread"):
                table = pd.read_csv(ROOT / f"docs/choices/{counted}-{prompt}.csv")
                table = table.query("stage == 'distilled' and scale.isna() and benchmark == 'mean'")
                row = table.set_index(["kind", "ratio"]).loc[(kind, ratio)]
                assert (row.questions, row.seeds) == (3000, 3)
                cells.append(f"{row.value:.1f} [{row.low:.1f}, {row.high:.1f}]")
        rows.append(f"| {' | '.join(cells)} |")
    return rows


@pytest.mark.parametrize(
    ("name", "rows", "page"),
    [
        ("headline", headline, "README.md"),
        ("study", retention, "README.md"),
        ("rates", rates, "docs/choices.md"),
        ("long", longest, "docs/choices.md"),
        ("positions", positions, "docs/choices.md"),
    ],
)
def test_each_table_is_that_of_the_committed_files(name, rows, page):
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0].partition("\n\n")[0]
    assert table.splitlines()[2:] == rows()


def test_each_student_of_the_study_learns_at_the_best_rate_found_for_it():
    found = pd.read_csv(ROOT / "docs/choices/rates.csv").sort_values("pictures")
    for (kind, ratio), tried in found.groupby(["compressor", "ratio"]):
        last = tried[tried.pictures == tried.pictures.iloc[0]]  # the 1,280 of the study, where there are both
        best = last.loc[last.kl.idxmin(), "lr"]
        for scale in ("study", "study-4th", "study-16th"):
            assert config.load(scale=scale).scale_config.distill.lr_of(kind, ratio) == best, (kind, ratio, scale)


def test_what_the_student_keeps_is_that_of_the_committed_files():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for prompt in PROMPTS:
        table = pd.read_csv(RESULTS / f"tables/retention-{prompt}.csv")
        row = table[(table.system == "merged") & (table.benchmark == "mean")].iloc[0]
        assert f"{row.retention:.1f} [{row.low:.1f}, {row.high:.1f}] %" in text


def test_what_is_kept_of_all_questions_is_that_of_the_committed_files():
    found = pd.read_csv(ROOT / "docs/choices/long.csv").set_index(["asked", "prompt"])
    cot, direct = (found.loc[("all", prompt)] for prompt in PROMPTS)
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"Of {cot.questions:,.0f} questions, these and as many others, " in text
    assert f"keeps [{cot.value:.1f} and {direct.value:.1f} %]" in text
    for prompt in PROMPTS:
        table = pd.read_csv(RESULTS / f"study/tables/retention-{prompt}.csv")
        (row,) = table.query("kind == 'cnn' and stage == 'sft-long' and benchmark == 'mean'").itertuples()
        own = found.loc[("the study's own", prompt)]
        assert [own.value, own.low, own.high] == pytest.approx([row.value, row.low, row.high])


def test_verdicts_are_counted_as_the_study_has_them():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    page = (RESULTS / "study/tables/claims.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    for title, verdicts in zip(cells[0][1:], list(zip(*cells[2:], strict=True))[1:], strict=True):
        counts = Counter(verdicts)
        words = (
            f"{title.lower()}: {counts['holds']} hold, {counts['does not hold']} do not, "
            f"{counts['undecided']} undecided, {counts['not tested']} not tested"
        )
        assert words in text


def test_the_committed_page_is_that_of_the_committed_lock():
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))
    outs = {out["path"]: out.get("md5") for out in lock["stages"]["report"]["outs"]}
    for name in ("index.html", "metrics.json", "scores.json"):
        assert hashlib.md5((RESULTS / name).read_bytes()).hexdigest() == outs[f"reports/{name}"]


def test_both_committed_pages_are_of_one_run():
    results = pd.read_csv(RESULTS / "tables/results-cot.csv").set_index(["system", "benchmark"])["score"]
    grid = pd.read_csv(RESULTS / "ablation/tables/ablation-cot.csv")
    grid = grid[(grid.compressor == "cnn") & (grid.ratio == 0.5) & (grid.stage == "full")].set_index("benchmark")
    for benchmark in BENCHMARKS:
        assert grid.loc[benchmark, "score"] == results["merged", benchmark]
