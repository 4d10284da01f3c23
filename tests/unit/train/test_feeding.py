"""Batches that workers make ahead are those that the loop would make itself."""

import pytest

from fcotvl.core.errors import DataError
from fcotvl.train.feeding import reader
from tests.unit.train.test_micro_batches import make_task, trained


def test_losses_and_weights_are_the_same_with_workers(tmp_path):
    expected, weights = trained(make_task(tmp_path / "a", "distill"), tmp_path / "none")
    found, others = trained(make_task(tmp_path / "b", "distill"), tmp_path / "two", workers=2)
    assert found == expected
    assert all(weight.equal(others[name]) for name, weight in weights.items())


def batch(items):
    if items == ["bad"]:
        raise DataError("this picture is damaged")
    return len(items)


@pytest.mark.parametrize("workers", [0, 3])
def test_batches_come_in_order_and_plans_may_follow_one_another(workers):
    read = reader(batch, workers)
    for sizes in ([1, 2, 3, 4, 5, 6, 7], [9], [3, 2]):
        assert list(read([["x"] * size for size in sizes])) == sizes


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_worker_cannot_make_is_one_line(workers):
    read = reader(batch, workers)([["x"], ["bad"], ["x"]])
    assert next(read) == 1
    with pytest.raises(DataError, match=r"^this picture is damaged$"):
        next(read)
