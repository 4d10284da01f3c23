"""Whatever comes in: it is kept once or dropped for a reason, and nothing stops the run."""

import hashlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcotvl.core.config import CorpusParams, SourceParams
from fcotvl.core.records import Record, Turn
from fcotvl.data.decoding import Decoded
from fcotvl.data.dedup import BITS, ContaminationFilter, DedupIndex, HammingIndex
from fcotvl.data.lazy_records import SPLIT_SHARES, FileRecord, Quarantined, assign_split
from fcotvl.data.mixing import Stream, mix
from fcotvl.data.plan import plan
from fcotvl.data.sources import chartqa, docvqa, funsd, infographicvqa, internvl_jsonl, ocrbench
from tests.support.datasets import request, write_json

BAD = Quarantined("bad.png", "test", "damaged")
HASHES = st.integers(0, 2**BITS - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    *("imgname", "query", "label", "questionId", "question", "image", "answers", "id", "image_path"),
    *("image_local_name", "operation/reasoning", "text", "box", "linking", "answer", "conversations"),
)
ROWS = st.lists(
    JSON | st.dictionaries(st.sampled_from(KEYS), JSON | st.sampled_from(["a.png", "../b", "question"])), max_size=4
)


def record(number: int, split: str = "align") -> Record:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    turn = Turn(f"t{number}", f"What is {number}?", ("x",), "extractive")
    return Record(f"r{number}", "test", "CC0", split, b"", 1, 1, digest, (turn,))


def item(number: int) -> Decoded | Quarantined:
    return BAD if number < 0 else Decoded(record(number), None, f"{number}.png")


@given(
    st.lists(st.lists(st.integers(-1, 20), max_size=30), min_size=1, max_size=4),
    st.sets(st.integers(0, 20), max_size=5),
    st.integers(1, 60),
)
def test_no_good_record_is_lost_and_none_comes_twice(sources, secret, count):
    benchmarks = ContaminationFilter(0)
    for number in secret:
        benchmarks.add(record(number, "test"), None)
    streams = [Stream(str(place), place + 1.0, map(item, numbers)) for place, numbers in enumerate(sources)]
    kept = [int(r.id[1:]) for r in mix(streams, count, DedupIndex(0), benchmarks)]
    good = {number for numbers in sources for number in numbers if number >= 0} - secret
    assert len(set(kept)) == len(kept) <= count
    assert set(kept) <= good
    assert all(stream.adds_up for stream in streams)
    if len(kept) < count:
        assert set(kept) == good
        assert all(stream.is_dry for stream in streams)


@given(st.lists(HASHES, max_size=40), HASHES, st.integers(1, 12), st.data())
def test_bands_find_what_comparing_all_would_find(known, other, distance, data):
    flips = data.draw(st.sets(st.integers(0, BITS - 1), max_size=distance + 3))
    value = (known[0] if known else other) ^ sum(1 << bit for bit in flips)
    index = HammingIndex(distance)
    for number, one in enumerate(known):
        index.add(one, b"%02d" % number)
    distances = [((value ^ one).bit_count(), b"%02d" % n) for n, one in enumerate(known)]
    expected = min((found for found in distances if found[0] <= distance), default=None)
    assert index.find(value) == expected


@given(st.binary(), st.lists(st.sampled_from(sorted(SPLIT_SHARES)), min_size=1, unique=True))
def test_a_file_has_one_home_whatever_the_order_of_splits(data, splits):
    key = hashlib.sha256(data).hexdigest()
    assert assign_split(key, splits) == assign_split(key, splits[::-1])
    assert assign_split(key, splits) in splits


@given(st.lists(st.tuples(st.floats(0.1, 10), st.none() | st.integers(1, 500)), min_size=1, max_size=6))
def test_a_plan_takes_all_that_is_asked_or_all_that_there_is(sources):
    corpus = CorpusParams(align=1000, instruct=1, val=1, epochs=1, shard_size=1, max_pixels=1, near_duplicate=0)
    given_sources = [
        SourceParams(reader="x", weight=weight, licence="CC0", splits=("align",), images=images)
        for weight, images in sources
    ]
    taken = [one.taken["align"] for one in plan(given_sources, corpus)]
    limits = [images for _, images in sources]
    assert all(limit is None or count <= limit for count, limit in zip(taken, limits, strict=True))
    there = 1000 if None in limits else min(1000, sum(limit or 0 for limit in limits))
    assert abs(sum(taken) - there) <= len(sources)


@settings(max_examples=40)
@pytest.mark.parametrize(
    "case",
    [
        (chartqa, {"split": "test"}, "ChartQA/ChartQA Dataset/test/test_human.json", (), "png"),
        (docvqa, {"split": "val"}, "DocVQA/val/val_v1.0.json", ("data",), "documents"),
        (
            infographicvqa,
            {"split": "val"},
            "InfographicVQA/infographicsVQA_val_v1.0_withQT.json",
            ("data",),
            "infographicsvqa_images",
        ),
        (ocrbench, {}, "OCRBench/OCRBench.json", (), "OCRBench_Images"),
        (funsd, {"split": "train"}, "FUNSD/dataset/training_data/annotations/a.json", ("form",), "../images"),
    ],
)
@given(rows=ROWS, mangled=st.binary(max_size=4))
def test_no_annotation_stops_a_reader(case, rows, mangled):
    reader, options, file, keys, folder = case
    value = rows
    for key in keys:
        value = {key: value}
    with tempfile.TemporaryDirectory() as raw:
        path = Path(raw, file)
        write_json(path, value)
        (path.parent / folder).resolve().mkdir(exist_ok=True)
        for _ in range(2):
            items = list(reader.read(request(Path(raw)), **options))
            assert all(isinstance(found, FileRecord | Quarantined) for found in items)
            path.write_bytes(mangled + path.read_bytes())


@settings(max_examples=40)
@given(ROWS)
def test_no_line_stops_a_reader_of_lines(rows):
    with tempfile.TemporaryDirectory() as raw:
        Path(raw, "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        found = internvl_jsonl.read(request(Path(raw)), file="a.jsonl", source="x")
        assert all(isinstance(one, FileRecord | Quarantined) for one in found)
