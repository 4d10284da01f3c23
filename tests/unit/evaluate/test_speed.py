"""Every training-free system can be timed beside the teacher, on prompts as long as its own."""

from __future__ import annotations

import pytest

from fcotvl.evaluate.speed import PARTS, measure_speed
from fcotvl.inference import pruning
from fcotvl.inference.pruned_decoding import Pruning, System
from tests.support import corpora, models


@pytest.mark.parametrize("name", pruning.available())
def test_a_training_free_system_is_timed_on_its_own_prompts(name):
    teacher = models.teacher()
    system = pruning.build(name, teacher, ratio=0.75, layer=2)
    systems = {"teacher": System(teacher), name: system}
    records = [corpora.record(number, wide=number == 1) for number in range(3)]
    table = measure_speed(systems, models.processor(), records, lambda record: record.id, max_tiles=4, pairs=1)
    assert table["part"].tolist() == list(PARTS)
    assert (table["low"] > 0).all()
    within = isinstance(system.pruning, Pruning)  # then prompts are the teacher's
    assert table["removed"].tolist() == [0.0 if within else 1 - system.tokens / 16] * len(PARTS)
