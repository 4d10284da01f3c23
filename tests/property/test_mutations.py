"""Some mutated inputs of every kind: each is taken, set aside or refused in one line, and no record is lost."""

import random
import warnings

import pytest

from tests.soak.mutations import CASES

ROUNDS = 12
"""A case; ``make soak`` runs thousands."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", CASES)
def test_no_mutated_input_breaks_the_reader(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    seen = set()
    for seed in range(ROUNDS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged pictures and invalid escapes
            outcome = CASES[name](random.Random(f"{name}{seed}"), folder)
        seen |= {what for what, n in (("taken", outcome.accepted), ("not", outcome.quarantined or outcome.error)) if n}
    assert seen, "no case did anything"
