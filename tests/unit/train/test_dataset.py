from collections import Counter

import pytest

from fcotvl.core.errors import DataError
from fcotvl.core.shards import read_records, write_shards
from fcotvl.train.dataset import Corpus, ShuffledEpochs
from tests.support import corpora


def test_every_record_is_found_at_its_reference(tmp_path):
    folder = corpora.write(tmp_path) / "align"
    corpus = Corpus(folder)
    refs = [ref for group in corpus.refs() for ref in group]
    assert [corpus[ref] for ref in refs] == list(read_records(folder))


def test_headers_agree_with_the_records(tmp_path):
    corpus = Corpus(corpora.write(tmp_path) / "align")
    for header in corpus.headers():
        record = corpus[header.ref]
        assert (header.id, header.source, header.turns) == (record.id, record.source, record.turns)


def test_only_so_many_row_groups_stays_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("fcotvl.train.dataset.CACHE", 2)
    corpus = Corpus(corpora.write(tmp_path, shard_size=2) / "align")
    for group in corpus.refs():
        assert corpus[group[0]].id
        assert len(corpus._cache) <= 2


def test_a_truncated_shard_is_named(tmp_path):
    folder = corpora.write(tmp_path) / "align"
    shard = folder / "00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"00001\.parquet is not a readable shard"):
        Corpus(folder)


def test_an_empty_split_is_an_error(tmp_path):
    write_shards(tmp_path, [], shard_size=5)
    with pytest.raises(DataError, match="holds no record"):
        Corpus(tmp_path)


def test_each_epoch_has_each_item_once_in_another_order():
    order = ShuffledEpochs([range(4), range(4, 10), []], "seed", window=1)
    epochs = [[order[10 * e + i] for i in range(10)] for e in range(3)]
    assert all(Counter(epoch) == Counter(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_order_does_not_depend_on_what_was_asked_before():
    fresh, used = ShuffledEpochs([range(50)], "seed"), ShuffledEpochs([range(50)], "seed")
    for index in (120, 3, 60):
        assert used[index] in range(50)
    assert [used[i] for i in range(70)] == [fresh[i] for i in range(70)]


def test_reading_in_order_goes_through_few_groups_at_a_time():
    groups = [[(g, row) for row in range(10)] for g in range(8)]
    order = ShuffledEpochs(groups, "seed", window=2)
    for start in range(0, 80, 20):
        assert len({order[i][0] for i in range(start, start + 20)}) == 2


def test_nothing_to_shuffle_is_an_error():
    with pytest.raises(ValueError, match="nothing to shuffle"):
        ShuffledEpochs([[], []], "seed")
