"""Properties of intervals for any scores."""

from hypothesis import given
from hypothesis import strategies as st

from fcotvl.core.bootstrap import Bootstrap, Questions, difference_interval, mean_interval

QUICK = Bootstrap(resamples=50)
tables = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 5), st.sampled_from("ab")), min_size=1, max_size=20
)


@given(tables)
def test_an_interval_stays_within_the_scores(table):
    scores, _, images, strata = zip(*table, strict=True)
    found = mean_interval(scores, Questions(images, strata), QUICK)
    assert min(scores) - 1e-9 <= found.low <= found.high <= max(scores) + 1e-9


@given(tables)
def test_swapping_the_systems_changes_the_sign_of_a_difference(table):
    scores, baseline, images, _ = zip(*table, strict=True)
    found = difference_interval(scores, baseline, Questions(images), QUICK)
    back = difference_interval(baseline, scores, Questions(images), QUICK)
    assert abs(found.value + back.value) < 1e-9
    assert abs(found.low + back.high) < 1e-9
