"""Turns that share a row with others must be answered as if alone."""

import pytest
import torch

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.compress.student import encode_tiles, project_visual_tokens
from fcotvl.core.config import OptimParams
from fcotvl.train.layers import prepare_layers, shared_prefix_attention
from fcotvl.train.packing import Chat, answer_states, collate
from fcotvl.train.turn_mask import turn_mask
from tests.support import models

CHATS = [
    [Chat("Total?", "12"), Chat("Who signed, and when?", "Ann, in May"), Chat("x", "y")],
    [Chat("One question only?", "yes")],
]
PICTURES = [(112, 56), (56, 56)]


@pytest.fixture(scope="module")
def teacher():
    return models.teacher()


def packed_logits(model, processor, pictures, chats):
    batch = collate(pictures, chats, processor_for(processor, model.config), max_tiles=4)
    tokens = encode_tiles(model.model, batch.pixel_values)
    visual = project_visual_tokens(model.model, tokens, batch.tile_tokens)
    with torch.no_grad():
        answers = answer_states(model, batch, visual)
        return answers, model.lm_head(answers.states)


def alone(model, processor, picture, chat):
    """Logits at the answer tokens of one turn by transformers' own forward, unpacked."""
    own = processor_for(processor, model.config)
    seen = own.image_processor(picture, return_tensors="pt")
    ids, labels = own.encode(chat.prompt, chat.reply, own.tiles(seen)[0])
    del seen["num_tiles"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), **seen).logits[0]
    wanted = [i for i, label in enumerate(labels) if label != -100]
    return logits[[i - 1 for i in wanted]], [labels[i] for i in wanted]


@pytest.mark.parametrize("positions", ["consecutive", "spread"])
@pytest.mark.parametrize(("name", "ratio"), [("identity", 0.0), ("cnn", 0.5), ("adaptive", 0.5), ("adaptive", 0.75)])
def test_packed_turns_answer_as_if_each_had_a_row_of_its_own(teacher, name, ratio, positions):
    options = models.OPTIONS.get(name)
    model = make_student(teacher, compressor=name, ratio=ratio, options=options, positions=positions)
    processor = models.processor()
    pictures = [models.picture(*size, seed=i) for i, size in enumerate(PICTURES)]
    output, packed = packed_logits(model, processor, pictures, CHATS)
    expected = [
        alone(model, processor, picture, chat) for picture, chats in zip(pictures, CHATS, strict=True) for chat in chats
    ]
    assert output.targets.tolist() == [token for _, tokens in expected for token in tokens]
    torch.testing.assert_close(packed, torch.cat([logits for logits, _ in expected]), rtol=1e-4, atol=1e-4)


def test_a_row_is_cut_at_its_end_and_says_what_that_lost():
    """One token per character; the picture of two tiles and a thumbnail has 12 visual tokens."""
    processor, pictures = models.processor(), [models.picture(*size) for size in PICTURES]
    whole = collate(pictures, CHATS, processor, max_tiles=4)
    assert not any(whole.cut)
    for room in range(0, 400, 3):
        batch = collate(pictures, CHATS, processor, max_tiles=4, max_length=room)
        for own, cut, all_of_it, length, whole_length in zip(
            *(batch.turns, batch.cut, whole.turns, batch.lengths(), whole.lengths()), strict=True
        ):
            labels, wanted = ([x for turn in turns for x in turn.labels if x != -100] for turns in (own, all_of_it))
            assert labels
            assert labels == wanted[: len(labels)]
            assert cut == len(wanted) - len(labels)
            assert length <= max(room, length if len(labels) == 1 else 0)
            if room >= whole_length:
                assert own == all_of_it
    assert batch.select([1]).cut == [0]


def test_answer_states_name_their_picture_and_turn(teacher):
    processor = models.processor()
    pictures = [models.picture(*size) for size in PICTURES]
    output, _ = packed_logits(teacher, processor, pictures, CHATS)
    # One token per character, and the end of the turn.
    sizes = [len(chat.reply) + 1 for chats in CHATS for chat in chats]
    assert output.items.bincount().tolist() == [sum(sizes[:3]), sizes[3]]
    assert [n for n in output.turns.bincount().tolist() if n] == sizes


def test_hidden_states_of_all_layers_are_those_of_the_turns(teacher):
    """Student and teacher read different numbers of visual tokens, and the same turns in the same order."""
    processor, pictures = models.processor(), [models.picture(*size) for size in PICTURES]
    batch = collate(pictures, CHATS, processor, max_tiles=4)
    tokens = encode_tiles(teacher.model, batch.pixel_values)
    sizes = [len(turn.suffix) for own in batch.turns for turn in own]
    found = []
    for visual in (tokens, tokens[:, ::2]):
        projected = teacher.model.multi_modal_projector(visual)
        answers = answer_states(teacher, batch, projected, hidden=True)
        hidden = answers.hidden
        assert len(hidden.layers) == teacher.config.text_config.num_hidden_layers
        assert all(len(states) == sum(sizes) for states in hidden.layers)
        assert [n for n in hidden.turns.bincount().tolist() if n] == sizes
        assert hidden.items.bincount().tolist() == [sum(sizes[:3]), sizes[3]]
        # The state that predicts an answer token is the last layer's at the token before it.
        predicting = torch.tensor([x for own in batch.turns for turn in own for x in (*turn.labels[1:], -100)]) != -100
        torch.testing.assert_close(hidden.layers[-1][predicting], answers.states, rtol=0, atol=0)
        found.append(answers)
    torch.testing.assert_close(found[0].hidden.turns, found[1].hidden.turns)
    plain = answer_states(teacher, batch, teacher.model.multi_modal_projector(tokens))
    torch.testing.assert_close(plain.states, found[0].states, rtol=0, atol=0)
    assert plain.hidden is None


def test_nothing_leaks_from_one_turn_to_the_next(teacher):
    processor = models.processor()
    picture = [models.picture()]
    _, one = packed_logits(teacher, processor, picture, [[Chat("a", "first"), Chat("Total?", "12")]])
    _, other = packed_logits(teacher, processor, picture, [[Chat("b", "other"), Chat("Total?", "12")]])
    torch.testing.assert_close(one[-3:], other[-3:], rtol=0, atol=0)


def test_a_turn_sees_the_picture_and_itself():
    mask = turn_mask(torch.tensor([[0, 0, 1, 1, 2]]))
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("prefix", [3, 9])
def test_attention_over_a_shared_prefix_is_attention_under_the_mask(kv_heads, prefix):
    torch.manual_seed(0)
    turn = torch.tensor([[0] * 9 + [1, 1, 2, 2, 2], [0] * 11 + [1, 2, -1]])
    query = torch.randn(2, 4, 14, 8)
    key, value = torch.randn(2, 2, kv_heads, 14, 8).unbind()
    repeated = (states.repeat_interleave(4 // kv_heads, dim=1) for states in (key, value))
    mask = turn_mask(turn)
    expected = torch.nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask, scale=0.3)
    found, _ = shared_prefix_attention(torch.nn.Identity(), query, key, value, mask, scaling=0.3, shared_prefix=prefix)
    torch.testing.assert_close(found.transpose(1, 2), expected)


def test_a_model_answers_alike_over_a_shared_prefix(teacher):
    processor = models.processor()
    pictures = [models.picture(*size) for size in PICTURES]
    _, expected = packed_logits(teacher, processor, pictures, CHATS)
    model = models.teacher()
    prepare_layers(model, OptimParams(steps=1, lr=0.1))
    _, found = packed_logits(model, processor, pictures, CHATS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert model.model.language_model.config._attn_implementation == "shared_prefix"
