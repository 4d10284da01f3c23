"""Attention is that of the plain formula, and what is made of it is right where it is known."""

import io
import math
from dataclasses import replace

import pytest
import torch

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.compress.student import prompt_positions
from fcotvl.core.geometry import group
from fcotvl.core.records import Record, pixel_digest
from fcotvl.evaluate.answer_place import answer_place
from fcotvl.evaluate.attention import attention, covering, read, split
from fcotvl.toy.render import render
from tests.support import corpora, models

PROMPT = "Total? Answer briefly."


def rendered(index=0, family="document"):
    """A picture of the renderer as a record, and its first answer, which is written in it."""
    drawn = render(family, "test", index, 0, extractive=1, reason=1)
    encoded = io.BytesIO()
    drawn.image.save(encoded, "PNG")
    name, digest = f"test-{family}-0-{index}", pixel_digest(drawn.image)
    described = (name, f"rendered/{family}", "MIT", "test", encoded.getvalue(), *drawn.image.size, digest)
    return Record(*described, drawn.turns), drawn, drawn.turns[1].answers[0]


def plain(model, input_ids, features, reply):
    """Softmax of q k / sqrt(width) for every pair of positions, from the inputs of the layers."""
    llm, states = model.model.language_model, []
    embedded = model.get_input_embeddings()(torch.cat([input_ids, reply], dim=1))
    embedded[:, : input_ids.shape[1]][input_ids == model.config.image_token_id] = features.flatten(0, 1)
    hooks = [layer.register_forward_pre_hook(lambda _, args: states.append(args[0])) for layer in llm.layers]
    places = prompt_positions(model.config, torch.cat([input_ids, reply], dim=1))[0, :-1]
    llm(inputs_embeds=embedded[:, :-1], position_ids=places[None])
    for hook in hooks:
        hook.remove()
    found = []
    for layer, state in zip(llm.layers, states, strict=True):
        own = layer.self_attn
        normed = layer.input_layernorm(state)[0]
        width, length = own.head_dim, len(normed)
        angles = torch.outer(places, 10_000 ** (-torch.arange(0, width, 2) / width)).repeat(1, 2)

        def turned(rows, angles=angles):
            first, second = rows.chunk(2, dim=-1)
            return rows * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()

        q = turned(own.q_proj(normed).unflatten(-1, (-1, width)).transpose(0, 1))
        k = turned(own.k_proj(normed).unflatten(-1, (-1, width)).transpose(0, 1))
        k = k.repeat_interleave(len(q) // len(k), dim=0)
        scores = q @ k.mT / math.sqrt(width)
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
        found.append(scores.softmax(dim=-1).mean(dim=0)[input_ids.shape[1] - 1 :])
    return torch.stack(found)


@pytest.mark.parametrize("llm", ["qwen2", "llama"])
@pytest.mark.parametrize("ratio", [0.0, 0.75])
@torch.no_grad()
def test_attention_is_that_of_the_plain_formula_and_sums_to_one_with_text(llm, ratio):
    model = models.teacher(llm=llm)
    model = make_student(model, compressor="cnn", ratio=ratio, positions="spread").eval() if ratio else model
    processor = processor_for(models.processor(), model.config)
    inputs = processor(models.picture(112, 56), processor.render(PROMPT))
    features = model.get_image_features(inputs["pixel_values"]).pooler_output
    reply = processor.tokenizer("12 of 34", return_tensors="pt", add_special_tokens=False)["input_ids"]
    found = attention(model, inputs["input_ids"], features, reply)
    torch.testing.assert_close(found, plain(model, inputs["input_ids"], features, reply), atol=1e-5, rtol=1e-5)
    visual = inputs["input_ids"][0] == model.config.image_token_id
    prompt, rest = found[..., : len(visual)], found[..., len(visual) :]
    text = prompt[..., ~visual].sum(dim=-1) + rest.sum(dim=-1)
    torch.testing.assert_close(prompt[..., visual].sum(dim=-1) + text, torch.ones(4, 8))
    assert model.model.language_model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_where_all_keys_are_alike_mass_is_their_number_and_lift_is_one(ratio):
    model = models.teacher()
    model = make_student(model, compressor="cnn", ratio=ratio).eval() if ratio else model
    for layer in model.model.language_model.layers:
        torch.nn.init.zeros_(layer.self_attn.q_proj.weight)
        torch.nn.init.zeros_(layer.self_attn.q_proj.bias)
    processor, (record, _, answer) = processor_for(models.processor(), model.config), rendered()
    ids = processor(record.decode(), processor.render(PROMPT))["input_ids"]
    visual = int((ids == model.config.image_token_id).sum())
    readings = read(model, processor, record, PROMPT, f"It says so.\nAnswer:{answer}")
    assert [(one.part, one.layer) for one in readings] == [(p, n) for p in ("reasoning", "answer") for n in range(4)]
    said, shown = len("It says so.\n"), len("It says so.\nAnswer:")
    for one in readings:
        first, count = (0, said) if one.part == "reasoning" else (shown, len(answer))
        assert one.positions == count
        alike = [visual / (ids.shape[1] + position) for position in range(first, first + count)]
        assert one.mass == pytest.approx(sum(alike) / count)
        assert one.entropy == pytest.approx(1)
        assert one.place == pytest.approx(one.chance)
        assert 0 < one.chance < 1


def test_without_a_place_the_rest_is_known_and_an_empty_reply_tells_nothing():
    model, processor = models.teacher(), models.processor()
    reading = read(model, processor, corpora.record(1), PROMPT, "12")[0]
    assert 0 < reading.mass < 1
    assert 0 < reading.entropy < 1
    assert math.isnan(reading.place)
    assert math.isnan(reading.chance)
    assert read(model, processor, corpora.record(1), PROMPT, "") == []


def test_a_reply_is_reasoning_up_to_the_last_marker_and_the_answer_after_it():
    reply = "Answer: no. Answer: 7"
    tokens = [(0, 6), (6, 7), (7, 10), (10, 11), (11, 18), (18, 19), (19, 21)]
    assert split(reply, tokens) == {"reasoning": [0, 1, 2, 3], "answer": [6]}
    assert split("7 %", [(0, 1), (1, 3)]) == {"reasoning": [], "answer": [0, 1]}


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.75])
def test_tokens_cover_the_cells_that_they_read_in_their_tile_and_in_the_thumbnail(ratio):
    model = models.teacher()
    model = make_student(model, compressor="cnn", ratio=ratio) if ratio else model
    run, kept = group(ratio)
    size = 16 // run * kept
    # Two tiles beside each other, four cells wide and high: the point is in the last cell of the right one.
    found = covering(model, [size] * 3, (2, 1), [(0.99, 0.99)])
    last = [False] * (size - kept) + [True] * kept
    assert found.tolist() == [False] * size + last + last
    assert covering(model, [size], (1, 1), [(0.3, 0.0)])[1 // run * kept]
    assert not covering(model, [size], (1, 1), []).any()


@pytest.mark.parametrize("family", ["document", "chart", "infographic"])
def test_the_place_of_an_answer_is_where_it_was_drawn(family):
    for index in range(4):
        record, drawn, answer = rendered(index, family)
        places = answer_place(record, answer)
        assert len(places) % len(answer.replace(" ", "")) == 0
        assert places
        boxes = [(round(x * 224) - 6, round(y * 224) - 8, round(x * 224) + 6, round(y * 224) + 8) for x, y in places]
        assert all(len(drawn.image.crop(box).getcolors(1024)) > 1 for box in boxes)  # paper and ink
        assert answer_place(record, "not written") == []
        assert answer_place(record, "") == []


def test_a_picture_that_is_not_drawn_again_alike_has_no_places():
    record, _, answer = rendered()
    assert answer_place(record, answer)
    for change in (
        {"sha256": "0" * 64},
        {"source": "docvqa/a"},
        {"id": "test-document-0-1"},
        {"id": "test-document-0"},
    ):
        assert answer_place(replace(record, **change), answer) == []
