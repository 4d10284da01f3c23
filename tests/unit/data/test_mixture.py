"""Sources are mixed by weight, and every record that was read is accounted for."""

from itertools import count

import pytest

from fcotvl.data.drafts import Opened, Quarantined
from fcotvl.data.duplicates import Benchmarks, Seen
from fcotvl.data.mixture import Stream, examine, mix
from tests.support.datasets import record


def stream(name, weight, seeds, *extra):
    items = (Opened(record(seed), None, f"{seed}.png") for seed in seeds)
    return Stream(name, weight, iter([*extra, *items]) if extra else items)


def mixed(streams, total, benchmarks=None):
    return [r.id for r in mix(streams, total, Seen(0), benchmarks or Benchmarks(0))]


def test_shares_follow_the_weights():
    a, b = stream("a", 3.0, count(0)), stream("b", 1.0, count(1000))
    mixed([a, b], 40)
    assert (a.kept, b.kept) == (30, 10)


def test_every_beginning_is_mixed_too():
    a, b = stream("a", 1.0, count(0)), stream("b", 1.0, count(1000))
    ids = mixed([a, b], 10)
    assert sum(int(i[1:]) >= 1000 for i in ids[:4]) == 2


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


def test_every_record_is_accounted_for():
    benchmarks = Benchmarks(0)
    benchmarks.add(record(3), None)
    a = stream("a", 1.0, [1, 1, 2, 3, 4], Quarantined("x.png", "test", "damaged"))
    mixed([a], 20, benchmarks)
    assert (a.read, a.kept, len(a.duplicates), len(a.contaminated)) == (6, 3, 1, 1)
    assert a.quarantined == [Quarantined("x.png", "test", "damaged")]
    assert a.is_accounted
    a.kept -= 1
    assert not a.is_accounted


def test_a_benchmark_keeps_its_duplicates_and_counts_questions():
    items = [record(1, "Who?", "When?"), record(1, "Who?", "When?"), record(2)]
    a = Stream("a", 1.0, (Opened(r, None, "f") for r in items))
    benchmarks = Benchmarks(0)
    records = list(examine(a, 3, benchmarks))
    assert [len(r.turns) for r in records] == [2, 1]
    assert benchmarks.find(record(1), None, "f") is not None
    assert benchmarks.find(record(2), None, "f") is None


@pytest.mark.parametrize("asked", [1, 5, 50])
def test_a_benchmark_has_at_most_what_is_asked(asked):
    benchmarks = Benchmarks(0)
    records = list(examine(stream("a", 1.0, range(20)), asked, benchmarks))
    assert sum(len(r.turns) for r in records) == min(asked, 20)
