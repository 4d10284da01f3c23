"""What users of transformers' own processors hand in is understood, or refused in one line."""

from __future__ import annotations

import base64
import logging
from io import BytesIO

import numpy as np
import pytest
import torch
from transformers import pipeline
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.compress.config import FcotvlConfig
from fcotvl.compress.processor import IMAGE_MEAN, IMAGE_STD
from fcotvl.core.errors import DataError
from tests.support import models

WIDE = models.picture(112, 56)


@pytest.fixture(scope="module")
def processor():
    return models.processor(max_tiles=4)


@pytest.fixture(scope="module")
def stock():
    """The image processor that transformers' InternVLProcessor has without torchvision."""
    return GotOcr2ImageProcessorPil(
        size={"height": models.TILE, "width": models.TILE},
        crop_to_patches=True,
        max_patches=4,
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
    )


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    """A file whose name has to be quoted in a URL."""
    path = tmp_path_factory.mktemp("a page") / "page 1.png"
    WIDE.save(path)
    return path


def as_base64(picture):
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def chat(question, *pictures):
    content = [*pictures, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def encode(processor, conversation, **kwargs):
    return processor.apply_chat_template(
        conversation, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", **kwargs
    )


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


SOURCES = {
    "path": lambda png: {"path": str(png)},
    "path object": lambda png: {"image": png},
    "file URL": lambda png: {"url": png.as_uri()},
    "data URL": lambda _: {"url": f"data:image/png;base64,{as_base64(WIDE)}"},
    "base64": lambda _: {"base64": as_base64(WIDE)},
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_chat_names_its_picture(processor, png, source):
    named = chat("Total?", {"type": "image", **SOURCES[source](png)})
    expected = processor([WIDE], processor.render("Total?"))
    assert same(encode(processor, named), expected)
    small = chat("And here?", {"type": "image", "image": models.picture()})
    together = processor([WIDE, models.picture()], [processor.render("Total?"), processor.render("And here?")])
    assert same(encode(processor, [named, small]), together)


def test_a_chat_in_openais_words_is_read_too(processor, png):
    named = chat("Total?", {"type": "image_url", "image_url": {"url": png.as_uri()}})
    assert same(encode(processor, named), processor([WIDE], processor.render("Total?")))


def test_one_chat_of_a_batch_may_have_no_picture(processor):
    texts = [processor.render("Total?"), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"]
    batch = [chat("Total?", {"type": "image", "image": WIDE}), chat("Hi")]
    assert same(encode(processor, batch), processor([WIDE], texts))
    assert set(processor([], texts[1])) == set(encode(processor, chat("Hi"))) == {"input_ids", "attention_mask"}


def test_a_missing_picture_is_named(processor, tmp_path):
    with pytest.raises(ValueError, match=r"no\.png"):
        encode(processor, chat("Total?", {"type": "image", "path": str(tmp_path / "no.png")}))


HWC = np.asarray(WIDE)
ARRAYS = {
    "height, width, channels": HWC,
    "channels first": HWC.transpose(2, 0, 1),
    "tensor": torch.from_numpy(HWC.transpose(2, 0, 1).copy()),
    "batch": torch.from_numpy(HWC.copy())[None],
    "floats up to 255": HWC.astype(np.float32),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_read_like_the_picture(processor, stock, kind):
    expected = processor([WIDE], processor.render("Total?"))
    assert same(processor(ARRAYS[kind], processor.render("Total?")), expected)
    theirs = stock(ARRAYS[kind], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(expected["pixel_values"], theirs, atol=2e-6, rtol=0)


def test_an_array_in_a_chat_is_read_too(processor):
    asked = encode(processor, chat("Total?", {"type": "image", "image": HWC}))
    assert same(asked, processor([WIDE], processor.render("Total?")))


def test_grey_arrays_and_those_with_transparency_are_read_as_rgb(processor):
    images = processor.image_processor
    for mode in ("L", "RGBA"):
        picture = WIDE.convert(mode)
        array = np.asarray(picture).reshape(56, 112, -1)
        np.testing.assert_array_equal(images(array)["pixel_values"], images(picture)["pixel_values"])


def test_floats_in_the_unit_interval_need_do_rescale_false(processor, stock):
    unit = HWC.astype(np.float32) / 255
    images = processor.image_processor
    expected = images(WIDE)["pixel_values"]
    np.testing.assert_array_equal(images(unit, do_rescale=False)["pixel_values"], expected)
    np.testing.assert_allclose(stock(unit, do_rescale=False)["pixel_values"], expected, atol=0.01 / min(IMAGE_STD))
    with pytest.raises(ValueError, match="pass do_rescale=False"):
        images(unit)


@pytest.mark.parametrize(
    ("array", "do_rescale", "message"),
    [
        (HWC.astype(np.float32), False, "give 0 to 1"),
        (HWC.astype(np.float32) - 1, True, "give 0 to 255"),
        (np.full((8, 8, 3), np.nan), False, "from nan to nan"),
        (np.zeros((8, 8, 5)), True, "channel"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(processor, array, do_rescale, message):
    with pytest.raises(ValueError, match=message):
        processor.image_processor(array, do_rescale=do_rescale)


@pytest.mark.parametrize("do_rescale", [True, False])
@pytest.mark.parametrize("do_normalize", [True, False])
def test_preprocess_obeys_its_switches_as_transformers_own_does(processor, stock, do_rescale, do_normalize):
    switches = {"do_rescale": do_rescale, "do_normalize": do_normalize, "return_tensors": "pt"}
    ours = processor.image_processor.preprocess(WIDE, **switches)["pixel_values"]
    theirs = stock.preprocess(WIDE, **switches)["pixel_values"]
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, atol=2e-6 if do_rescale else 2e-3, rtol=0)


def test_mean_and_deviation_can_be_given_per_call_and_kept(processor, tmp_path):
    images = processor.image_processor
    given = images(WIDE, image_mean=[0.5] * 3, image_std=[0.5] * 3)["pixel_values"]
    plain = images(WIDE, do_normalize=False)["pixel_values"]
    np.testing.assert_allclose(given, 2 * plain - 1, atol=1e-6)
    images.save_pretrained(tmp_path)
    kept = type(images).from_pretrained(tmp_path, do_normalize=False)
    np.testing.assert_array_equal(kept(WIDE)["pixel_values"], plain)


def test_images_kwargs_and_text_kwargs_are_obeyed(processor):
    square, text = models.picture(224, 224), processor.render("Total?")
    assert same(processor(square, text, images_kwargs={"max_tiles": 1}), processor(square, text, max_tiles=1))
    assert len(processor(square, text)["pixel_values"]) == 5
    padded = processor(WIDE, text, text_kwargs={"padding": "max_length", "max_length": 128, "padding_side": "right"})
    assert padded["input_ids"].shape == (1, 128)
    assert padded["attention_mask"][0].tolist() == sorted(padded["attention_mask"][0].tolist(), reverse=True)
    texts = [text, processor.render("And this one?")]
    ragged = processor([WIDE, WIDE], texts, text_kwargs={"padding": False, "return_tensors": None})
    assert len({len(ids) for ids in ragged["input_ids"]}) == 2
    as_arrays = processor(WIDE, text, return_tensors="np")
    assert all(isinstance(value, np.ndarray) for value in as_arrays.values())


def test_settings_of_a_chat_reach_the_processor(processor):
    square = models.picture(224, 224)
    asked = encode(
        processor,
        chat("Total?", {"type": "image", "image": square}),
        processor_kwargs={"images_kwargs": {"max_tiles": 1}},
    )
    assert same(asked, processor(square, processor.render("Total?"), max_tiles=1))


@pytest.mark.parametrize("wrong", [{"max_patches": 1}, {"size": {"height": 9, "width": 9}}])
def test_unknown_settings_of_pictures_are_refused(processor, wrong):
    with pytest.raises(TypeError, match=next(iter(wrong))):
        processor(WIDE, processor.render("Total?"), images_kwargs=wrong)
    with pytest.raises(TypeError, match=next(iter(wrong))):
        processor.image_processor(WIDE, **wrong)


def test_an_unknown_keyword_is_named_in_a_warning(processor, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    processor(WIDE, processor.render("Total?"), tiles=1)
    assert "`tiles` is not a valid argument for this processor" in caplog.text


def test_a_setting_given_twice_is_refused(processor):
    with pytest.raises(ValueError, match="max_tiles was passed two times"):
        processor(WIDE, processor.render("Total?"), max_tiles=1, images_kwargs={"max_tiles": 2})


def test_the_tokenizers_own_padding_side_does_not_count(processor):
    right = models.tokenizer()
    right = type(right)(tokenizer_object=right.backend_tokenizer, pad_token="<|im_end|>", padding_side="right")
    right.chat_template = processor.chat_template
    other = type(processor)(processor.image_processor, right, image_seq_length=models.TOKENS)
    texts = [processor.render("A"), processor.render("A longer one")]
    assert same(other([WIDE, WIDE], texts), processor([WIDE, WIDE], texts))


def test_truncation_cuts_text_and_no_picture(processor):
    text = processor.render("What is the total of the bill?")
    whole = processor(WIDE, text)["input_ids"]
    cut = processor(WIDE, text, truncation=True, max_length=whole.shape[1] - 5)["input_ids"]
    assert torch.equal(cut, whole[:, :-5])
    with pytest.raises(ValueError, match="Please disable truncation or increase `max_length`"):
        processor(WIDE, text, truncation=True, max_length=20)
    with pytest.raises(ValueError, match="Please disable truncation or increase `max_length`"):
        processor(WIDE, text, text_kwargs={"truncation": True, "max_length": 20})


@pytest.mark.parametrize("token", ["<IMG_CONTEXT>", "<img>", "<|im_end|>"])
def test_a_token_in_a_question_can_be_read_as_its_letters(processor, token):
    """One character is one token of this tokenizer, so that lengths tell tokens from letters."""
    marked = chat(f"Why {token}?", {"type": "image", "image": WIDE})
    asked = encode(processor, marked, sanitize_control_tokens=True)
    plain = encode(processor, chat("Why " + "x" * len(token) + "?", {"type": "image", "image": WIDE}))
    assert asked["input_ids"].shape == plain["input_ids"].shape
    assert torch.equal(asked["input_ids"] == processor.image_token_id, plain["input_ids"] == processor.image_token_id)
    assert token in processor.tokenizer.decode(asked["input_ids"][0, -60:])


def test_a_picture_token_in_a_question_is_refused_by_default(processor):
    marked = chat("Why <IMG_CONTEXT>?", {"type": "image", "image": WIDE})
    with pytest.raises(ValueError, match="Found total 2 <IMG_CONTEXT> tokens and 1 images"):
        encode(processor, marked)
    with pytest.raises(ValueError, match="Found 1 <IMG_CONTEXT> tokens in the text but no images"):
        encode(processor, chat("Why <IMG_CONTEXT>?"))
    with pytest.raises(DataError, match="stands for a picture; leave it out: 'Why <IMG_CONTEXT>"):
        processor.render("Why <IMG_CONTEXT>?")


@pytest.mark.parametrize("modality", ["videos", "audio"])
def test_other_modalities_are_refused(processor, modality):
    with pytest.raises(ValueError, match="reads pictures only"):
        processor(WIDE, processor.render("Total?"), **{modality: [np.zeros(9)]})


def test_the_pipeline_answers_like_generate(processor, png):
    student = make_student(models.teacher(), compressor="cnn", ratio=0.5)
    own = processor_for(processor, student.config)
    ask = pipeline("image-text-to-text", model=student, processor=own)
    asked = own([WIDE], own.render("Total?"))
    reply = student.generate(**asked, max_new_tokens=5, do_sample=False)
    expected = own.decode(reply[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    for picture in ({"image": WIDE}, {"url": png.as_uri()}, {"path": str(png)}, {"image": HWC}):
        (said,) = ask(
            chat("Total?", {"type": "image", **picture}), return_full_text=False, max_new_tokens=5, do_sample=False
        )
        assert said["generated_text"] == expected


SIZES = [(56, 56), (56, 112), (300, 90), (224, 224), (1, 500)]


@pytest.mark.parametrize("settings", [{}, {"max_tiles": 2}, {"images_kwargs": {"max_tiles": 1}}])
def test_sizes_say_how_many_tokens_pictures_become(processor, settings):
    """Asked by vLLM, which reserves the places before it has the pictures."""
    promised = processor._get_num_multimodal_tokens(image_sizes=SIZES, **settings)
    for (height, width), tokens, tiles in zip(
        SIZES, promised["num_image_tokens"], promised["num_image_patches"], strict=True
    ):
        made = processor(
            models.picture(width, height), processor.render("?"), return_mm_token_type_ids=True, **settings
        )
        assert len(made["pixel_values"]) == tiles
        assert made["mm_token_type_ids"].sum() == tokens
    assert processor._get_num_multimodal_tokens().num_image_tokens is None


def test_sizes_do_not_say_it_where_tiles_keep_different_numbers(processor):
    config = FcotvlConfig.from_teacher(
        models.config(), compressor="adaptive", ratio=0.5, options=models.OPTIONS["adaptive"]
    )
    with pytest.raises(ValueError, match="sizes alone do not say how many"):
        processor_for(processor, config)._get_num_multimodal_tokens(image_sizes=SIZES)
