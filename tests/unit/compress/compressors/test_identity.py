"""A student without compression is the teacher, bit by bit."""

from __future__ import annotations

import torch

from fcotvl.compress.checkpoints import make_student
from tests.support import models


def test_the_logits_are_the_teachers():
    teacher, processor = models.teacher(), models.processor()
    student = make_student(teacher, compressor="identity", ratio=0.0)
    inputs = processor([models.picture(112, 56)], processor.render("Same?"))
    with torch.no_grad():
        assert torch.equal(student(**inputs).logits, teacher(**inputs).logits)
