"""The audit page: all is on it, nothing from a data set is markup, two mixes are side by side."""

import json
import re

import pytest

from fcotvl.core.config import load
from fcotvl.core.errors import DataError
from fcotvl.data.audit import Composition, Tiling, dropped_records, source_summary
from fcotvl.data.decoding import Decoded
from fcotvl.data.dedup import ContaminationFilter, DedupIndex
from fcotvl.data.lazy_records import Quarantined
from fcotvl.data.mixing import Stream, mix
from fcotvl.report.audit_page import MAX_LISTED, page
from fcotvl.report.templates import render_template
from fcotvl.stages.audit import run
from tests.support.datasets import record

EVIL = Quarantined("<script>alert(1)</script>.png", "test", "not a readable image")


def audit(*seeds, bad=()):
    items = [*bad, *(Decoded(record(seed), None, f"{seed}.png") for seed in seeds)]
    streams = [Stream("charts folder=x", 1.0, iter(items))]
    composition = Composition(Tiling(32, 4, 64))
    list(composition.watch(mix(streams, 100, DedupIndex(0), ContaminationFilter(0))))
    row = {"images_asked": 100, **composition.to_json(), "sources": source_summary(streams)}
    return {"benchmarks": {"docvqa": row}, "corpus": {"align": row}, "dropped": dropped_records(streams, "align")}


def test_the_page_shows_what_was_kept_and_what_was_dropped():
    text = page({"tiny": audit(1, 2, 2, bad=[EVIL])})
    for expected in ("charts folder=x", "CC0", "extractive", "yes/no", "quarantined", "ratio 0.75"):
        assert expected in text
    assert "the pixels of r2" in text
    assert "not a readable image" in text


def test_the_page_states_repeats():
    found = audit(1)
    found["corpus"]["align"]["sources"]["charts folder=x"] |= {"repeats": 4711, "epochs": 3.5}
    text = page({"tiny": found})
    for expected in ("repeats", "4,711", "3.5"):
        assert expected in text


def test_the_page_states_what_training_cuts():
    found = audit(1)
    assert "longest row of training" not in page({"tiny": found})
    (source,) = found["corpus"]["align"]["by_source"]
    found["corpus"]["align"]["cut"] = {source: {"images": 1, "tokens": 4711}}
    text = page({"tiny": found})
    for expected in ("longest row of training", "4,711", "100.0 %"):
        assert expected in text


def test_an_absent_source_is_named_apart():
    found = audit(1)
    missing = dict(found["corpus"]["align"]["sources"]["charts folder=x"], absent="no 'DocVQA' here")
    found["corpus"]["align"]["sources"]["docvqa"] = missing
    text = page({"tiny": found})
    assert "Missing sources" in text
    assert "no &#39;DocVQA&#39; here" in text


def test_a_share_is_drawn_as_a_length():
    assert 'style="--share: 100.0%"' in page({"tiny": audit(1)})


def test_names_from_data_sets_are_no_markup():
    text = page({"tiny": audit(1, bad=[EVIL])})
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


def test_a_page_needs_no_other_file():
    text = page({"tiny": audit(1)})
    assert "http" not in text
    assert "src=" not in text


def test_two_mixes_stand_side_by_side():
    text = page({"tiny": audit(1, 2), "other": audit(3)})
    assert "tiny beside other" in text
    assert len(re.findall(r'<th scope="col"[^>]*>share</th>', text)) >= 4
    assert '<td class="text" data-label="mix">tiny</td>' in text
    assert 'data-label="mix"' not in page({"tiny": audit(1, 2)})


def test_the_page_has_the_look_of_the_report():
    look = re.search(r"<style>(.*?)@media print", page({"tiny": audit(1)}), flags=re.DOTALL)[1]
    assert look in render_template("base.html.j2", contents=[])


def test_a_table_without_rows_says_so():
    assert page({"tiny": audit(1)}).count('<p class="note">None.</p>') == 2


def test_a_long_list_says_how_much_more_there_is():
    bad = [Quarantined(f"{number}.png", "test", "damaged") for number in range(MAX_LISTED + 7)]
    assert "and 7 more in the JSON" in page({"tiny": audit(1, bad=bad)})


def test_the_command_reads_one_or_two_audits_and_says_what_it_wrote(tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("tiny", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.json").write_text(json.dumps(audit(1)))
    first, second = (tmp_path / name / "audit.json" for name in ("tiny", "other"))
    run(load(scale="tiny"), audit=first, page=tmp_path / "a.html", beside=second)
    assert "tiny beside other" in (tmp_path / "a.html").read_text()
    assert caplog.messages == [f"wrote {tmp_path / 'a.html'}, a page on tiny and other"]


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_what_is_no_audit_is_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "audit.json").write_text(content)
    with pytest.raises(DataError, match="is not an audit"):
        run(load(scale="tiny"), audit=tmp_path / "audit.json", page=tmp_path / "a.html")
