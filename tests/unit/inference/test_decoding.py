"""The preallocated cache and the masks compute what transformers' own do, bit for bit."""

from __future__ import annotations

from itertools import chain, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from fcotvl.inference import decoding
from fcotvl.inference.decoding import Decoder, KeyMask, PreallocatedCache
from fcotvl.inference.generate import compact, cut
from fcotvl.inference.pruned_decoding import PrunedDecoder
from fcotvl.inference.pruning.fastv import FastV
from tests.support import models


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def teacher(request):
    return models.teacher(llm=request.param)


@pytest.fixture(scope="module")
def inputs():
    """Three prompts of unequal length about one and three tiles."""
    processor = models.processor()
    pictures = [models.picture(56, 56, 1), models.picture(112, 56, 2), models.picture(56, 56, 3)]
    return processor(pictures, [processor.render(prompt) for prompt in ("Total?", "Who, and when?", "a")])


def prefill(decoder, inputs, **changed):
    found = {**inputs, **changed}
    features = decoder.model.get_image_features(found["pixel_values"]).pooler_output
    return decoder.prefill(found["input_ids"], found["attention_mask"], features)


ROWS = st.lists(st.integers(0, 99), min_size=1, max_size=5)


@pytest.mark.parametrize("pruned", [False, True])
@settings(max_examples=8, deadline=None)
@given(steps=st.lists(st.none() | ROWS, min_size=1, max_size=8))
def test_logits_are_those_of_a_cache_that_grows(teacher, inputs, pruned, steps):
    """Rows leave, change places and are repeated between steps; buffers are full at every third."""
    new = (lambda: PrunedDecoder(teacher, FastV(0.5), "abc")) if pruned else (lambda: Decoder(teacher))
    one, other = new(), new()
    other.cache = DynamicCache(config=teacher.config.text_config)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(decoding, "ROOM", 2)
        logits, expected = prefill(one, inputs), prefill(other, inputs)
        assert torch.equal(logits, expected)
        for rows in steps:
            if rows is not None:
                chosen = torch.tensor([row % len(logits) for row in rows])
                logits = logits[chosen]
                one.select(chosen)
                other.select(chosen)
            tokens = logits.argmax(dim=-1)
            logits, expected = one.step(tokens), other.step(tokens)
            assert torch.equal(logits, expected)


def test_transformers_own_beam_search_can_use_the_cache(teacher, inputs, monkeypatch):
    monkeypatch.setattr(decoding, "ROOM", 4)
    limits = {"num_beams": 3, "do_sample": False, "max_new_tokens": 12}
    replies = teacher.generate(**inputs, **limits, past_key_values=PreallocatedCache())
    assert torch.equal(replies, teacher.generate(**inputs, **limits))


def test_a_step_copies_nothing_that_is_cached(teacher, inputs):
    decoder = Decoder(teacher)
    with torch.inference_mode():
        tokens = prefill(decoder, inputs).argmax(dim=-1)
        places = [decoder.cache.layers[0].keys.data_ptr()]
        for _ in range(decoding.ROOM + 1):
            decoder.step(tokens)
            places.append(decoder.cache.layers[0].keys.data_ptr())
    assert [before == after for before, after in pairwise(places)] == [True] * decoding.ROOM + [False]


def masks():
    """Left padding of different lengths."""
    return torch.tensor([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])


def test_no_token_attends_to_nothing_and_none_to_padding_or_to_the_future():
    found = KeyMask(masks()).prompt()
    assert found.dtype == torch.bool
    assert found.any(dim=-1).all()
    for row, mask in enumerate(masks().bool()):
        for query in range(5):
            seen = {key for key in range(query + 1) if mask[key]} or {query}
            assert set(found[row, 0, query].nonzero()[:, 0].tolist()) == seen


