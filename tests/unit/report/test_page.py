"""The page stands alone, and says what the report say."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from fcotvl.report.metrics import metrics
from fcotvl.report.page import render_page
from fcotvl.report.plots import all_plots, shapley
from fcotvl.report.tables import all_tables

OPTIONAL = (
    *("kinds", "grid", "grid_differences", "methods", "shapley", "gaps", "speed", "audit"),
    *("acceptance", "distill", "sft", "sampling"),
)


@pytest.fixture(scope="session")
def page(report):
    return render_page(report, all_tables(report))


def test_a_dollar_sign_in_a_name_is_no_formula(report):
    name = r"$\frac{$"
    plots = all_plots(replace(report, sft=report.sft.assign(dataset=name), benchmarks={"docvqa": name, "chartqa": "$"}))
    assert name in str(plots["sft"]).replace(r"\\", "\\")


@pytest.fixture(scope="session")
def plots(report):
    return all_plots(report)


class Elements(HTMLParser):
    """Ids, links and balance of a page."""

    VOID = frozenset({"meta", "link", "br", "img", "hr"})

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.stack = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if "id" in values:
            self.ids.append(values["id"])
        self.links += [values[key] for key in ("href", "src", "xlink:href") if key in values]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def test_the_page_loads_nothing_from_elsewhere(page):
    links = Elements(page).links
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|<script|url\((?!#)", page)


def test_elements_are_closed_and_ids_are_unique(page):
    found = Elements(page)
    assert found.stack == []
    assert len(found.ids) == len(set(found.ids))


def test_every_link_of_the_page_has_its_target(page):
    found = Elements(page)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(found.ids)


def test_the_header_says_what_was_run(report, page):
    for name, value in report.facts.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in page


def test_every_table_and_plot_is_on_the_page(report, page, plots):
    for table in all_tables(report):
        assert f'id="table-{table.name}"' in page
    assert page.count("<svg role=") == len(plots) == 7


def test_every_verdict_is_on_the_page(page):
    assert page.count('<article class="claim') == 6
    assert "42.32" in page
    assert "75.04" in page


def test_text_from_data_is_escaped(report):
    facts = {"scale": "<script>alert(1)</script>"}
    bare = replace(report, facts=facts, params="a < b & c", **dict.fromkeys(OPTIONAL))
    text = render_page(bare, [])
    assert "<script>alert" not in text
    assert "a &lt; b &amp; c" in text


def test_the_same_inputs_give_the_same_bytes(page, plots):
    assert plots
    assert all(plot.svg in page for plot in plots.values())  # drawn twice


def test_plots_take_the_colours_of_the_page(plots):
    for plot in plots.values():
        assert not re.search(r"#0[12]0[12]0[12]", plot.svg)
        assert "var(--ink)" in plot.svg


def test_clip_paths_keep_their_size(plots):
    """Without it, browsers draw axes and no data."""
    for plot in plots.values():
        for box in re.findall(r"<clipPath[^>]*>\s*<rect([^>]*)>", plot.svg):
            assert "width" in box
            assert "height" in box


def test_an_interval_that_rounding_puts_beside_its_value_can_be_drawn():
    table = pd.DataFrame({"checkpoint": ["a"], "value": [1.0], "low": [1.0 + 1e-12], "high": [1.0]})
    assert "<svg" in shapley(table).svg


def test_a_run_without_a_correct_answer_still_has_a_page(report):
    zeros = report.scores.assign(score=0.0, low=0.0, high=0.0)
    nothing = report.retention.assign(retention=np.nan, low=np.nan, high=np.nan)
    bare = replace(
        report, scores=zeros, retention=nothing, differences=report.differences.iloc[:0], **dict.fromkeys(OPTIONAL)
    )
    text = render_page(bare, all_tables(bare))
    assert "Not tested. Run the ablation grid" in text
    assert "the teacher scores 0" in text
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_metrics_are_those_of_the_headline_student(report):
    found = metrics(report)
    assert list(found) == ["docvqa", "chartqa", "infovqa"]
    assert list(found["chartqa"]) == ["direct", "cot"]
    table = report.scores.query("system == 'shapley' and benchmark == 'chartqa' and prompt == 'cot' and headline").iloc[
        0
    ]
    measures = found["chartqa"]["cot"]
    assert list(measures) == ["score", "low", "high", "retention"]
    assert measures["score"] == round(table["score"], 2)
    assert measures["low"] <= measures["score"] <= measures["high"]
