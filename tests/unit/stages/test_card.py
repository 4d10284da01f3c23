"""The card's measurements, on an untrained teacher: the numbers are bad, the table is whole."""

import re
from dataclasses import replace

from fcotvl.core import config as params
from fcotvl.stages import card
from fcotvl.toy.teacher.recipe import SMOKE, save_teacher, train_teacher

NOTHING = replace(SMOKE, vision_steps=0, text_steps=0, joint_steps=0)


def test_the_card_has_a_row_for_every_family_and_exam(tmp_path):
    teacher, table = tmp_path / "teacher", tmp_path / "card.md"
    save_teacher(*train_teacher(NOTHING, seed=0, scratch=tmp_path / "scratch"), teacher)
    card.run(params.load(scale="tiny"), teacher=teacher, card=table, pictures="2")
    lines = table.read_text().splitlines()[2:]
    assert len(lines) == 3 * len(card.exams(2))
    assert all(re.search(r"\| \d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\] \|", line) for line in lines)


def test_controls_use_fewer_pictures_and_cover_every_ratio():
    exams = card.exams(1000)
    assert [exam.ratio for exam in exams if exam.ratio] == [0.25, 0.5, 0.75, 0.875]
    assert sum(exam.blind for exam in exams) == 1
    assert {exam.pictures for exam in exams} == {1000, 250}
