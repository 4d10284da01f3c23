"""Sources are mixed by weight, and every record that was read is accounted for."""

from itertools import count

import pytest

from fcotvl.core.errors import DataError
from fcotvl.data.decoding import Decoded
from fcotvl.data.dedup import ContaminationFilter, DedupIndex
from fcotvl.data.lazy_records import Quarantined
from fcotvl.data.mixing import Stream, mix, take_benchmark
from tests.support.datasets import record


def stream(name, weight, seeds, *extra):
    items = (Decoded(record(seed), None, f"{seed}.png") for seed in seeds)
    return Stream(name, weight, iter([*extra, *items]) if extra else items)


def mixed(streams, total, benchmarks=None):
    return [r.id for r in mix(streams, total, DedupIndex(0), benchmarks or ContaminationFilter(0))]


def test_shares_follow_the_weights():
    a, b = stream("a", 3.0, count(0)), stream("b", 1.0, count(1000))
    mixed([a, b], 40)
    assert (a.kept, b.kept) == (30, 10)


def test_equal_sources_come_in_turn_like_one_source_that_alternates():
    seeds = [[3 * number + place for number in range(5)] for place in range(3)]
    three = [stream(str(place), 1.0, seeds[place]) for place in range(3)]
    assert mixed(three, 15) == mixed([stream("all", 1.0, range(15))], 15)


def test_every_beginning_is_mixed_too():
    a, b = stream("a", 1.0, count(0)), stream("b", 1.0, count(1000))
    ids = mixed([a, b], 10)
    assert sum(int(i[1:]) >= 1000 for i in ids[:4]) == 2


def repeated(name, weight, seeds, epochs):
    items = [Decoded(record(seed), None, f"{seed}.png") for seed in seeds]
    return Stream(name, weight, iter(items), restart=lambda: iter(items), epochs=epochs)


def test_a_dry_source_is_repeated_to_its_share():
    a, b = stream("a", 1.0, count(0)), repeated("b", 1.0, range(1000, 1004), epochs=4)
    ids = mixed([a, b], 20)
    assert (a.contributed, b.kept, b.repeats, b.is_dry, b.is_exhausted) == (10, 4, 6, True, False)
    again = [f"r{seed}#2" for seed in range(1000, 1004)] + ["r1000#3", "r1001#3"]
    assert [i for i in ids if "#" in i] == again


def test_a_source_is_not_repeated_beyond_its_epochs():
    a, b = stream("a", 1.0, count(0)), repeated("b", 1.0, range(1000, 1004), epochs=2)
    assert len(mixed([a, b], 40)) == 40
    assert (a.contributed, b.contributed, b.is_exhausted) == (32, 8, True)


def test_what_was_dropped_is_not_repeated():
    benchmarks = ContaminationFilter(0)
    benchmarks.add(record(3), None)
    more = record(1, "Who?", "When?", name="more")
    items = [
        Quarantined("x.png", "test", "damaged"),
        *(Decoded(r, None, "f") for r in (record(1, "Who?"), more, record(3))),
    ]
    a = Stream("a", 1.0, iter(items), restart=lambda: iter(items), epochs=3)
    records = list(mix([a], 20, DedupIndex(0), benchmarks))
    assert [[turn.question for turn in r.turns] for r in records] == [["Who?"], ["When?"]] * 3
    assert (a.read, a.kept, a.repeats) == (4, 2, 4)
    assert a.adds_up
    assert len({turn.id for r in records for turn in r.turns}) == 2 * 3


def test_a_source_that_changed_is_not_repeated():
    changed = [Decoded(record(seed), None, f"{seed}.png") for seed in (1, 9)]
    a = stream("a", 1.0, (1, 2))
    a.restart, a.epochs = lambda: iter(changed), 2
    with pytest.raises(DataError, match=r"a changed while it was read \(9.png\); run curate again"):
        mixed([a], 9)


def test_a_dry_source_leaves_its_share_to_the_others():
    a, b = stream("a", 1.0, count(0)), stream("b", 1.0, range(1000, 1003))
    assert len(mixed([a, b], 20)) == 20
    assert (a.kept, b.kept, a.is_dry, b.is_dry) == (17, 3, False, True)


def test_all_dry_means_fewer_and_no_repeats():
    ids = mixed([stream("a", 1.0, range(3)), stream("b", 1.0, range(2, 5))], 20)
    assert sorted(ids) == ["r0", "r1", "r2", "r3", "r4"]


def test_nothing_is_read_beyond_the_need():
    a = stream("a", 1.0, count(0))
    mixed([a], 5)
    assert a.read == 5


def test_every_record_adds_up_for():
    benchmarks = ContaminationFilter(0)
    benchmarks.add(record(3), None)
    a = stream("a", 1.0, [1, 1, 2, 3, 4], Quarantined("x.png", "test", "damaged"))
    mixed([a], 20, benchmarks)
    assert (a.read, a.kept, len(a.duplicates), len(a.contaminated)) == (6, 3, 1, 1)
    assert a.quarantined == [Quarantined("x.png", "test", "damaged")]
    assert a.adds_up
    a.kept -= 1
    assert not a.adds_up


def test_a_benchmark_keeps_its_duplicates_and_counts_questions():
    items = [record(1, "Who?", "When?"), record(1, "Who?", "When?"), record(2)]
    a = Stream("a", 1.0, (Decoded(r, None, "f") for r in items))
    benchmarks = ContaminationFilter(0)
    records = list(take_benchmark(a, 3, benchmarks))
    assert [len(r.turns) for r in records] == [2, 1]
    assert benchmarks.find(record(1), None, "f") is not None
    assert benchmarks.find(record(2), None, "f") is None


@pytest.mark.parametrize("asked", [1, 5, 50])
def test_a_benchmark_has_at_most_what_is_asked(asked):
    benchmarks = ContaminationFilter(0)
    records = list(take_benchmark(stream("a", 1.0, range(20)), asked, benchmarks))
    assert sum(len(r.turns) for r in records) == min(asked, 20)
