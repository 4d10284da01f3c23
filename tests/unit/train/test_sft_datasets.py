from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcotvl.core.errors import DataError
from fcotvl.core.prompts import Prompts
from fcotvl.core.shards import write_shards
from fcotvl.train.dataset import Corpus
from fcotvl.train.sft_datasets import SftDatasets, questions, systematic_sample
from tests.support import corpora

PROMPTS = Prompts(direct="{question} Briefly.", cot="{question} Reason.")
KEPT = {"instruct-0-r": ["a\nAnswer: 0", "b\nAnswer: 0"], "instruct-1-r": ["c\nAnswer: 2"]}


@pytest.fixture
def corpus(tmp_path):
    return Corpus(corpora.write(tmp_path) / "instruct")


def test_the_recipe_sets_the_share_of_rationales(corpus):
    weights = SftDatasets.from_corpus(corpus, KEPT, cot=0.25, seed=0).initial_weights
    assert weights == pytest.approx(
        {"noise/a/cot": 0.125, "noise/a/direct": 0.375, "noise/b/cot": 0.125, "noise/b/direct": 0.375}
    )


def test_without_reasoning_there_are_no_such_data_sets(corpus):
    assert set(SftDatasets.from_corpus(corpus, KEPT, cot=0.0, seed=0).initial_weights) == {
        "noise/a/direct",
        "noise/b/direct",
    }


def test_without_any_rationale_training_goes_on_with_a_warning(corpus, caplog):
    weights = SftDatasets.from_corpus(corpus, {}, cot=0.5, seed=0).initial_weights
    assert weights == pytest.approx({"noise/a/direct": 0.5, "noise/b/direct": 0.5})
    assert "direct answers only" in caplog.text


def test_a_recipe_may_name_its_sources(corpus):
    weights = SftDatasets.from_corpus(corpus, KEPT, cot=0.25, seed=0, sources=["noise/b"]).initial_weights
    assert weights == pytest.approx({"noise/b/cot": 0.25, "noise/b/direct": 0.75})
    with pytest.raises(DataError, match="no picture of corpus/instruct is from noise/c; it has noise/a, noise/b"):
        SftDatasets.from_corpus(corpus, KEPT, cot=0.25, seed=0, sources=["noise/b", "noise/c"])


def test_rationales_alone_are_a_recipe_too(corpus):
    weights = SftDatasets.from_corpus(corpus, KEPT, cot=1.0, seed=0).initial_weights
    assert weights == pytest.approx({"noise/a/cot": 0.5, "noise/b/cot": 0.5})


def test_nothing_to_train_on_is_an_error(tmp_path):
    record = corpora.record(0)
    hidden = [type(t)(t.id, t.question, (), t.kind) for t in record.turns]
    write_shards(tmp_path, [type(record)(**{**vars(record), "turns": tuple(hidden)})], shard_size=5)
    with pytest.raises(DataError, match="no question with an answer"):
        SftDatasets.from_corpus(Corpus(tmp_path), {}, cot=0.0, seed=0)


def test_a_data_set_gives_each_of_its_items_once_an_epoch(corpus):
    datasets = SftDatasets.from_corpus(corpus, KEPT, cot=0.5, seed=0)
    epochs = [[datasets.item("noise/a/direct", 6 * e + i).ref for i in range(6)] for e in range(2)]
    assert [len(set(epoch)) for epoch in epochs] == [6, 6]
    assert epochs[0] != epochs[1]


def test_reasoning_replies_are_the_rationales(corpus):
    datasets = SftDatasets.from_corpus(corpus, KEPT, cot=0.5, seed=0)
    items = [datasets.item("noise/a/cot", number) for number in range(20)]
    chats = [datasets.chats(item, corpus[item.ref].turns, PROMPTS) for item in items]
    assert {chat.reply for asked in chats for chat in asked} == set(KEPT["instruct-0-r"])
    assert {chat.prompt for asked in chats for chat in asked} == {"Twice the value? Reason."}


def test_the_rationales_of_a_picture_are_those_of_its_copies(tmp_path):
    first = [corpora.record(number, "instruct") for number in range(2)]
    copy = replace(first[0], id="instruct-0#2", turns=tuple(replace(t, id=f"{t.id}#2") for t in first[0].turns))
    write_shards(tmp_path / "copied", [*first, copy], shard_size=5)
    corpus = Corpus(tmp_path / "copied")
    datasets = SftDatasets.from_corpus(corpus, KEPT, cot=0.5, seed=0)
    items = [datasets.item("noise/a/cot", number) for number in range(3)]
    assert {corpus[item.ref].id for item in items} == {"instruct-0", "instruct-1", "instruct-0#2"}
    for item in items:
        (chat,) = datasets.chats(item, corpus[item.ref].turns, PROMPTS)
        assert chat.reply in KEPT[f"{corpus[item.ref].id.removesuffix('#2')}-r"]


def test_direct_replies_are_the_answers_and_leave_transcription_out(corpus):
    datasets = SftDatasets.from_corpus(corpus, KEPT, cot=0.5, seed=0)
    item = datasets.item("noise/a/direct", 0)
    chats = datasets.chats(item, corpus[item.ref].turns, PROMPTS)
    assert {chat.prompt for chat in chats} == {"Value? Briefly.", "Twice the value? Briefly."}
    assert {chat.reply for chat in chats} == {answer for turn in corpus[item.ref].turns[1:] for answer in turn.answers}


def test_a_picture_without_questions_is_transcribed():
    turns = corpora.record(0).turns
    assert [turn.kind for turn in questions(turns)] == ["extractive", "reason"]
    assert [turn.kind for turn in questions(turns[:1])] == ["transcribe"]


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.integers(1, 40), st.floats(0, 1, exclude_max=True))
def test_a_batch_is_as_near_to_the_weights_as_whole_numbers_allow(values, count, offset):
    weights = {str(i): value / sum(values) for i, value in enumerate(values)}
    sampled = Counter(systematic_sample(weights, count, offset))
    assert sampled.total() == count
    for name, weight in weights.items():
        assert abs(sampled[name] - count * weight) < 1 + 1e-6


def test_a_data_set_of_weight_zero_is_never_sampled():
    assert set(systematic_sample({"a": 0.0, "b": 1.0, "c": 0.0}, 9, 0.0)) == {"b"}


@pytest.mark.parametrize(("by_source", "least", "most"), [(True, 0.8, 1.5), (False, 6, 16)])
def test_a_batch_of_sixteen_pictures_reads_few_row_groups(tmp_path, by_source, least, most):
    """64 data sets of unequal weight, in turn as curate mixes them; unsorted shards show what sorting is good for."""
    one = replace(corpora.record(0), image=b"x")
    records = [replace(one, id=f"{i}", source=f"source/{i % 64}") for i in range(64 * 150)]
    write_shards(tmp_path, records, shard_size=2000, by_source=by_source)
    corpus, reads, batches = Corpus(tmp_path), 0, 200
    datasets = SftDatasets.from_corpus(corpus, {}, cot=0.0, seed=0)
    weights = {name: 1 / (1 + rank) for rank, name in enumerate(datasets.initial_weights)}
    rng, numbers = Random(0), Counter()
    for _ in range(batches):
        for name in systematic_sample(weights, 16, rng.random()):
            item = datasets.item(name, numbers[name])
            reads += item.ref[0] not in corpus._cache
            assert f"{corpus[item.ref].source}/direct" == name
            numbers[name] += 1
    assert least < (reads - len(weights)) / batches < most
