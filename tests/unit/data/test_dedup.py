"""The same picture comes in once, and no benchmark picture comes in at all."""

import io
from dataclasses import replace

import imagehash
import pytest
from PIL import Image

from fcotvl.core.records import Record
from fcotvl.data.dedup import BITS, ContaminationFilter, DedupIndex, HammingIndex, Match, perceptual_hash, question_key
from fcotvl.toy.render import render
from tests.support.datasets import encoded, picture, record


def test_the_hash_is_that_of_imagehash():
    value = perceptual_hash(picture(1))
    assert value.bit_length() <= BITS
    assert f"{value:064x}" == str(imagehash.phash(picture(1), hash_size=16))


def test_a_recompressed_picture_is_near_and_another_is_far():
    chart, other = (render("chart", "train", index, 0).image for index in (0, 1))
    one = perceptual_hash(chart)
    with Image.open(io.BytesIO(encoded(chart, "JPEG", quality=40))) as worse:
        assert (one ^ perceptual_hash(worse)).bit_count() <= 10
    assert (one ^ perceptual_hash(other)).bit_count() > 60


@pytest.mark.parametrize("distance", [1, 4, 10])
def test_the_hamming_index_finds_up_to_its_distance_and_no_further(distance):
    index = HammingIndex(distance)
    index.add(0, b"zero")
    spread = sum(1 << bit * (BITS // (distance + 1)) for bit in range(distance))
    assert index.find(spread) == (distance, b"zero")
    assert index.find(spread | 1 << BITS - 1) is None


def test_the_hamming_index_prefers_the_nearest():
    index = HammingIndex(4)
    index.add(0b111, b"three off")
    index.add(0b1, b"one off")
    assert index.find(0) == (1, b"one off")


def test_equal_pixels_come_in_once():
    seen = DedupIndex(0)
    assert seen.admit(record(1), None, "a.png") == record(1)
    assert seen.admit(record(1, name="copy"), None, "b.png") == Match("copy", "b.png", "r1", 0)


def test_equal_pixels_may_bring_new_questions_within_a_split():
    seen = DedupIndex(0)
    seen.admit(record(1, "Who?"), None, "a.png")
    admitted = seen.admit(record(1, "who", "When?"), None, "a.png")
    assert isinstance(admitted, Record)
    assert [turn.question for turn in admitted.turns] == ["When?"]


def test_a_repeated_question_about_one_picture_stays_once():
    admitted = DedupIndex(0).admit(record(1, "Who?", "Who ?"), None, "a.png")
    assert isinstance(admitted, Record)
    assert len(admitted.turns) == 1


def test_equal_pixels_never_cross_splits_not_even_with_new_questions():
    seen = DedupIndex(0)
    seen.admit(record(1, "Who?", split="val"), None, "a.png")
    assert isinstance(seen.admit(record(1, "When?"), None, "b.png"), Match)


def test_near_pictures_go_only_where_a_distance_is_set():
    for distance, goes in ((0, False), (4, True)):
        seen = DedupIndex(distance)
        seen.admit(record(1), 0, "a.png")
        assert isinstance(seen.admit(record(2), 0b1111, "b.png"), Match) == goes


def test_the_hit_names_what_stays():
    seen = DedupIndex(4)
    seen.admit(record(1), 0, "a.png")
    assert seen.admit(record(2), 0b11, "b.png") == Match("r2", "b.png", "r1", 2)


def test_a_benchmark_picture_is_contamination():
    benchmarks = ContaminationFilter(0)
    benchmarks.add(record(1, name="secret"), None)
    assert benchmarks.find(record(1), None, "a.png") == Match("r1", "a.png", "secret", 0)
    assert benchmarks.find(record(2), None, "b.png") is None


def test_further_off_the_question_decides():
    benchmarks = ContaminationFilter(4)
    benchmarks.add(record(1, "Who is the owner?", name="secret"), 0)
    near, wide, far = 0b1111, (1 << 12) - 1, (1 << 13) - 1
    assert benchmarks.find(record(2), near, "b.png") is not None
    assert benchmarks.find(record(2), wide, "b.png") is None
    assert benchmarks.find(record(2, "who is the owner"), wide, "b.png") is not None
    assert benchmarks.find(record(2, "who is the owner"), far, "b.png") is None


def test_hashes_added_later_are_found():
    benchmarks = ContaminationFilter(4)
    for seed in (1, 2):
        benchmarks.add(record(seed), 0 if seed == 1 else (1 << BITS) - 1)
        assert benchmarks.find(record(3), (1 << BITS) - 1, "c.png") is None or seed == 2
    hit = benchmarks.find(record(3), (1 << BITS) - 2, "c.png")
    assert hit == Match("r3", "c.png", "r2", 1)


def test_a_question_is_the_same_in_other_case_and_space():
    assert question_key("  What is\tTHIS ?") == question_key("what is this")
    assert question_key("这是什么？") == question_key("这是什么")  # noqa: RUF001 - full-width mark
    assert question_key("what is that") != question_key("what is this")


def test_a_trimmed_record_keeps_everything_else():
    seen = DedupIndex(0)
    seen.admit(record(1, "Who?"), None, "a.png")
    whole = record(1, "Who?", "When?", name="other")
    assert seen.admit(whole, None, "a.png") == replace(whole, turns=whole.turns[1:])
