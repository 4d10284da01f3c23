"""MDPBench: reading order, headers apart, odd photographs."""

import pytest

from fcotvl.data.decoding import Decoder, decode
from fcotvl.data.lazy_records import Quarantined
from fcotvl.data.sources.mdpbench import read
from tests.support.datasets import needs_realdata, realdata, request, write_json, write_picture


def page(path="a.png", *parts):
    return {"layout_dets": list(parts), "page_info": {"image_path": path}, "extra": {}}


def test_text_comes_in_reading_order_and_headers_are_left_out(tmp_path):
    parts = [
        {"order": None, "text": "page 3"},
        {"order": 2, "text": "Second\npart"},
        {"order": 1, "text": "First"},
        {"order": 3, "html": "<table></table>"},
    ]
    write_json(tmp_path / "MDPBench/MDPBench.json", [page("a.png", *parts)])
    write_picture(tmp_path / "MDPBench/images/a.png", 1)
    (record,) = read(request(tmp_path))
    assert record.turns[0].answers == ("First\nSecond\npart",)
    assert record.turns[0].kind == "transcribe"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (page("../../a.png", {"order": 0, "text": "x"}), "leaves"),
        (page("a.png", {"order": "first", "text": "x"}), "order is str"),
        (page("a.png", {"order": 0, "text": None}), "text is NoneType"),
        (page("a.png"), "no text, or text that is too long"),
        ({"page_info": {"image_path": "a.png"}}, "layout_dets is NoneType"),
        ("a.png", "expected an object with image_path"),
    ],
)
def test_a_damaged_row_is_set_aside(tmp_path, bad, reason):
    good = page("b.png", {"order": 0, "text": "ok"})
    write_json(tmp_path / "MDPBench/MDPBench.json", [bad, good])
    (tmp_path / "MDPBench/images").mkdir()
    first, second = read(request(tmp_path))
    assert isinstance(first, Quarantined)
    assert reason in first.reason
    assert second.turns[0].answers == ("ok",)


def test_an_empty_element_does_not_cost_the_page(tmp_path):
    parts = [{"order": 0, "text": "ok"}, {"order": 1, "text": ""}, {"order": 2, "text": " "}]
    write_json(tmp_path / "MDPBench/MDPBench.json", [page("a.png", *parts), page("./", *parts)])
    (tmp_path / "MDPBench/images").mkdir()
    first, second = read(request(tmp_path))
    assert first.turns[0].answers == ("ok",)
    assert second.reason == "path './' is not a file name"


@needs_realdata
def test_the_real_sample_has_the_counts_of_its_page():
    where = {"annotations": "MDPBench_demo.json", "images": "MDPBench_demo"}
    pages = list(read(request(realdata()), **where))
    (long,) = [page for page in pages if isinstance(page, Quarantined)]
    assert "too long for a reply" in long.reason  # a photographed note of more than 2,000 characters
    results = list(decode(pages, Decoder("test", "MIT", 10**8, needs_hash=False)))
    sizes = [(r.record.width, r.record.height) for r in results if not isinstance(r, Quarantined)]
    assert sizes == [(2048, 1536), (2067, 2923)]
