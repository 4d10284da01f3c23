"""Batched, cached, shared-feature generation gives what transformers' own ``generate`` gives."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.compress.student import encode_tiles
from fcotvl.inference.decoding import Decoder
from fcotvl.inference.generate import Decoding, Query, choose, generate, sample
from fcotvl.inference.pictures import PictureEncoder
from fcotvl.inference.pruned_decoding import PrunedDecoder
from fcotvl.inference.pruning.fastv import FastV
from tests.support import models
from tests.support.imports import ROOT

PROMPTS = ["Total?", "What is the largest value of all?", "a", "Who wrote it, and when was it?"]


@pytest.fixture(scope="module")
def teacher():
    return models.teacher()


def queries():
    """Eight questions about three pictures of different tile counts, pictures interleaved."""
    sizes = [(56, 56), (112, 56), (56, 168)]
    asked = []
    for number in range(8):
        which = number % 3
        asked.append(
            Query(
                picture=lambda which=which: models.picture(*sizes[which], seed=which),
                picture_id=str(which),
                prompt=PROMPTS[number % 4] + str(number),
            )
        )
    return asked


def one_by_one(model, processor, query, new):
    """The reply that ``model.generate`` gives to a query alone, from pixels."""
    inputs = processor([query.picture()], processor.render(query.prompt))
    end = processor.tokenizer.eos_token_id
    ids = model.generate(**inputs, max_new_tokens=new, do_sample=False, eos_token_id=end, pad_token_id=end)
    reply = ids[0, inputs["input_ids"].shape[1] :]
    return processor.tokenizer.decode(reply, skip_special_tokens=True).strip()


@pytest.mark.parametrize(("batch_size", "batch_tokens"), [(1, None), (3, None), (16, None), (16, 300), (16, 1)])
def test_a_batch_gives_the_replies_of_one_by_one(teacher, batch_size, batch_tokens):
    processor, limits = models.processor(), {"batch_size": batch_size, "batch_tokens": batch_tokens}
    replies = generate(teacher, processor, queries(), max_new_tokens=12, **limits)
    assert replies == [one_by_one(teacher, processor, query, 12) for query in queries()]
    assert len(set(replies)) > 3


@pytest.mark.parametrize("max_bytes", [0, 5000, 2**20])
@pytest.mark.parametrize("name", ["cnn", "adaptive"])
def test_a_picture_passes_the_vit_once_for_all_models_while_it_fits(teacher, name, max_bytes, monkeypatch):
    seen = []

    def count(model, pixel_values):
        seen.append(len(pixel_values))
        return encode_tiles(model, pixel_values)

    monkeypatch.setattr("fcotvl.inference.pictures.encode_tiles", count)
    student = make_student(teacher, compressor=name, ratio=0.5, options=models.OPTIONS.get(name))
    processors = [models.processor(), processor_for(models.processor(), student.config)]
    plain = [generate(m, p, queries(), max_new_tokens=6) for m, p in zip([teacher, student], processors, strict=True)]
    tiles, encoder = sum(seen) // 2, PictureEncoder(max_bytes)
    seen.clear()
    for _ in range(2):
        for model, processor, replies in zip([teacher, student], processors, plain, strict=True):
            assert generate(model, processor, queries(), max_new_tokens=6, encoder=encoder) == replies
    # Of 5,000 bytes, the picture of one tile takes 4,096; an adaptive student's tiles are chosen anew.
    encoded = {0: 4 * tiles, 5000: 4 * tiles - 3, 2**20: tiles}
    if name == "adaptive":
        encoded |= {5000: 4 * tiles - 1, 2**20: 2 * tiles}
    assert sum(seen) == encoded[max_bytes]


@pytest.mark.parametrize("positions", ["consecutive", "spread"])
@pytest.mark.parametrize("name", ["cnn", "adaptive", "nested"])
def test_a_student_replies_as_by_transformers_own_generate(teacher, name, positions):
    options = models.OPTIONS.get(name)
    student = make_student(teacher, compressor=name, ratio=0.5, options=options, positions=positions)
    processor = processor_for(models.processor(), student.config)
    replies = generate(student, processor, queries(), max_new_tokens=6)
    assert replies == [one_by_one(student, processor, query, 6) for query in queries()]


def test_tiles_of_different_rates_share_a_batch_and_a_pruned_one(teacher):
    options = models.OPTIONS["adaptive"]
    student = make_student(teacher, compressor="adaptive", ratio=0.75, options=options, positions="spread")
    processor = processor_for(models.processor(), student.config)
    wide = processor.image_processor([queries()[1].picture()])
    assert wide["tile_tokens"] == [2, 2, 8]
    for pruning in (None, FastV(0.5)):
        together = generate(student, processor, queries(), max_new_tokens=4, pruning=pruning)
        alone = [generate(student, processor, [query], max_new_tokens=4, pruning=pruning)[0] for query in queries()]
        assert together == alone


def test_transformers_own_generate_repeats_such_pictures_for_several_replies(teacher):
    options = models.OPTIONS["adaptive"]
    student = make_student(teacher, compressor="adaptive", ratio=0.5, options=options, positions="spread")
    processor = processor_for(models.processor(), student.config)
    pictures = [models.picture(112, 56), models.picture()]
    inputs = processor(pictures, [processor.render("What?"), processor.render("Who?")])
    settings = {"max_new_tokens": 3, "num_beams": 2, "do_sample": False}
    both = student.generate(**inputs, **settings, num_return_sequences=2)
    best = student.generate(**inputs, **settings, num_return_sequences=1)
    assert torch.equal(both[::2, : best.shape[1]], best)


def test_rows_that_end_early_do_not_disturb_the_others(teacher):
    """Makes a common character the end of turn, so that rows end at different steps."""
    processor = models.processor()
    free = generate(teacher, processor, queries(), max_new_tokens=12)
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    common = max(set("".join(free)), key="".join(free).count)
    swap = processor.tokenizer.convert_tokens_to_ids(common)

    class Swapped(torch.nn.Module):
        def __init__(self, head):
            super().__init__()
            self.head = head

        def forward(self, states):
            logits = self.head(states)
            logits[..., [end, swap]] = logits[..., [swap, end]]
            return logits

    model = models.teacher()
    model.lm_head = Swapped(model.lm_head)
    replies = generate(model, processor, queries(), max_new_tokens=12)
    assert len({len(reply) for reply in replies}) > 1
    alone = [generate(model, processor, [query], max_new_tokens=12, batch_size=1)[0] for query in queries()]
    assert replies == alone


def test_a_reply_is_not_empty_where_it_must_have_a_token(teacher):
    """As transformers' ``min_new_tokens``: makes the first token of every reply the end of turn."""
    processor = models.processor()
    end = processor.tokenizer.eos_token_id
    model = models.teacher()
    with torch.no_grad():
        model.lm_head.weight[end] = 0
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(model.lm_head.out_features))
    model.lm_head.bias.data[end] = 1e4
    assert generate(model, processor, queries(), max_new_tokens=4) == [""] * 8
    replies = generate(model, processor, queries(), max_new_tokens=4, min_new_tokens=1)
    expected = []
    for query in queries():
        inputs = processor([query.picture()], processor.render(query.prompt))
        settings = {"max_new_tokens": 4, "min_new_tokens": 1, "do_sample": False, "eos_token_id": end}
        ids = model.generate(**inputs, **settings, pad_token_id=end)
        expected.append(processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    assert replies == [text.strip() for text in expected]
    assert len("".join(expected)) == 8


def test_samples_do_not_depend_on_the_batch(teacher):
    settings = {"samples": 3, "temperature": 1.0, "max_new_tokens": 8, "top_k": 20, "seed": 5}
    together = sample(teacher, models.processor(), queries(), **settings)
    alone = [sample(teacher, models.processor(), [query], **settings)[0] for query in queries()]
    assert together == alone == sample(teacher, models.processor(), queries(), batch_tokens=700, **settings)
    assert all(len(set(replies)) > 1 for replies in together)


def test_another_seed_gives_other_samples(teacher):
    settings = {"samples": 2, "temperature": 1.0, "max_new_tokens": 8}
    first, second = (sample(teacher, models.processor(), queries()[:2], seed=seed, **settings) for seed in (0, 1))
    assert first != second


def test_sampling_at_temperature_zero_is_refused(teacher):
    with pytest.raises(ValueError, match="use generate"):
        sample(teacher, models.processor(), [], samples=2, temperature=0.0, max_new_tokens=1)


def test_samples_follow_the_probabilities():
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().expand(10_000, -1)
    uniforms = torch.linspace(0, 1, 10_001)[:-1]
    chosen = choose(logits, Decoding(1, temperature=1.0), uniforms)
    assert chosen.bincount().tolist() == pytest.approx([1000, 2000, 3000, 4000], abs=1)


def test_top_k_leaves_out_the_rest_and_keeps_the_proportions():
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().expand(7_000, -1)
    uniforms = torch.linspace(0, 1, 7_001)[:-1]
    chosen = choose(logits, Decoding(1, temperature=1.0, top_k=2), uniforms)
    assert chosen.bincount().tolist() == pytest.approx([0, 0, 3000, 4000], abs=1)


def test_a_number_that_is_rounded_to_1_chooses_no_token_that_is_left_out():
    logits = torch.tensor([[0.3, 0.4, 0.2, 0.1]]).log()
    nearly = torch.tensor([1 - 2.0**-40], dtype=torch.float64)
    assert choose(logits, Decoding(1, temperature=1.0, top_k=2), nearly).tolist() == [1]


def test_each_picture_is_opened_once(teacher):
    opened = []

    def opener():
        opened.append(1)
        return models.picture()

    asked = [Query(opener, "same", prompt) for prompt in PROMPTS]
    generate(teacher, models.processor(), asked, max_new_tokens=2, batch_size=2)
    assert len(opened) == 1


@pytest.mark.parametrize(("pruning", "rows"), [(None, [3]), (FastV(0.5), [8])])
def test_prompts_about_a_picture_share_its_prefill_unless_the_words_decide_what_stays(
    teacher, monkeypatch, pruning, rows
):
    seen = []
    for decoder in (Decoder, PrunedDecoder):
        plain = decoder.prefill

        def prefill(self, input_ids, attention_mask, features, plain=plain):
            seen.append(len(input_ids))
            return plain(self, input_ids, attention_mask, features)

        monkeypatch.setattr(decoder, "prefill", prefill)
    generate(teacher, models.processor(), queries(), max_new_tokens=2, batch_size=16, pruning=pruning)
    assert seen == rows


def test_training_mode_is_restored(teacher):
    teacher.train()
    generate(teacher, models.processor(), queries()[:1], max_new_tokens=1)
    assert teacher.training
    teacher.eval()


def test_the_benchmark_compares_with_transformers_own_generate(tmp_path):
    options = {"questions": 2, "samples": 2, "pairs": 1, "rows": 4, "steps": 2, "max-new-tokens": 8, "leaving": 1}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, ROOT / "benchmarks/generate.py", *words, "--output", tmp_path / "found.json"]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["equal greedy replies"] == 2
    assert set(found["ratio"]) == {"fcotvl", "question by question", "batched"}
    assert all(len(seconds) == 1 for seconds in found["steps"].values())
    assert set(found["drafts"]) == {"without", "with"}
