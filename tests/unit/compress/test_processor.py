"""Pictures and chats become what the model reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoProcessor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from fcotvl.compress.checkpoints import processor_for
from fcotvl.compress.config import FcotvlConfig
from fcotvl.compress.processor import IMAGE_MEAN, IMAGE_STD, FcotvlImageProcessor, FcotvlProcessor
from fcotvl.core.errors import CheckpointError
from tests.support import models


@pytest.fixture(scope="module")
def processor():
    return models.processor(max_tiles=4)


def test_every_picture_gets_its_visual_tokens(processor):
    small, wide = models.picture(56, 56), models.picture(112, 56)
    inputs = processor([small, wide], [processor.render("One?"), processor.render("Two or more?")])
    places = (inputs["input_ids"] == processor.image_token_id).sum(dim=1)
    assert places.tolist() == [models.TOKENS, 3 * models.TOKENS]
    assert inputs["pixel_values"].shape == (4, 3, models.TILE, models.TILE)


def test_the_picture_stands_between_its_marks(processor):
    text = processor.expand([processor.render("Why?")], [1])[0]
    marked = "<img>" + "<IMG_CONTEXT>" * models.TOKENS + "</img>"
    assert text == f"<|im_start|>user\n{marked}\nWhy?<|im_end|>\n<|im_start|>assistant\n"


def test_padding_is_on_the_left(processor):
    inputs = processor([models.picture()] * 2, [processor.render("A"), processor.render("A longer one")])
    assert inputs["attention_mask"][0].tolist() == sorted(inputs["attention_mask"][0].tolist())
    assert inputs["attention_mask"][1].all()


def test_a_cap_on_tiles_can_be_given_per_call(processor):
    square = models.picture(224, 224)
    assert len(processor.image_processor([square])["pixel_values"]) == 5
    assert len(processor.image_processor([square], max_tiles=1)["pixel_values"]) == 1


def test_pixels_are_those_of_transformers_pillow_processor():
    """Same filter, crops and thumbnail; the normalisation rounds differently by at most 1e-6."""
    picture = models.picture(500, 230, seed=3)
    ours = FcotvlImageProcessor(tile_size=56, max_tiles=12)([picture], return_tensors="pt")
    theirs = GotOcr2ImageProcessorPil(
        size={"height": 56, "width": 56},
        crop_to_patches=True,
        max_patches=12,
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
    )([picture], return_tensors="pt")
    assert ours["num_tiles"] == theirs["num_patches"].tolist()
    torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"], atol=2e-6, rtol=0)


def test_grey_and_transparent_pictures_are_read_as_rgb(processor):
    picture = models.picture(seed=1)
    grey = processor.image_processor([picture.convert("L")])["pixel_values"]
    clear = processor.image_processor([picture.convert("RGBA")])["pixel_values"]
    np.testing.assert_array_equal(clear, processor.image_processor([picture])["pixel_values"])
    assert np.asarray(grey).shape == np.asarray(clear).shape


def test_labels_cover_the_reply_and_its_end_only(processor):
    ids, labels = processor.encode("Total?", "42", num_tiles=1)
    wanted = [label for label in labels if label != -100]
    assert processor.tokenizer.decode(wanted) == "42<|im_end|>"
    assert ids[-len(wanted) :] == wanted
    assert labels[: -len(wanted)] == [-100] * (len(ids) - len(wanted))


def test_training_reads_the_prompt_that_generation_gives(processor):
    ids, labels = processor.encode("Total?", "42", num_tiles=1)
    prompt = processor([models.picture()], processor.render("Total?"))["input_ids"][0].tolist()
    assert ids[: labels.index(ids[-3])] == prompt


def test_it_comes_back_from_disk_by_its_auto_class(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is FcotvlProcessor
    assert loaded.image_seq_length == models.TOKENS
    assert loaded.image_processor.max_tiles == 4
    picture = models.picture(112, 56)
    first = processor([picture], processor.render("Same?"))
    again = loaded([picture], loaded.render("Same?"))
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.fixture(scope="module")
def adaptive(processor):
    """Of a student whose tiles keep 12 or 4 of their 16 visual tokens."""
    config = FcotvlConfig.from_teacher(
        models.config(), compressor="adaptive", ratio=0.5, options=models.OPTIONS["adaptive"]
    )
    return processor_for(processor, config)


def test_each_tile_has_the_tokens_of_its_own_complexity(adaptive):
    small, wide = models.picture(56, 56), models.picture(112, 56)
    inputs = adaptive([small, wide], [adaptive.render("One?"), adaptive.render("Two?")])
    assert inputs["tile_tokens"].tolist() == [12, 4, 4, 12]
    places = (inputs["input_ids"] == adaptive.image_token_id).sum(dim=1)
    assert places.tolist() == [12, 20]
    alone = adaptive([wide], adaptive.render("Two?"))
    assert alone["tile_tokens"].tolist() == [4, 4, 12]


def test_a_student_without_a_threshold_is_one_line(processor):
    config = FcotvlConfig.from_teacher(models.config(), compressor="adaptive", ratio=0.5)
    with pytest.raises(CheckpointError, match="'adaptive' has no threshold; take a checkpoint of"):
        processor_for(processor, config)


def test_a_threshold_without_numbers_of_tokens_is_refused():
    with pytest.raises(ValueError, match=r"is None and threshold is 0\.1; set tile_tokens and"):
        FcotvlImageProcessor(threshold=0.1)


@pytest.mark.parametrize("which", ["processor", "adaptive"])
def test_the_model_is_given_the_inputs_that_the_processor_names(which, request):
    processor = request.getfixturevalue(which)
    inputs = processor([models.picture()], processor.render("Same?"))
    assert set(inputs) == set(processor.model_input_names)


def test_the_choice_comes_back_from_disk(adaptive, tmp_path):
    adaptive.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    picture = models.picture(112, 56)
    first = adaptive([picture], adaptive.render("Same?"))
    again = loaded([picture], loaded.render("Same?"))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert loaded.image_processor.threshold == models.THRESHOLD


def test_chats_with_pictures_are_encoded_as_transformers_users_do_it(processor):
    chat = [{"role": "user", "content": [{"type": "image", "image": models.picture()}, {"type": "text", "text": "Hi"}]}]
    inputs = processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    expected = processor([models.picture()], processor.render("Hi"))
    assert torch.equal(inputs["input_ids"], expected["input_ids"])
    assert torch.equal(inputs["pixel_values"], expected["pixel_values"])


def test_a_picture_too_few_is_an_error(processor):
    chats = [processor.render("A"), processor.render("B")]
    with pytest.raises(ValueError, match="Found total 2 <IMG_CONTEXT> tokens and 1 images"):
        processor([models.picture()], chats)
    with pytest.raises(ValueError, match="mention 2 pictures, but 1 were given"):
        processor.expand(chats, [1])


def test_a_tokenizer_without_the_special_tokens_is_refused(processor):
    bare = models.tokenizer()
    bare = type(bare)(tokenizer_object=bare.backend_tokenizer.from_str(_without_img(bare)))
    with pytest.raises(CheckpointError, match="lacks <img>"):
        FcotvlProcessor(processor.image_processor, bare)


def _without_img(tokenizer):
    return tokenizer.backend_tokenizer.to_str().replace('"<img>"', '"<picture>"')
