"""Replies do not depend on the drafts they are given; right drafts save passes through the LLM."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.inference.decoding import Decoder
from fcotvl.inference.drafts import MOST, follow, usual_length
from fcotvl.inference.generate import generate
from fcotvl.inference.pruned_decoding import PrunedDecoder
from fcotvl.inference.pruning.fastv import FastV
from tests.support import models
from tests.unit.inference.test_generate import queries

NEW = 24
LETTERS = st.text("abc D9<|im_end|>", max_size=2 * NEW)
EDITS = st.lists(st.tuples(st.integers(0, NEW), st.integers(0, 2)), max_size=4)


@pytest.fixture(scope="module")
def student():
    return make_student(models.teacher(), compressor="cnn", ratio=0.5, positions="spread")


@pytest.fixture(scope="module")
def plain(student):
    return ask(student)


def ask(model, **kwargs):
    return generate(model, processor_for(models.processor(), model.config), queries(), max_new_tokens=NEW, **kwargs)


@pytest.fixture
def passes(monkeypatch):
    """Names of the passes through the LLM behind the prompts."""
    seen = []
    for name in ("step", "propose"):
        kept = getattr(Decoder, name)

        def run(self, *args, name=name, kept=kept):
            seen.append(name)
            return kept(self, *args)

        monkeypatch.setattr(Decoder, name, run)
    return seen


def edited(reply, edits):
    """``reply`` with characters replaced, dropped or put in."""
    for place, kind in edits:
        at = place % (len(reply) + 1)
        reply = reply[:at] + ("", "a", "ab")[kind] + reply[at + (kind < 2) :]
    return reply


@settings(max_examples=25, deadline=None)
@given(
    changes=st.lists(LETTERS | EDITS, min_size=8, max_size=8),
    batch_size=st.sampled_from([1, 3, 8]),
    least=st.sampled_from([0, 1, 5]),
)
def test_replies_are_those_without_drafts(student, plain, changes, batch_size, least):
    guesses = zip(plain, changes, strict=True)
    drafts = [change if isinstance(change, str) else edited(reply, change) for reply, change in guesses]
    assert ask(student, drafts=drafts, batch_size=batch_size, min_new_tokens=least) == plain


def test_right_drafts_save_passes(student, plain, passes):
    drafts = [reply if len(reply) == NEW else "" for reply in plain]  # where no white space was cut off
    asked = [query for query, draft in zip(queries(), drafts, strict=True) if draft]
    replies = list(filter(None, drafts))
    processor = processor_for(models.processor(), student.config)
    assert generate(student, processor, asked, max_new_tokens=NEW, drafts=replies) == replies
    assert passes == ["propose"] * -(-(NEW - 1) // (MOST + 1))
    passes.clear()
    wrong = [reply[:7] + "#" + reply[8:] for reply in replies]
    assert generate(student, processor, asked, max_new_tokens=NEW, drafts=wrong) == replies
    assert len(passes) < NEW // 3
    passes.clear()
    assert generate(student, processor, asked, max_new_tokens=NEW) == replies
    assert passes == ["step"] * (NEW - 1)


def test_pruning_within_the_llm_makes_no_use_of_drafts(passes):
    teacher = models.teacher()
    replies = ask(teacher, pruning=FastV(0.5))
    steps = len(passes)
    assert ask(teacher, pruning=FastV(0.5), drafts=replies) == replies
    assert passes == ["step"] * (2 * steps)
    assert PrunedDecoder.step is Decoder.step


def test_a_draft_goes_on_where_the_reply_is():
    draft = [1, 2, 3, 4, 5, 6]
    assert follow(draft, [1, 2]) == [3, 4, 5, 6]
    assert follow(draft, [9, 2]) == [3, 4, 5, 6]  # a token was replaced
    assert follow(draft, [9, 1, 2]) == [3, 4, 5, 6]  # put in
    assert follow(draft, [2, 3]) == [4, 5, 6]  # left out
    assert follow(draft, [9]) == follow(draft, [1, 9]) == follow([], [1]) == ()
    assert follow(draft, [1, 2, 3, 4, 5, 6]) == []


def test_as_many_tokens_are_checked_as_half_of_the_drafts_have():
    assert usual_length([[1] * n for n in (0, 2, 5)]) == 2
    assert usual_length([[1] * n for n in (0, 0, 5)]) == 0
    assert usual_length([[1] * 99, [1] * 99]) == MOST
