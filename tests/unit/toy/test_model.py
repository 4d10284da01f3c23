"""The tiny model's tokenizer and sizes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fcotvl.core.prompts import IMAGE_TOKEN, SPECIAL_TOKENS
from fcotvl.toy.model import build_tiny, build_tokenizer, sincos

TEXTS = ["What is the value of Oats? Answer briefly.", "Oats 45, Rice 52. 45 + 52 = 97"] * 20
TOKENIZER = build_tokenizer(TEXTS, vocab_size=400)


def ids(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@given(st.text())
def test_any_text_round_trips(text):
    if not any(token in text for token in SPECIAL_TOKENS):
        assert TOKENIZER.decode(ids(text)) == text


def test_digits_stay_single():
    assert len(ids("45201")) == 5


def test_a_label_is_one_token_wherever_it_stands():
    (oats,) = ids("Oats")
    assert oats in ids("the value of Oats?")
    assert oats in ids("Rice 52\nOats 45")


def test_special_tokens_are_single_and_survive_saving(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    again = type(TOKENIZER).from_pretrained(tmp_path)
    for token in SPECIAL_TOKENS:
        assert len(again(token, add_special_tokens=False)["input_ids"]) == 1
    assert again.chat_template == TOKENIZER.chat_template
    assert again.padding_side == "left"


@pytest.fixture(scope="module")
def model():
    return build_tiny(TOKENIZER, seed=0)


def test_a_tile_becomes_64_visual_tokens(model):
    with torch.no_grad():
        found = model.get_image_features(pixel_values=torch.zeros(1, 3, 224, 224)).pooler_output
    assert found.shape == (1, 64, model.config.text_config.hidden_size)


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_generator_alone(model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = build_tiny(TOKENIZER, seed=0)
    assert torch.equal(before, torch.get_rng_state())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))


def test_the_model_is_small(model):
    assert sum(p.numel() for p in model.parameters()) < 4_000_000
    assert model.config.image_token_id == TOKENIZER.convert_tokens_to_ids(IMAGE_TOKEN)


def test_positions_differ_everywhere():
    places = sincos(4, 16)
    assert torch.cdist(places, places).fill_diagonal_(1).min() > 0.1
