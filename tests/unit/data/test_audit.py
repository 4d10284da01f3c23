"""The audit of a corpus: counts that add up, and one clear line where nothing is left."""

from dataclasses import replace

import pytest

from fcotvl.core.errors import DataError
from fcotvl.core.geometry import count_tiles
from fcotvl.data.audit import Composition, Tiling, answer_type, distribution, dropped_records, source_summary
from fcotvl.data.decoding import Decoded
from fcotvl.data.dedup import ContaminationFilter, DedupIndex
from fcotvl.data.lazy_records import Quarantined
from fcotvl.data.mixing import Stream, mix
from tests.support.datasets import record


def run(*items):
    stream = Stream("charts", 1.0, iter(items))
    list(mix([stream], 10, DedupIndex(0), ContaminationFilter(0)))
    return stream


def good(seed):
    return Decoded(record(seed), None, f"{seed}.png")


BAD = Quarantined("x.png", "test", "damaged")


def test_the_account_adds_up():
    row = source_summary([run(good(1), good(1), good(2), BAD)])["charts"]
    assert row["read"] == row["kept"] + row["duplicates"] + row["contaminated"] + row["quarantined"]
    assert (row["kept"], row["duplicates"], row["quarantined"]) == (2, 1, 1)


def test_repeats_are_stated_beside_what_was_kept():
    items = [good(1), good(2), good(2), good(3)]
    stream = Stream("charts", 1.0, iter(items), restart=lambda: iter(items), epochs=4)
    list(mix([stream], 8, DedupIndex(0), ContaminationFilter(0)))
    row = source_summary([stream])["charts"]
    assert (row["read"], row["kept"], row["repeats"], row["epochs"]) == (4, 3, 5, 2.667)
    assert (row["ran_dry"], row["share_kept"]) == (True, 1.0)


def test_a_lost_record_is_noticed():
    stream = run(good(1), BAD)
    stream.quarantined.clear()
    with pytest.raises(DataError, match="2 records read, but counts do not add up"):
        source_summary([stream])


def test_an_empty_split_says_why():
    with pytest.raises(DataError, match=r"charts \(1 read, 1 quarantined, first x.png: damaged\)"):
        source_summary([run(BAD)])


def test_every_dropped_record_has_its_reason():
    rows = dropped_records([run(good(1), good(1), BAD)], "align")
    assert rows == [
        {"split": "align", "as": "quarantined", "file": "x.png", "reader": "test", "reason": "damaged"},
        {"split": "align", "as": "duplicates", "record": "r1", "file": "1.png", "same_as": "r1", "distance": 0},
    ]


def test_the_composition_counts_what_passes():
    composition = Composition(Tiling(tile_size=32, max_tiles=4, tokens=64))
    records = [record(1), record(2, "Who?", "When?")]
    assert list(composition.watch(records)) == records
    counts = composition.to_json()
    assert (counts["records"], counts["turns"]) == (2, 3)
    assert counts["by_source"] == {"test": 2}
    assert counts["by_longer_side"] == {"<= 224": 2}
    assert counts["by_answer"] == {"yes/no": 3}
    assert counts["answer_characters"] == {"mean": 3, "median": 3, "p95": 3, "max": 3, "total": 9}
    tiles = count_tiles(64, 48, tile_size=32, max_tiles=4)
    assert counts["tiles"]["total"] == 2 * tiles > 2
    assert counts["visual_tokens"]["0.0"]["max"] == 64 * tiles
    assert counts["visual_tokens"]["0.75"]["max"] == 16 * tiles


def test_what_training_cuts_is_estimated_by_source():
    """A page of 64 visual tokens leaves 36 of 100, which are some 108 characters."""
    composition = Composition(Tiling(tile_size=64, max_tiles=1, tokens=64, max_length=100))
    short, long = record(1), record(2)
    turns = (replace(long.turns[0], question="q" * 20, answers=("a" * 118,)), long.turns[0])
    assert list(composition.watch([short, replace(long, turns=turns)]))
    assert composition.to_json()["cut"] == {"test": {"images": 1, "tokens": 10}}


def test_a_spread_is_that_of_the_numbers_written_out():
    found = distribution({1: 10, 5: 9, 100: 1})
    assert found == {"mean": 7.75, "median": 1, "p95": 5, "max": 100, "total": 155}
    assert distribution({}) == {}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["12"], "number"),
        (["$1,200.50"], "number"),
        (["-3.5%"], "number"),
        (["Yes"], "yes/no"),
        (["Fiji"], "word"),
        (["United States"], "phrase"),
        ([" ".join("word" for _ in range(21))], "text"),
        (["12-05-1998"], "word"),
        ([], "hidden"),
    ],
)
def test_answers_are_sorted_by_what_they_look_like(answers, expected):
    assert answer_type(answers) == expected
