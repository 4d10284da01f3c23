"""Where visual tokens stand in the LLM's sequence."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.compress.config import FcotvlConfig
from fcotvl.compress.positions import positions, token_widths, visual_widths
from fcotvl.compress.student import FcotvlModel, prompt_positions
from tests.support import models

FULL = models.TOKENS


def config(how: str, ratio: float = 0.5) -> FcotvlConfig:
    """A student's."""
    return FcotvlConfig.from_teacher(models.config(), compressor="cnn", ratio=ratio, positions=how)


@given(st.lists(st.integers(1, FULL), min_size=1, max_size=5))
def test_spread_tokens_of_a_tile_take_up_what_the_teachers_do_in_equal_parts(counts):
    widths = visual_widths(config("spread"), counts)
    assert (len(widths), sum(widths)) == (sum(counts), FULL * len(counts))
    start = 0
    for count in counts:
        own = widths[start : start + count]
        assert sum(own) == FULL
        assert max(own) - min(own) <= 1
        start += count
    assert visual_widths(config("consecutive"), counts) == [1] * sum(counts)
    assert visual_widths(models.config(), counts) == [1] * sum(counts)


@pytest.mark.parametrize(
    ("ratio", "places"), [(0.25, [0, 1, 3]), (0.5, [1, 3, 5, 7]), (0.75, [2, 6, 10, 14]), (0.875, [4, 12])]
)
def test_a_token_stands_in_the_middle_of_those_that_it_replaces(ratio, places):
    widths = torch.tensor([visual_widths(config("spread", ratio), [round(FULL * (1 - ratio))])])
    assert positions(widths)[0, : len(places)].tolist() == places


@pytest.mark.parametrize("how", ["consecutive", "spread"])
def test_text_behind_a_picture_stands_where_it_does_for_the_teacher_or_right_behind_the_picture(how):
    """Two rows, one padded on the left; pictures of one tile and of three."""
    teacher, student = models.config(), config(how)
    found = {}
    for own in (teacher, student):
        processor = processor_for(models.processor(), own)
        inputs = processor([models.picture(), models.picture(112, 56)], [processor.render("What?")] * 2)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        count = processor.image_seq_length
        place = positions(token_widths(own, ids, mask, [count] * 4))
        assert bool((mask[0] == 0).any())
        is_text = (ids != own.image_token_id) & (mask == 1)
        found[own.model_type] = [place[row][is_text[row]].tolist() for row in range(2)]
        if own is student:
            torch.testing.assert_close(prompt_positions(own, ids, mask), place)
    moved = 0 if how == "spread" else FULL // 2
    prefix = len(models.processor().render("What?").partition("<IMG_CONTEXT>")[0])
    assert prefix > 0
    for row, tiles in enumerate((1, 3)):
        ours, theirs = found["fcotvl"][row], found["internvl"][row]
        back = [theirs_at - ours_at for theirs_at, ours_at in zip(theirs, ours, strict=True)]
        assert sorted(set(back)) == sorted({0, moved * tiles})


@pytest.mark.parametrize("compressor", ["identity", "cnn", "adaptive", "nested"])
def test_forward_counts_whole_prompts_itself_and_refuses_to_guess(compressor):
    ratio = 0.0 if compressor == "identity" else 0.5
    student = make_student(
        models.teacher(), compressor=compressor, ratio=ratio, options=models.OPTIONS.get(compressor), positions="spread"
    )
    processor = processor_for(models.processor(), student.config)
    inputs = processor([models.picture(112, 56)], [processor.render("What?")])
    place = prompt_positions(student.config, inputs["input_ids"], inputs["attention_mask"], inputs.get("tile_tokens"))
    with torch.no_grad():
        counted, told = student(**inputs, use_cache=True), student(**inputs, position_ids=place)
        plain = torch.arange(place.shape[1])[None]
        consecutive = student(**inputs, position_ids=plain).logits
        torch.testing.assert_close(counted.logits, told.logits)
        assert torch.equal(place, plain) == (compressor == "identity")
        if compressor != "identity":
            assert not torch.allclose(consecutive, told.logits, atol=1e-4)
        with pytest.raises(ValueError, match="give position_ids, or input_ids from the start"):
            student(input_ids=inputs["input_ids"][:, -1:], past_key_values=counted.past_key_values)
        if compressor == "adaptive":
            del inputs["tile_tokens"]
            for ask in (student, student.generate):
                with pytest.raises(ValueError, match="tile_tokens is missing; use the processor"):
                    ask(**inputs)
        with pytest.raises(ValueError, match="inputs_embeds"):
            student.generate(inputs_embeds=student.get_input_embeddings()(inputs["input_ids"]), max_new_tokens=1)


def test_vllm_which_counts_positions_itself_is_refused():
    for how in ("consecutive", "spread"):
        own = config(how)
        own.text_config._attn_implementation = "vllm"
        if how == "spread":
            with (
                pytest.raises(ValueError, match=r"distill\.positions consecutive, and this one has spread"),
                torch.device("meta"),
            ):
                FcotvlModel(own)
