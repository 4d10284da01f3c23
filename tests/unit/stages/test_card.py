"""The card of an untrained teacher: scores are bad, but the table is complete."""

import re

import pytest

from fcotvl.core import config as params
from fcotvl.core.config import TeacherBudget
from fcotvl.core.errors import ParamsError
from fcotvl.stages import card
from fcotvl.toy.teacher.recipe import save_teacher, train_teacher

UNTRAINED = TeacherBudget(vision_steps=0, text_steps=0, joint_steps=0, sample_pictures=40)


def test_the_card_has_a_row_for_every_family_and_setting(tmp_path):
    teacher, table = tmp_path / "teacher", tmp_path / "card.md"
    save_teacher(*train_teacher(UNTRAINED, seed=0, scratch=tmp_path / "scratch"), teacher)
    card.run(params.load(scale="tiny"), teacher=teacher, card=table, pictures=2)
    lines = table.read_text().splitlines()[2:]
    assert len(lines) == 3 * len(card.settings(2))
    assert all(re.search(r"\| \d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\] \|", line) for line in lines)


def test_controls_use_fewer_pictures_and_cover_every_ratio():
    settings = card.settings(1000)
    assert [setting.ratio for setting in settings if setting.ratio] == [0.25, 0.5, 0.75, 0.875]
    assert sum(setting.blind for setting in settings) == 1
    assert {setting.pictures for setting in settings} == {1000, 250}


def test_a_card_of_one_picture_is_one_line(tmp_path):
    with pytest.raises(ParamsError, match="--pictures is 1; expected 2 or more"):
        card.run(params.load(scale="tiny"), teacher=tmp_path, card=tmp_path / "card.md", pictures=1)
