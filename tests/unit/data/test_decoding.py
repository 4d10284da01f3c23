"""Drafts go to one split each, and what cannot be opened is set aside with its reason."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

from fcotvl.core.records import Turn
from fcotvl.data.decoding import CHUNK, Opening, opened, routed, workers
from fcotvl.data.lazy_records import CARVE, FileDraft, Opened, Quarantined, carve
from fcotvl.data.sources.rendered import read
from tests.support.datasets import encoded, picture, request

ANSWERED = Turn("t", "Who?", ("me",), "extractive")
HIDDEN = Turn("h", "When?", (), "extractive")


def draft(image, *turns, name="a.png"):
    return FileDraft("id", "test", "test", image, name, turns or (ANSWERED,))


def open_all(drafts, split="align"):
    return list(opened(drafts, Opening(split, "CC0", 10**6, is_hashed=False)))


def test_each_draft_belongs_to_exactly_one_split():
    drafts = [draft(b"%d" % index) for index in range(400)]
    parts = {split: list(routed(drafts, split, tuple(CARVE))) for split in CARVE}
    assert sum(map(len, parts.values())) == 400
    assert all(parts.values())
    assert len(parts["val"]) < len(parts["align"]) / 2


def test_equal_files_stay_together_whatever_their_names():
    one, two = draft(b"same", name="a.png"), draft(b"same", name="b.png")
    assert carve(one.key(), CARVE) == carve(two.key(), CARVE)


def test_a_source_for_one_split_gives_it_everything():
    drafts = [draft(b"%d" % index) for index in range(20)]
    assert len(list(routed(drafts, "val", ("val",)))) == 20


def test_a_split_that_is_not_fed_takes_no_part():
    assert {carve(f"{index:012x}", ("align", "val")) for index in range(100)} == {"align", "val"}


def test_an_unreadable_row_is_reported_once():
    row = Quarantined("x.json, row 3", "test", "query is missing")
    parts = [list(routed([row], split, tuple(CARVE))) for split in CARVE]
    assert sorted(map(len, parts)) == [0, 0, 1]


def test_a_damaged_or_missing_picture_is_set_aside(tmp_path):
    good = draft(encoded(picture(1)))
    bad, missing = draft(b"nothing", name="bad.png"), draft(tmp_path / "no.png", name="no.png")
    first, second, third = open_all([bad, good, missing])
    assert first == Quarantined("bad.png", "test", "not a readable image: no known format")
    assert isinstance(second, Opened)
    assert third == Quarantined(
        "no.png", "test", "the image cannot be read (No such file or directory)"
    )


def test_training_needs_an_answer_and_a_benchmark_does_not():
    data = encoded(picture(1))
    (both,) = open_all([draft(data, ANSWERED, HIDDEN)])
    assert isinstance(both, Opened)
    assert both.record.turns == (ANSWERED,)
    (none,) = open_all([draft(data, HIDDEN)])
    assert none == Quarantined("a.png", "test", "no question has an answer to train on")
    (test,) = open_all([draft(data, HIDDEN)], split="test")
    assert isinstance(test, Opened)
    assert test.record.turns == (HIDDEN,)


def test_the_record_says_where_it_is_from():
    (found,) = open_all([draft(encoded(picture(1)))])
    assert isinstance(found, Opened)
    record = found.record
    assert (record.licence, record.split, record.width, record.height) == ("CC0", "align", 64, 48)
    assert record.decode().tobytes() == picture(1).tobytes()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_workers_change_nothing_but_the_time(count):
    drafts = [draft(encoded(picture(seed)), name=f"{seed}.png") for seed in range(5 * CHUNK + 1)]
    drafts[7] = draft(b"nothing", name="bad.png")
    opening = Opening("align", "CC0", 10**6, is_hashed=True)
    with ThreadPoolExecutor(count) as pool:
        assert list(opened(drafts, opening, workers=count, pool=pool)) == list(
            opened(drafts, opening)
        )


def test_drafts_travel_to_processes():
    drafts = [
        draft(encoded(picture(1))),
        *islice(read(request(Path(), "align"), family="chart"), 2),
    ]
    opening = Opening("align", "CC0", 10**6, is_hashed=False)
    assert pickle.loads(pickle.dumps((opening, drafts))) == (opening, drafts)


def test_an_endless_source_is_read_little_ahead():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield draft(b"nothing")

    with ThreadPoolExecutor(2) as pool:
        results = opened(endless(), Opening("align", "CC0", 1, False), workers=2, pool=pool)
        for _ in range(10 * CHUNK):
            next(results)
    assert 10 * CHUNK <= taken <= 10 * CHUNK + 2 * 2 * CHUNK


def test_the_number_of_workers_can_be_limited(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert workers() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert workers() >= 1
