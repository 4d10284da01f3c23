from collections import Counter
from dataclasses import replace

import pytest

from fcotvl.core.config import RscotParams
from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn, copy_id
from fcotvl.core.shards import write_shards
from fcotvl.train.dataset import Corpus
from fcotvl.train.rscot import (
    Question,
    acceptance_table,
    choose_questions,
    is_rationale,
    keep_correct,
    read_rationales,
    write_rationales,
)
from tests.support import corpora

QUESTION = Question((0, 0), "r1", "noise/a", Turn("q1", "How many?", ("12",), "reason"))


def result_of(*replies, max_per_question=2):
    params = RscotParams(temperature=1, top_k=50, max_per_question=max_per_question, min_similarity=0.9)
    return keep_correct(QUESTION, replies, params)


def accepted(*replies, max_per_question=2):
    return result_of(*replies, max_per_question=max_per_question).rationales["accepted"]


def test_what_ends_in_the_right_answer_is_kept():
    result = result_of("5 + 7\nAnswer: 12", "5 + 6\nAnswer: 11")
    assert result.rationales["accepted"] == ["5 + 7\nAnswer: 12"]
    assert (result.n_samples, result.n_correct) == (2, 1)


def test_texts_that_differ_in_case_and_spaces_are_one():
    assert len(accepted("Five and seven\nAnswer: 12", "five  and seven\nanswer: 12\nAnswer: 12")) == 2
    same = result_of("Five and seven\nAnswer: 12", "five  AND seven\nAnswer:  12")
    assert same.rationales["accepted"] == ["Five and seven\nAnswer: 12"]
    assert same.n_correct == 2


def test_the_first_distinct_ones_are_kept_up_to_the_cap():
    replies = [f"way {i}\nAnswer: 12" for i in range(5)]
    assert accepted(*replies, max_per_question=2) == replies[:2]
    assert result_of(*replies, max_per_question=2).n_correct == 5


@pytest.mark.parametrize("text", ["12", "Answer: 12", "  \nAnswer: 12", "5 + 7 = 12"])
def test_a_bare_or_unmarked_answer_is_no_rationale(text):
    assert not is_rationale(text, ["12"], 0.9)


def test_samples_that_were_not_checked_are_the_first_that_reason():
    replies = ["12", "5 + 6\nAnswer: 11", "5 + 7\nAnswer: 12", "7 + 5\nAnswer: 12"]
    assert result_of(*replies).rationales == {"accepted": replies[2:], "all": replies[1:3]}


def test_questions_are_balanced_over_sources_and_the_same_each_time(tmp_path):
    corpus = Corpus(corpora.write(tmp_path) / "instruct")
    chosen = choose_questions(corpus, 10, seed=0)
    assert Counter(question.source for question in chosen) == {"noise/a": 5, "noise/b": 5}
    assert [question.ref for question in chosen] == sorted(question.ref for question in chosen)
    assert {question.turn.kind for question in chosen} <= {"extractive", "reason"}
    assert choose_questions(corpus, 10, seed=0) == chosen
    assert choose_questions(corpus, 10, seed=1) != chosen
    fewer = choose_questions(corpus, 4, seed=0)
    assert len(fewer) == 4
    assert [question for question in chosen if question in fewer] == fewer
    assert len(choose_questions(corpus, 999, seed=0)) == 24


def test_of_a_picture_that_is_repeated_the_first_copy_is_asked(tmp_path):
    first = [corpora.record(number, "instruct") for number in range(3)]
    copies = [
        replace(one, id=copy_id(one.id, epoch), turns=tuple(replace(t, id=copy_id(t.id, epoch)) for t in one.turns))
        for epoch in (2, 3)
        for one in first
    ]
    write_shards(tmp_path / "instruct", [*first, *copies], shard_size=5)
    chosen = choose_questions(Corpus(tmp_path / "instruct"), 100, seed=0)
    asked = [turn.id for one in first for turn in one.turns if turn.kind != "transcribe"]
    assert sorted(question.turn.id for question in chosen) == sorted(asked)


def test_rationales_come_back_by_question(tmp_path):
    path = tmp_path / "rationales.parquet"
    texts = ["5 + 7\nAnswer: 12", "7 + 5\nAnswer: 12"]
    write_rationales(path, [result_of(*texts), result_of("no")])
    assert read_rationales(path) == {"q1": texts}
    write_rationales(path, [result_of("no\nAnswer: 1", *texts)])
    assert read_rationales(path, "all") == {"q1": ["no\nAnswer: 1", texts[0]]}


def test_a_table_without_rationales_is_readable(tmp_path):
    path = tmp_path / "rationales.parquet"
    write_rationales(path, [result_of("no")])
    assert read_rationales(path) == {}


def test_a_damaged_table_is_named(tmp_path):
    path = tmp_path / "rationales.parquet"
    path.write_bytes(b"half")
    with pytest.raises(DataError, match=r"rationales\.parquet is not readable"):
        read_rationales(path)


def test_acceptance_counts_easy_and_hard_questions():
    right, wrong = "5 + 7\nAnswer: 12", "5\nAnswer: 5"
    table = acceptance_table([result_of(right, right), result_of(right, wrong), result_of(wrong, wrong)])
    assert table.to_dict("records") == [
        {
            "source": "noise/a",
            "kind": "reason",
            "questions": 3,
            "samples": 6,
            "accepted": 3,
            "kept": 2,
            "all_right": 1,
            "all_wrong": 1,
            "acceptance": 0.5,
        }
    ]
