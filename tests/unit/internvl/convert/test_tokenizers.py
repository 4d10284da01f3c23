"""The converted SentencePiece tokenizer cuts text as SentencePiece itself does."""

from __future__ import annotations

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from fcotvl.core.errors import CheckpointError
from fcotvl.core.prompts import SPECIAL_TOKENS
from fcotvl.internvl.chat_templates import INTERNLM2
from fcotvl.internvl.convert.tokenizers import read_tokenizer
from tests.support.originals import TEXT, sentencepiece_model, write_original


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("internlm2")
    write_original(target, "internlm2")
    return target


@pytest.fixture(scope="module")
def pair(folder):
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return read_tokenizer(folder, INTERNLM2), reference


TEXTS = st.one_of(st.text(alphabet=TEXT, max_size=40), st.text(max_size=12).filter(lambda t: "▁" not in t))


@given(TEXTS)
def test_ids_are_those_of_sentencepiece(pair, text):
    ours, reference = pair
    assert ours(text, add_special_tokens=False)["input_ids"] == reference.encode(text)


@given(TEXTS)
def test_text_comes_back(pair, text):
    ours, _ = pair
    ids = ours(text, add_special_tokens=False)["input_ids"]
    assert ours.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize(
    ("written", "read"), [("the , total", "the, total"), ("a .", "a."), ("the ' s", "the's"), ("a  b", "a  b")]
)
def test_decoding_drops_spaces_before_punctuation_as_internlm2_does(pair, written, read, tmp_path):
    ours, reference = pair
    ids = ours(written, add_special_tokens=False)["input_ids"]
    assert ids == reference.encode(written)
    ours.save_pretrained(tmp_path)
    for tokenizer in (ours, AutoTokenizer.from_pretrained(tmp_path)):
        assert tokenizer.batch_decode([ids], skip_special_tokens=True) == [read]


def test_special_tokens_are_single_and_split_the_text(pair):
    ours, reference = pair
    for token in SPECIAL_TOKENS:
        ids = ours(f"the{token} total", add_special_tokens=False)["input_ids"]
        expected = [*reference.encode("the"), ours.convert_tokens_to_ids(token)]
        assert ids == [*expected, *reference.encode(" total")]


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.model nor vocab\.json"):
        read_tokenizer(tmp_path, INTERNLM2)


def test_a_tokenizer_without_image_tokens_is_refused(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model())
    with pytest.raises(CheckpointError, match=r"lacks <\|im_start\|>"):
        read_tokenizer(tmp_path, INTERNLM2)
