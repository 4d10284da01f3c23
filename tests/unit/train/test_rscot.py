import pytest

from fcotvl.core.errors import DataError
from fcotvl.core.records import Turn
from fcotvl.train.dataset import Corpus
from fcotvl.train.rscot import (
    Question,
    acceptance,
    choose_questions,
    is_rationale,
    read_rationales,
    select,
    write_rationales,
)
from tests.support import corpora

QUESTION = Question((0, 0), "r1", "noise/a", Turn("q1", "How many?", ("12",), "reason"))


def found(*replies, cap=2):
    return select(QUESTION, replies, cap=cap, similar=0.9)


def test_what_ends_in_the_right_answer_is_kept():
    sampled = found("5 + 7\nAnswer: 12", "5 + 6\nAnswer: 11")
    assert sampled.rationales == ["5 + 7\nAnswer: 12"]
    assert (sampled.n_samples, sampled.n_correct) == (2, 1)


def test_texts_that_differ_in_case_and_spaces_are_one():
    sampled = found("Five and seven\nAnswer: 12", "five  and seven\nanswer: 12\nAnswer: 12")
    assert len(sampled.rationales) == 2
    same = found("Five and seven\nAnswer: 12", "five  AND seven\nAnswer:  12")
    assert same.rationales == ["Five and seven\nAnswer: 12"]
    assert same.n_correct == 2


def test_the_first_distinct_ones_are_kept_up_to_the_cap():
    replies = [f"way {i}\nAnswer: 12" for i in range(5)]
    assert found(*replies, cap=2).rationales == replies[:2]
    assert found(*replies, cap=2).n_correct == 5


@pytest.mark.parametrize("text", ["12", "Answer: 12", "  \nAnswer: 12", "5 + 7 = 12"])
def test_a_bare_or_unmarked_answer_is_no_rationale(text):
    assert not is_rationale(text, ["12"], 0.9)


def test_questions_are_balanced_over_sources_and_the_same_each_time(tmp_path):
    corpus = Corpus(corpora.write(tmp_path) / "instruct")
    chosen = choose_questions(corpus, 10, seed=0)
    assert [question.source for question in chosen] == ["noise/a", "noise/b"] * 5
    assert {question.turn.kind for question in chosen} <= {"extractive", "reason"}
    assert choose_questions(corpus, 10, seed=0) == chosen
    assert choose_questions(corpus, 10, seed=1) != chosen
    assert choose_questions(corpus, 4, seed=0) == chosen[:4]
    assert len(choose_questions(corpus, 999, seed=0)) == 24


def test_rationales_come_back_by_question(tmp_path):
    path = tmp_path / "rationales.parquet"
    texts = ["5 + 7\nAnswer: 12", "7 + 5\nAnswer: 12"]
    write_rationales(path, [found(*texts), found("no")])
    assert read_rationales(path) == {"q1": texts}


def test_a_table_without_rationales_is_readable(tmp_path):
    path = tmp_path / "rationales.parquet"
    write_rationales(path, [found("no")])
    assert read_rationales(path) == {}


def test_a_damaged_table_is_named(tmp_path):
    path = tmp_path / "rationales.parquet"
    path.write_bytes(b"half")
    with pytest.raises(DataError, match=r"rationales\.parquet is not readable"):
        read_rationales(path)


def test_acceptance_counts_easy_and_hard_questions():
    right, wrong = "5 + 7\nAnswer: 12", "5\nAnswer: 5"
    table = acceptance([found(right, right), found(right, wrong), found(wrong, wrong)])
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
