"""Each record goes to one split, and what cannot be decoded is quarantined with its reason."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

from fcotvl.core.records import Turn
from fcotvl.data.decoding import BATCH, Decoded, Decoder, decode, worker_count
from fcotvl.data.lazy_records import SPLIT_SHARES, FileRecord, Quarantined, assign_split, of_split
from fcotvl.data.sources.rendered import read
from tests.support.datasets import encoded, picture, request

ANSWERED = Turn("t", "Who?", ("me",), "extractive")
HIDDEN = Turn("h", "When?", (), "extractive")


def lazy_record(image, *turns, name="a.png"):
    return FileRecord("id", "test", "test", image, name, turns or (ANSWERED,))


def decode_all(records, split="align"):
    return list(decode(records, Decoder(split, "CC0", 10**6, needs_hash=False)))


def test_each_record_belongs_to_exactly_one_split():
    records = [lazy_record(b"%d" % index) for index in range(400)]
    parts = {split: list(of_split(records, split, tuple(SPLIT_SHARES))) for split in SPLIT_SHARES}
    assert sum(map(len, parts.values())) == 400
    assert all(parts.values())
    assert len(parts["val"]) < len(parts["align"]) / 2


def test_equal_files_stay_together_whatever_their_names():
    one, two = lazy_record(b"same", name="a.png"), lazy_record(b"same", name="b.png")
    assert assign_split(one.split_key(), SPLIT_SHARES) == assign_split(two.split_key(), SPLIT_SHARES)


def test_a_source_for_one_split_gives_it_everything():
    records = [lazy_record(b"%d" % index) for index in range(20)]
    assert len(list(of_split(records, "val", ("val",)))) == 20


def test_a_split_without_this_source_takes_no_part():
    assert {assign_split(f"{index:012x}", ("align", "val")) for index in range(100)} == {"align", "val"}


def test_an_unreadable_row_is_reported_once():
    row = Quarantined("x.json, row 3", "test", "query is missing")
    parts = [list(of_split([row], split, tuple(SPLIT_SHARES))) for split in SPLIT_SHARES]
    assert sorted(map(len, parts)) == [0, 0, 1]


def test_a_damaged_or_missing_picture_is_set_aside(tmp_path):
    good = lazy_record(encoded(picture(1)))
    bad, missing = (lazy_record(b"nothing", name="bad.png"), lazy_record(tmp_path / "no.png", name="no.png"))
    first, second, third = decode_all([bad, good, missing])
    assert first == Quarantined("bad.png", "test", "not a readable image: no known format")
    assert isinstance(second, Decoded)
    assert third == Quarantined("no.png", "test", "the image cannot be read (No such file or directory)")


def test_training_needs_an_answer_and_a_benchmark_does_not():
    data = encoded(picture(1))
    (both,) = decode_all([lazy_record(data, ANSWERED, HIDDEN)])
    assert isinstance(both, Decoded)
    assert both.record.turns == (ANSWERED,)
    blank = Turn("b", "Where?", ("", ""), "extractive")
    for hidden in (HIDDEN, blank):
        (none,) = decode_all([lazy_record(data, hidden)])
        assert none == Quarantined("a.png", "test", "no question has an answer to train on")
    (test,) = decode_all([lazy_record(data, HIDDEN)], split="test")
    assert isinstance(test, Decoded)
    assert test.record.turns == (HIDDEN,)


def test_the_record_says_where_it_is_from():
    (found,) = decode_all([lazy_record(encoded(picture(1)))])
    assert isinstance(found, Decoded)
    record = found.record
    assert (record.licence, record.split, record.width, record.height) == ("CC0", "align", 64, 48)
    assert record.decode().tobytes() == picture(1).tobytes()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_workers_change_nothing_but_the_time(count, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(count))
    records = [lazy_record(encoded(picture(seed)), name=f"{seed}.png") for seed in range(5 * BATCH + 1)]
    records[7] = lazy_record(b"nothing", name="bad.png")
    decoder = Decoder("align", "CC0", 10**6, needs_hash=True)
    with ThreadPoolExecutor(count) as pool:
        assert list(decode(records, decoder, pool)) == list(decode(records, decoder))


def test_lazy_records_travel_to_processes():
    records = [lazy_record(encoded(picture(1))), *islice(read(request(Path(), "align"), family="chart"), 2)]
    decoder = Decoder("align", "CC0", 10**6, needs_hash=False)
    assert pickle.loads(pickle.dumps((decoder, records))) == (decoder, records)


def test_an_endless_source_is_read_little_ahead(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield lazy_record(b"nothing")

    with ThreadPoolExecutor(2) as pool:
        results = decode(endless(), Decoder("align", "CC0", 1, False), pool)
        for _ in range(10 * BATCH):
            next(results)
    assert 10 * BATCH <= taken <= 10 * BATCH + 2 * 2 * BATCH


def test_the_number_of_workers_can_be_limited(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert worker_count() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert worker_count() >= 1


def test_a_name_that_is_not_utf_8_is_written_out():
    """As the file system gives it: the byte stands as a lone surrogate, which no file in UTF-8 can hold."""
    good = FileRecord("id-\udcff", "test", "test", encoded(picture(1)), "\udcff.png", (ANSWERED,))
    bad = FileRecord("id", "test", "test", b"nothing", "\udc80.png", (ANSWERED,))
    taken, refused = decode_all([good, bad])
    assert (taken.record.id, taken.file, refused.file) == ("id-\\udcff", "\\udcff.png", "\\udc80.png")


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (refused,) = decode_all([lazy_record(tmp_path / "a.png")])
    assert refused.reason == "the image cannot be read (not a file)"
