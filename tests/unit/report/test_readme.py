"""The README's headline says what the committed tables say."""

import pandas as pd

from tests.support.imports import ROOT

RESULTS = ROOT / "docs/results"
PROMPTS = {"cot": "chain of thought", "direct": "direct"}
BENCHMARKS = ("docvqa", "chartqa", "infovqa")
BASELINES = {
    "teacher": ("teacher", 64),
    "fastv-r0.5": ("FastV, 50 % removed", 32),
    "fastv-equal-cost-r0.5": ("FastV at the student's cost", 20),
    "fastv-r0.75": ("FastV, 75 % removed", 16),
}
STUDENTS = {0.5: ("student, 50 % removed", 32), 0.75: ("student, 75 % removed", 16)}
ORDER = ("teacher", 0.5, "fastv-r0.5", "fastv-equal-cost-r0.5", 0.75, "fastv-r0.75")


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


def test_the_headline_is_that_of_the_committed_tables():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("<!-- headline -->\n")[2].partition("\n\n")[0].splitlines()
    assert table[2:] == headline()


def test_both_committed_pages_are_of_one_run():
    results = pd.read_csv(RESULTS / "tables/results-cot.csv").set_index(["system", "benchmark"])["score"]
    grid = pd.read_csv(RESULTS / "ablation/tables/ablation-cot.csv")
    grid = grid[(grid.compressor == "cnn") & (grid.ratio == 0.5) & (grid.stage == "full")].set_index("benchmark")
    for benchmark in BENCHMARKS:
        assert grid.loc[benchmark, "score"] == results["merged", benchmark]