def test_new_tokens_attend_to_all_but_padding_and_need_no_mask_without_it():
    keys = KeyMask(masks())
    for length in (6, 7, 5 + decoding.ROOM, 6 + decoding.ROOM):
        step = keys.step(length)[:, 0, 0]
        assert torch.equal(step[:, :5], masks().bool())
        assert torch.equal(step[:, 5:], torch.ones(3, length - 5, dtype=torch.bool))
    keys.select(torch.tensor([1]))
    assert keys.step(9) is keys.prompt() is None


@pytest.mark.parametrize("pruned", [False, True])
def test_what_padding_holds_does_not_matter(teacher, inputs, pruned):
    new = (lambda: PrunedDecoder(teacher, FastV(0.5), "abc")) if pruned else (lambda: Decoder(teacher))
    padding = inputs["attention_mask"] == 0
    assert padding.any()
    decoders = new(), new()
    with torch.inference_mode():
        logits = prefill(decoders[0], inputs)
        other = prefill(decoders[1], inputs, input_ids=inputs["input_ids"].masked_fill(padding, 5))
        assert torch.equal(logits, other)
        tokens = logits.argmax(dim=-1)
        assert torch.equal(decoders[0].step(tokens), decoders[1].step(tokens))


@pytest.mark.parametrize("order", [[0, 1, 2, 1, 0], [2, 2, 2]])
def test_a_picture_that_is_read_once_gives_the_logits_of_whole_prompts(teacher, inputs, order):
    """Rows of unequal length before and after the last visual token, so that padding stands in both places."""
    ids, last = inputs["input_ids"], inputs["input_ids"] == teacher.config.image_token_id
    rows = [ids[row][inputs["attention_mask"][row].bool()] for row in range(3)]
    ends = [int((row == teacher.config.image_token_id).nonzero()[-1]) + 1 for row in rows]
    assert last.any(dim=1).all()
    prompts = [torch.cat([rows[row], torch.arange(3, 3 + 2 * place)]) for place, row in enumerate(order)]
    whole, shared = Decoder(teacher), Decoder(teacher)
    with torch.inference_mode():
        features = teacher.get_image_features(inputs["pixel_values"]).pooler_output
        tiles = list(torch.tensor_split(torch.arange(len(features)), [1, len(features) - 1]))
        visual = [features[tile] for row in order for tile in tiles[row]]
        expected = whole.prefill(*decoding.left_padded(prompts, 1), visual)
        pictures = sorted(set(order))
        heads = [rows[row][: ends[row]] for row in pictures]
        shared.prefill(*decoding.left_padded(heads, 1), [features[tile] for row in pictures for tile in tiles[row]])
        shared.select(torch.tensor([pictures.index(row) for row in order]))
        tails = [prompt[ends[row] :] for prompt, row in zip(prompts, order, strict=True)]
        logits = shared.extend(*decoding.left_padded(tails, 1))
        for keep in (range(len(order)), [1, 0]):
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
            chosen = torch.tensor(list(keep))
            shared.select(chosen)
            whole.select(chosen)
            tokens = expected[chosen].argmax(dim=-1)
            logits, expected = shared.step(tokens), whole.step(tokens)


def test_attention_that_takes_other_masks_is_refused():
    model = models.teacher()
    model.set_attn_implementation("eager")
    with pytest.raises(ValueError, match="the LLM's attention is eager"):
        Decoder(model)


@given(st.sets(st.integers(0, 30), min_size=1))
def test_rows_that_stay_keep_their_places(rows):
    found = compact(sorted(rows))
    assert sorted(found) == sorted(rows)
    assert all(found[row] == row for row in rows if row < len(rows))


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 9), st.integers(1, 200))
def test_a_batch_has_no_more_tokens_than_it_may_unless_it_is_one_query(lengths, size, tokens):
    batches = [lengths[batch] for batch in cut(lengths, size, tokens)]
    assert list(chain.from_iterable(batches)) == lengths
    for batch in batches:
        assert 0 < len(batch) <= size
        assert len(batch) == 1 or len(batch) * max(batch) <= tokens
    for batch, after in pairwise(batches):  # and none is closed early
        assert len(batch) == size or (len(batch) + 1) * max(*batch, after[0]) > tokens
