"""FastV keeps the tokens of the reference rule, and decodes as a model without the rest would."""

from __future__ import annotations

import pytest
import torch

from fcotvl.core.errors import ParamsError
from fcotvl.inference.decoding import Decoder, positions
from fcotvl.inference.generate import generate
from fcotvl.inference.pruned_decoding import PrunedDecoder
from fcotvl.inference.pruning.fastv import FastV
from fcotvl.inference.pruning.random import RandomPruning
from tests.support import models
from tests.unit.inference.test_generate import queries

PRUNINGS = [FastV(0.5), FastV(0.75, layer=3), RandomPruning(0.5, layer=1)]


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def teacher(request):
    return models.teacher(llm=request.param)


@pytest.fixture(scope="module")
def inputs():
    """Two prompts of unequal length about one and three tiles."""
    processor = models.processor()
    pictures = [models.picture(56, 56, 1), models.picture(112, 56, 2)]
    return processor(pictures, [processor.render("Total?"), processor.render("Who, and when?")])


def prefill(decoder, model, inputs):
    with torch.no_grad():
        features = model.get_image_features(inputs["pixel_values"]).pooler_output
        return decoder.prefill(inputs["input_ids"], inputs["attention_mask"], features)


@pytest.mark.parametrize("pruning", [FastV(0.0), RandomPruning(0.0)])
def test_ratio_0_equals_the_teacher(teacher, inputs, pruning):
    """The mask differs from transformers' own in form, so sums are rounded differently: 1e-5."""
    full, pruned = Decoder(teacher), PrunedDecoder(teacher, pruning, ["a", "b"])
    torch.testing.assert_close(prefill(pruned, teacher, inputs), prefill(full, teacher, inputs), atol=1e-5, rtol=1e-5)
    tokens = torch.tensor([7, 8])
    with torch.no_grad():
        torch.testing.assert_close(pruned.step(tokens), full.step(tokens), atol=1e-5, rtol=1e-5)


def test_ratio_0_replies_as_the_teacher(teacher):
    processor = models.processor()
    replies = generate(teacher, processor, queries(), max_new_tokens=8, pruning=FastV(0.0))
    assert replies == generate(teacher, processor, queries(), max_new_tokens=8)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_the_kept_tokens_are_those_of_the_reference_rule(inputs, layer):
    """Recorded eager attention of layer K-1, last row, mean over heads, best half of the span."""
    model = models.teacher()
    decoder = PrunedDecoder(model, FastV(0.5, layer=layer), ["a", "b"])
    prefill(decoder, model, inputs)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        recorded = model(**inputs, position_ids=positions(inputs["attention_mask"]), output_attentions=True).attentions[
            layer - 1
        ]
    for row, kept in enumerate(decoder.kept):
        span = (inputs["input_ids"][row] == model.config.image_token_id).nonzero()[:, 0]
        attention = recorded[row].mean(dim=0)[-1, span]
        best = span[attention.topk(round(len(span) * 0.5)).indices].tolist()
        text = [
            column for column in inputs["attention_mask"][row].nonzero()[:, 0].tolist() if column not in span.tolist()
        ]
        assert kept.tolist() == sorted(text + best)


@pytest.mark.parametrize("pruning", PRUNINGS)
def test_layers_from_k_on_see_the_kept_tokens_at_their_old_positions(inputs, pruning):
    """Runs the layers by hand on one prompt without padding, dropping what the decoder dropped."""
    model = models.teacher()
    one = {
        "input_ids": inputs["input_ids"][1:],
        "attention_mask": inputs["attention_mask"][1:],
        "pixel_values": inputs["pixel_values"][1:],
    }
    decoder = PrunedDecoder(model, pruning, ["b"])
    logits = prefill(decoder, model, one)
    with torch.no_grad():
        states = model(**one, output_hidden_states=True).hidden_states[pruning.layer]
        columns = decoder.kept[0]
        states, position_ids = states[:, columns], columns[None]
        llm = model.model.language_model
        causal = torch.full((len(columns), len(columns)), -torch.inf).triu(1)[None, None]
        for layer in llm.layers[pruning.layer :]:
            states = layer(
                states,
                attention_mask=causal,
                position_ids=position_ids,
                position_embeddings=llm.rotary_emb(states, position_ids),
            )
        expected = model.lm_head(llm.norm(states[:, -1]))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    visual = int((one["input_ids"] == model.config.image_token_id).sum())
    assert len(columns) == one["input_ids"].shape[1] - visual + pruning.kept(visual)
    lengths = [layer.keys.shape[2] for layer in decoder.cache.layers]
    assert lengths == [one["input_ids"].shape[1]] * pruning.layer + [len(columns)] * (4 - pruning.layer)


@pytest.mark.parametrize("pruning", PRUNINGS)
def test_a_batch_of_unequal_lengths_equals_one_by_one(teacher, pruning):
    processor = models.processor()
    together = generate(teacher, processor, queries(), max_new_tokens=8, pruning=pruning)
    alone = [generate(teacher, processor, [query], max_new_tokens=8, pruning=pruning)[0] for query in queries()]
    assert together == alone
    assert together != generate(teacher, processor, queries(), max_new_tokens=8)


def test_random_keeps_other_tokens_under_another_seed(teacher, inputs):
    kept = []
    for seed in (0, 0, 1):
        decoder = PrunedDecoder(teacher, RandomPruning(0.5, seed=seed), ["a", "b"])
        prefill(decoder, teacher, inputs)
        kept.append([row.tolist() for row in decoder.kept])
    assert kept[0] == kept[1] != kept[2]


def test_a_layer_that_the_model_does_not_have_is_refused(teacher):
    with pytest.raises(ParamsError, match=r"baselines\.fastv_layer: cannot prune before layer 4; choose 1 to 3"):
        PrunedDecoder(teacher, FastV(0.5, layer=4), [])
