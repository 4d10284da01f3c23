"""Where a chain of thought leaves the teacher's."""

import numpy as np
import pytest

from fcotvl.report.study.chains import slip, slips

SUM = "Riga $75, Cork $26. $75 + $26 = $101\nAnswer: $101"


@pytest.mark.parametrize(
    ("chain", "teachers", "expected"),
    [
        ("Riga $57, Cork $26. $57 + $26 = $83\nAnswer: $83", SUM, "read"),
        ("Riga $75, Cork $26. $75 + $26 = $91\nAnswer: $91", SUM, "calculated"),
        ("Cork $26, Riga $75. $26 + $75 = $91\nAnswer: $91", SUM, "calculated"),  # in another order
        ("Riga $75, Cork $26. $75 + $26 = $101\nAnswer: $110", SUM, "concluded"),  # the answer is not its own
        ("Riga $75, Cork $26. The smaller is Cork\nAnswer: Cork", SUM, "calculated"),  # another calculation: none
        ("Riga $75. The count is 2\nAnswer: 2", "Riga $75. The count is 1\nAnswer: 1", "concluded"),
        ("Iron 74\nAnswer: 74", "Iron 47\nAnswer: 47", "read"),  # the answer is written in the picture
        ("Iron 4.7\nAnswer: 4.7", "Iron 4.7\nAnswer: 4.8", "concluded"),
        ("Riga $75, Cork $26, Cork $26, Cork $26", SUM, "read"),  # cut off
        ("Riga $75, Cork $26. $75 + $26 =", SUM, "calculated"),
        ("", SUM, "read"),
        (SUM.upper(), SUM, "read"),
    ],
)
def test_what_goes_wrong_first_counts(chain, teachers, expected):
    assert slip(chain, teachers) == expected


def test_chains_that_are_not_wrong_have_no_slip():
    found = slips([SUM, "x", SUM], [SUM, SUM, "x"], np.array([False, True, True]))
    assert found.tolist() == ["", "read", "read"]
    assert slips([], [], np.array([], dtype=bool)).shape == (0,)
