"""What the audit's page reads is checked first, and each fault is one line."""

import json

import pytest

from fcotvl.core.errors import DataError
from fcotvl.report.inputs import PageAudit, read_json

COUNTS = {"read": 1, "kept": 1, "duplicates": 0, "contaminated": 0, "quarantined": 0, "repeats": 0}
SOURCE = COUNTS | {"share_asked": 1.0, "share_kept": 1, "epochs": 1.0, "ran_dry": False, "absent": None}
TILES = {"mean": 1.5, "median": 1, "p95": 2, "max": 2, "total": 3}
SPLIT = {
    **{f"by_{name}": {"x": 1} for name in ("source", "licence", "kind", "answer", "longer_side")},
    "tiles": TILES,
    "answer_characters": {},
    "visual_tokens": {"0.5": TILES},
    "cut": {"rendered/a": {"images": 1, "tokens": 9}},
    "sources": {"rendered": SOURCE},
}
DROPPED = {"split": "align", "as": "quarantined", "file": "a.png", "reason": "damaged"}
AUDIT = {"corpus": {"align": SPLIT}, "benchmarks": {"docvqa": SPLIT}, "dropped": [DROPPED]}


def read(path, value):
    path.write_text(json.dumps(value))
    return read_json(path, PageAudit, "curate", "an audit")


def test_an_audit_comes_back_with_its_numbers_as_they_were(tmp_path):
    found = read(tmp_path / "audit.json", AUDIT | {"data_seed": 0})
    assert json.dumps(found["corpus"], sort_keys=True) == json.dumps(AUDIT["corpus"], sort_keys=True)
    assert found["dropped"][0].items() >= DROPPED.items()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"corpus": None}, "corpus: "),
        ({"corpus": {"align": SPLIT | {"tiles": {"mean": 1.5}}}}, r"corpus\.align\.tiles\."),
        ({"benchmarks": {"x": SPLIT | {"sources": {"y": SOURCE | {"kept": "1"}}}}}, r"benchmarks\.x\.sources\.y\.kept"),
        ({"dropped": [DROPPED | {"reason": None}]}, r"dropped\.0: .*neither a reason"),
    ],
)
def test_a_fault_is_named_by_its_place(tmp_path, change, where):
    with pytest.raises(DataError, match=rf"is not an audit \({where}.*\); run curate again") as caught:
        read(tmp_path / "audit.json", AUDIT | change)
    assert "\n" not in str(caught.value)
