"""The page stands alone, and says what the report says."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from fcotvl.compress.compressors import available
from fcotvl.report.metrics import metrics, scores
from fcotvl.report.page import render_page
from fcotvl.report.plots import all_plots, compressors, curves, score_by_ratio, shapley, side_by_side
from fcotvl.report.report_data import LABELS, TRAINING_FREE
from fcotvl.report.scores import results
from fcotvl.report.tables import all_tables

OPTIONAL = (
    *("kinds", "grid", "grid_differences", "methods", "shapley", "gaps", "speed", "audit"),
    *("acceptance", "distill", "sft", "sampling"),
)


def rendered(report):
    return render_page(report, all_tables(report), all_plots(report))


@pytest.fixture(scope="session")
def page(report):
    return rendered(report)


def test_a_dollar_sign_in_a_name_is_no_formula(report):
    name = r"$\frac{$"
    plots = all_plots(replace(report, sft=report.sft.assign(dataset=name), benchmarks={"docvqa": name, "chartqa": "$"}))
    assert name in str(plots["sft"]).replace(r"\\", "\\")


@pytest.fixture(scope="session")
def plots(report):
    return all_plots(report)


class Elements(HTMLParser):
    """Ids, links, loaded files and balance of a page."""

    VOID = frozenset({"meta", "link", "br", "img", "hr"})

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded, self.stack = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if "id" in values:
            self.ids.append(values["id"])
        found = [values[key] for key in ("href", "src", "xlink:href") if key in values]
        (self.links if tag == "a" else self.loaded).extend(found)
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def test_the_page_loads_nothing_from_elsewhere(page):
    loaded = Elements(page).loaded
    assert loaded
    assert all(link.startswith(("#", "data:")) for link in loaded)
    assert not re.search(r"@import|<script\s|url\((?!#)", page)


def test_the_paper_and_the_files_of_every_table_are_links(report, page):
    links = {link for link in Elements(page).links if not link.startswith("#")}
    files = {f"tables/{table.name}.{suffix}" for table in all_tables(report) for suffix in ("csv", "md", "tex")}
    assert links == files | {"https://arxiv.org/abs/2502.18512", "tables/", "figures/"}


def test_elements_are_closed_and_ids_are_unique(page):
    found = Elements(page)
    assert found.stack == []
    assert len(found.ids) == len(set(found.ids))


def test_every_link_of_the_page_has_its_target(page):
    found = Elements(page)
    assert {link[1:] for link in (*found.links, *found.loaded) if link.startswith("#")} <= set(found.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(found.ids)


def test_the_header_says_what_was_run(report, page):
    for name, value in report.facts.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in page


def test_every_table_and_plot_is_on_the_page(report, page, plots):
    for table in all_tables(report):
        assert f'id="table-{table.name}"' in page
    assert len(plots) == 7
    assert page.count("<svg role=") == sum(len(plot.panels) for plot in plots.values()) == 3 * 3 + 4


def test_a_cell_is_read_without_the_head_of_its_column(report, page):
    """On a narrow screen a table is a list, and each cell shows this label."""
    row = results(report, "direct").shown.iloc[0]
    for name, text in row.iloc[1:].items():
        assert f'<td data-label="{name}">{text.partition(" ")[0]}' in page


def test_the_page_of_the_grid_has_its_own_title_and_opens_with_the_grid(report, page):
    assert "<h1>FCoT-VL, reproduced: compressors and ratios</h1>" in page
    assert page.index('<h2 id="ablations">') < page.index('<h2 id="results">')
    single = rendered(replace(report, grid=None, grid_differences=None))
    assert "<h1>FCoT-VL, reproduced: report of one run</h1>" in single
    assert single.index('<h2 id="results">') < single.index('<h2 id="ablations">')


def test_every_verdict_is_on_the_page(page):
    assert page.count('<article class="claim') == 6
    assert "42.32" in page
    assert "75.04" in page


def test_a_claim_shows_its_verdict_under_each_prompt_and_names_it(report):
    table = report.differences.copy()
    direct = table["prompt"] == "direct"
    table.loc[direct, ["difference", "low", "high"]] = [-5.0, -9.0, -1.0]
    table.loc[~direct, ["difference", "low", "high"]] = [5.0, 1.0, 9.0]
    text = rendered(replace(report, differences=table))
    claim = text[text.index("<h3>Post-training recovers") : text.index("<h3>Learned compression")]
    assert "Direct answers: does not hold" in claim
    assert "Chain of thought: holds" in claim
    row = claim[claim.index("DocVQA, against") :]
    cells = re.findall(r">([a-z ]+)</span>\s+([-+.0-9]+) \[", row)
    assert cells[:2] == [("does not hold", "-5.0"), ("holds", "+5.0")]
    faster = text[text.index("<h3>The compressed model is faster") : text.index("<h3>Post-training recovers")]
    assert "Direct answers" not in faster


def test_text_from_data_is_escaped(report):
    facts = {"scale": "<script>alert(1)</script>"}
    bare = replace(report, facts=facts, params="a < b & c", **dict.fromkeys(OPTIONAL))
    text = render_page(bare, [], {})
    assert "<script>alert" not in text
    assert "a &lt; b &amp; c" in text


def test_the_same_inputs_give_the_same_bytes(page, plots):
    assert plots
    assert all(panel in page for plot in plots.values() for panel in plot.panels)  # drawn twice


def test_points_of_one_ratio_lie_evenly_about_its_place():
    data = pd.DataFrame({"benchmark": "a", "ratio": [0.5] * 4 + [0.75] * 3})
    places = side_by_side(data, [0.5, 0.75])
    assert places.groupby(data["ratio"]).mean().tolist() == pytest.approx([0, 1])
    assert places.between(-0.5, 1.5).all()
    assert places.is_unique
    many = side_by_side(pd.DataFrame({"benchmark": "a", "ratio": [0.5] * 40}), [0.5])
    assert many.abs().max() < 0.5


def test_no_interval_is_clipped(report):
    """The last benchmark has the highest scores: all panels share its scale."""
    high = report.scores["high"].where(report.scores["benchmark"] == "infovqa", 50.0)
    table = report.scores.assign(low=20.0, score=30.0, high=high.clip(30.0, 99.0))
    for panel in score_by_ratio(replace(report, scores=table), "direct").panels:
        box = re.search(r'<clipPath[^>]*>\s*<rect x="([^"]+)" y="([^"]+)" width="([^"]+)" height="([^"]+)"', panel)
        left, top, width, height = map(float, box.groups())
        bars = re.findall(r'<g id="[^"]*LineCollection_\d+">\s*<path d="M ([\d.]+) ([\d.]+) \nL [\d.]+ ([\d.]+)', panel)
        assert len(bars) == 6
        for x, *ends in bars:
            assert left < float(x) < left + width
            assert all(top < float(end) < top + height for end in ends)


def test_the_plot_of_the_grid_has_intervals(report):
    for panel in compressors(report, "direct").panels:
        assert len(re.findall(r"LineCollection_\d+", panel)) == report.grid["compressor"].nunique()


def test_a_legend_has_the_systems_that_ran_and_no_two_look_alike(report, plots):
    labels = [name for name, _ in plots["ratio-direct"].keys]
    ran = {role for role in report.systems["role"] if role in TRAINING_FREE}
    assert ran != set(TRAINING_FREE)
    free = {LABELS[name] for name in TRAINING_FREE}
    assert [label for label in labels if label in free] == [LABELS[name] for name in sorted(ran)]
    every = [{"system": f"{name}-r0.5", "role": name, "ratio": 0.5, "tokens": 32} for name in TRAINING_FREE]
    systems = pd.concat([report.systems, pd.DataFrame(every)]).drop_duplicates("system")
    some = report.scores[report.scores["system"] == report.student]
    scores = pd.concat([report.scores, *(some.assign(system=row["system"]) for row in every)])
    plot = score_by_ratio(replace(report, systems=systems, scores=scores), "direct")
    assert len({picture for _, picture in plot.keys}) == len(plot.keys) == 3 + len(TRAINING_FREE)


def test_lines_of_as_many_compressors_as_there_are_look_different():
    loss = pd.Series([2.0, 1.0])
    names = available()
    plot = curves([(name, loss.index, loss) for name in names], "Distillation", "KL")
    assert len({picture for _, picture in plot.keys}) == len(plot.keys) == len(names)


def test_a_figure_is_also_a_file_that_needs_no_page(plots):
    for plot in plots.values():
        ElementTree.fromstring(plot.file)
        assert "var(" not in plot.file
    assert "Student, post-trained" in plots["ratio-direct"].file


def test_plots_take_the_colours_of_the_page(plots):
    for panel in (panel for plot in plots.values() for panel in plot.panels):
        assert not re.search(r"#0[12]0[12]0[12]", panel)
        assert "var(--ink)" in panel


def test_clip_paths_keep_their_size(plots):
    """Without it, browsers draw axes and no data."""
    panels = [panel for plot in plots.values() for panel in plot.panels]
    boxes = [box for panel in panels for box in re.findall(r"<clipPath[^>]*>\s*<rect([^>]*)>", panel)]
    assert boxes
    assert all("width" in box and "height" in box for box in boxes)


def test_an_interval_that_rounding_puts_beside_its_value_can_be_drawn():
    table = pd.DataFrame({"checkpoint": ["a"], "value": [1.0], "low": [1.0 + 1e-12], "high": [1.0]})
    assert "<svg" in shapley(table).file


def test_a_run_without_a_correct_answer_still_has_a_page(report):
    zeros = report.scores.assign(score=0.0, low=0.0, high=0.0)
    nothing = report.retention.assign(retention=np.nan, low=np.nan, high=np.nan)
    bare = replace(
        report, scores=zeros, retention=nothing, differences=report.differences.iloc[:0], **dict.fromkeys(OPTIONAL)
    )
    text = rendered(bare)
    assert "Not tested. Run the ablation grid" in text
    assert "the teacher scores 0" in text
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_metrics_are_those_of_the_headline_student(report):
    found, every = metrics(report), scores(report)
    # Three benchmarks by two prompts by score and retention, the mean's retention under each, and the speed-up.
    assert len(found) == 15
    kept = report.retention.query("system == 'shapley' and benchmark == 'mean' and prompt == 'cot'").iloc[0]
    assert found["mean_cot_retention"] == round(kept["retention"], 2)
    assert set(every) == set(report.scores["system"])
    assert list(every["shapley"]) == ["docvqa", "chartqa", "infovqa"]
    table = report.scores.query("system == 'shapley' and benchmark == 'chartqa' and prompt == 'cot' and headline").iloc[
        0
    ]
    measures = every["shapley"]["chartqa"]["cot"]
    assert list(measures) == ["score", "low", "high", "retention"]
    assert found["chartqa_cot"] == measures["score"]
    assert found["chartqa_cot_retention"] == measures["retention"]
    fastest = report.speed.query("system == 'distilled' and part == 'total'").iloc[0]
    assert found["speedup"] == round(1 / fastest["time"], 2)
    assert measures["score"] == round(table["score"], 2)
    assert measures["low"] <= measures["score"] <= measures["high"]
