"""Parts of the teacher's recipe: samples, chats, batches, losses, optimizer and resuming."""

import re
from dataclasses import replace
from itertools import repeat
from random import Random

import numpy as np
import pytest
import torch

from fcotvl.compress.processor import FcotvlImageProcessor, FcotvlProcessor
from fcotvl.core.prompts import TURN_END, reply
from fcotvl.core.records import Turn
from fcotvl.toy.model import build_tiny, build_tokenizer
from fcotvl.toy.render import Glyph, render
from fcotvl.toy.teacher import chats
from fcotvl.toy.teacher.attention_supervision import probe_attention
from fcotvl.toy.teacher.batch import pack
from fcotvl.toy.teacher.chats import TINY_PROMPTS, ChatBuilder, SupervisedChat
from fcotvl.toy.teacher.phase import Phase, RunningAccuracy, StepResult, train_phase, warmup_stable_decay
from fcotvl.toy.teacher.recipe import sample_texts
from fcotvl.toy.teacher.samples import (
    CLASSES,
    SLOTS,
    FactLocation,
    TokenContent,
    draw_sample,
    locate_facts,
    patch_characters,
    to_characters,
    to_pixels,
    token_contents,
    word_patches,
)
from fcotvl.toy.teacher.target_embeddings import TargetEmbeddings
from fcotvl.toy.teacher.text import VALUE_LAYER
from fcotvl.toy.teacher.text_exercises import SUMS, arithmetic, conclusion, text_exercises
from fcotvl.toy.teacher.vision import content_loss, project, reading_accuracy, reading_loss


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(sample_texts(60, seed=0), vocab_size=1400)


@pytest.fixture(scope="module")
def model(tokenizer):
    return build_tiny(tokenizer, seed=0)


def test_characters_fall_into_their_patches_from_left_to_right():
    glyphs = [Glyph("7", 20.0, 7.0, 0), Glyph("4", 16.0, 7.0, 0), Glyph("A", 3.0, 30.0, 1)]
    target = patch_characters(glyphs)
    assert target[1].tolist() == [5, 8, 0]
    assert target[32].tolist() == [11, 0, 0]
    assert (target > 0).sum() == 3


def test_a_word_is_the_content_of_every_visual_token_that_shows_a_part_of_it():
    glyphs = [Glyph("O", 20.0, 7.0, 0), Glyph("x", 30.0, 7.0, 0), Glyph(":", 36.0, 7.0, 0)]
    assert token_contents(glyphs) == (TokenContent(0, "Ox"), TokenContent(1, "Ox"))


def test_the_value_nearest_to_its_key_is_located():
    glyphs = [Glyph(char, 30.0 * at, 7.0, at) for at, char in enumerate(["3", "O", "3", "R", "4", "5"])]
    facts = locate_facts(glyphs, "O=3\nR=4 5")
    assert facts[0] in (FactLocation("O", "3", (1,), (0,), ((0, 2),)), FactLocation("O", "3", (1,), (2,), ((4, 2),)))
    assert facts[1] == FactLocation("R", "4 5", (3,), (4, 5), ((8, 6), (10, 6)))
    keys = [content.key for content in token_contents(glyphs, facts)]
    assert keys in (["O", "", "", "", "R", "R"], ["", "", "O", "", "R", "R"])


def test_patches_of_a_word_attend_to_its_first_patches():
    glyphs = [Glyph(c, 5.0 + 14 * at, 7.0, 0) for at, c in enumerate("Butter")]
    assert word_patches(glyphs)[5] == (5, 0, 1, 2, 3)
    assert word_patches(glyphs[:2]) == ((0, 0, 1, 1, 1), (1, 0, 1, 1, 1))


@pytest.mark.parametrize("family", ["document", "chart", "infographic"])
def test_every_fact_of_a_render_is_located(family):
    for index in range(40):
        drawn = render(family, "train", index, 1)
        facts = locate_facts(drawn.glyphs, drawn.table)
        assert [f"{fact.key}={fact.value}" for fact in facts] == drawn.table.splitlines()
        assert all(len(f.value_tokens) == len(f.value.replace(" ", "")) for f in facts)


def test_attention_targets_of_a_reply_are_the_visual_tokens_that_show_it(tokenizer):
    builder, sample = ChatBuilder(tokenizer), draw_sample(3, 0)
    shown = {(content.token, char) for content in sample.contents for char in content.word}
    names = {f.key for f in sample.facts} | {f.value for f in sample.facts}
    for turn in sample.rendered.turns:
        for mode in ("direct", "cot") if turn.rationale else ("direct",):
            chat = builder.chat(turn, mode, sample.facts, sample.reading_order)
            assert chat.targets or (turn.kind, mode) == ("reason", "direct")
            whole = chat.prompt + chat.reply
            for target in chat.targets:
                first = tokenizer.decode([chat.reply[target.position]]).strip()[0]
                assert (target.visual_token, first) in shown | {(target.visual_token, ":")}
                if target.name_position >= 0:
                    name = tokenizer.decode([whole[target.name_position]]).strip()
                    assert any(known.startswith(name) for known in names)


def test_the_attention_loss_is_the_cross_entropy_of_the_heads_attention(tokenizer, model):
    builder, sample = ChatBuilder(tokenizer), draw_sample(3, 0)
    batch = pack([[builder.chat(t, "direct", sample.facts) for t in sample.rendered.turns[1:4]]], builder)
    llm = model.model.language_model
    row, query, target = batch.targets[:, :3].unbind(1)
    with torch.no_grad(), probe_attention([llm.layers[VALUE_LAYER].self_attn]) as (probe,):
        llm(input_ids=batch.input_ids, attention_mask=batch.mask, position_ids=batch.position_ids)
        loss = probe.loss(row, query, target[:, None].expand(-1, 2), batch.mask)
    llm.set_attn_implementation("eager")
    with torch.no_grad():
        weights = llm(
            input_ids=batch.input_ids,
            attention_mask=torch.where(batch.mask, 0.0, -torch.inf),
            position_ids=batch.position_ids,
            output_attentions=True,
        ).attentions[VALUE_LAYER]
    llm.set_attn_implementation("sdpa")
    expected = -weights[row, :2, query, target].log().mean()
    assert torch.allclose(loss, expected, atol=1e-5)


def test_contents_that_a_linear_map_finds_have_no_loss():
    table = torch.eye(6)
    head = torch.nn.Linear(6, 6)
    with torch.no_grad():
        head.weight.copy_(50 * table)
        head.bias.zero_()
    visual = torch.zeros(1, 64, 6)
    visual[0, 3, 1], visual[0, 9, 4] = 1, 1
    contents = (torch.tensor([0, 0]), torch.tensor([3, 9]), torch.tensor([1, 4]))
    loss, accuracy = content_loss(head, visual, contents, (0, 2, 6))
    assert loss < 1e-6
    assert accuracy == 1


def test_words_are_tokens_and_numbers_are_spelled(tokenizer):
    builder = ChatBuilder(tokenizer)
    size = len(tokenizer)
    (token,) = builder.ids("Jan")
    sample = replace(draw_sample(0, 0), contents=(TokenContent(9, "Jan"), TokenContent(11, "45", "Jan")))
    tile, visual_token, row = builder.content_rows([sample])
    assert tile.tolist() == [0] * 4
    assert visual_token.tolist() == [9, 11, 11, 11]
    assert row.tolist() == [token, 2 * size + 5, 2 * size + CLASSES + 6, size + token]


def test_pixels_are_those_of_the_processor(tokenizer):
    sample = draw_sample(0, 0)
    processor = FcotvlImageProcessor(tile_size=224, max_tiles=1)
    expected = processor(sample.rendered.image, return_tensors="pt")["pixel_values"]
    assert torch.allclose(to_pixels([sample]), expected, atol=1e-5)


def test_packed_tokens_are_those_of_the_chat_template(tokenizer):
    processor = FcotvlProcessor(FcotvlImageProcessor(224, 1), tokenizer, image_seq_length=64)
    builder = ChatBuilder(tokenizer)
    turn = render("chart", "train", 0, 0).turns[1]
    for mode in ("direct", "cot"):
        chat = builder.chat(turn, mode)
        ids, labels = processor.encode(TINY_PROMPTS.ask(turn, mode), reply(turn, mode), 1)
        assert ids == builder.image_prefix + chat.prompt + chat.reply
        assert [label for label in labels if label >= 0] == chat.reply


def test_the_answer_of_a_chain_of_thought_starts_at_its_answer_position(tokenizer):
    builder = ChatBuilder(tokenizer)
    for turn in render("document", "train", 3, 0).turns[1:]:
        chat = builder.chat(turn, "cot")
        answer = tokenizer.decode(chat.reply[chat.answer_position : -1])
        assert answer.strip() == turn.answers[0]


def test_packed_turns_do_not_see_each_other(tokenizer, model):
    builder, llm = ChatBuilder(tokenizer), model.model.language_model
    turns = [builder.chat(turn, "direct") for turn in render("chart", "train", 1, 0).turns[1:4]]
    batch = pack([turns], builder)
    start = len(builder.image_prefix)
    stop = start + len(turns[0].prompt) + len(turns[0].reply) - 1

    def hidden(ids):
        with torch.no_grad():
            return llm(input_ids=ids, attention_mask=batch.mask, position_ids=batch.position_ids).last_hidden_state[0]

    one, other = batch.input_ids, batch.input_ids.clone()
    other[0, start:stop] = 7  # another first turn
    assert torch.equal(hidden(one)[stop:], hidden(other)[stop:])
    assert not torch.equal(hidden(one)[start:stop], hidden(other)[start:stop])
    other[0, 5] = 7  # another picture
    assert not torch.equal(hidden(one)[stop:], hidden(other)[stop:])


def test_a_packed_turn_has_the_hidden_states_of_a_lone_one(tokenizer, model):
    builder, llm = ChatBuilder(tokenizer), model.model.language_model
    turns = [builder.chat(turn, "direct") for turn in render("chart", "train", 1, 0).turns[1:3]]
    batch = pack([turns], builder)
    lone = torch.tensor([builder.image_prefix + turns[1].prompt + turns[1].reply[:-1]])
    with torch.no_grad():
        together = llm(
            input_ids=batch.input_ids, attention_mask=batch.mask, position_ids=batch.position_ids
        ).last_hidden_state[0]
        alone = llm(input_ids=lone).last_hidden_state[0]
    size = len(turns[1].prompt) + len(turns[1].reply) - 1
    assert torch.allclose(together[-size:], alone[-size:], atol=1e-4)


def test_a_listing_trains_the_values_and_not_the_order_of_keys(tokenizer):
    builder = ChatBuilder(tokenizer)
    facts = [FactLocation("Jan", "45", (0,) * 3, (1, 1)), FactLocation("Feb", "52", (8,) * 3, (9, 9))]
    chat = builder.listing(facts, Random(0))
    trained = [t for t, w in zip(chat.reply, chat.weights, strict=True) if w]
    assert tokenizer.decode(trained) in ("4552", "5245")
    assert sorted(target.visual_token for target in chat.targets) == [1, 1, 9, 9]
    assert tokenizer.decode(chat.reply[chat.answer_position]) in "45"


def test_the_cache_of_a_builder_does_not_grow_without_bound(tokenizer, monkeypatch):
    monkeypatch.setattr(chats, "CACHED_TEXTS", 5)
    builder = ChatBuilder(tokenizer)
    texts = [f"Oats {amount}" for amount in range(30)] * 2
    assert [tokenizer.decode(builder.ids(text)) for text in texts] == texts
    assert len(builder._cache) <= 5


def trained(tokenizer, chat: SupervisedChat) -> str:
    return tokenizer.decode([t for t, w in zip(chat.reply, chat.weights, strict=True) if w])


def test_sums_are_right_and_only_results_are_trained(tokenizer):
    chat = arithmetic(ChatBuilder(tokenizer), Random(3))
    text = tokenizer.decode(chat.reply)
    problems = re.findall(r"(\S+) ([+-]) (\S+) = (\S+?)\. ", text)
    assert len(problems) == SUMS
    for left, sign, right, result in problems:
        a, b, c = (float(re.sub(r"[$%k]", "", number)) for number in (left, right, result))
        assert c == pytest.approx(a + b if sign == "+" else a - b)
    assert trained(tokenizer, chat).replace(" ", "") == "".join(p[3] for p in problems)
    assert tokenizer.decode(chat.reply[chat.answer_position :]).lstrip().startswith(problems[-1][3])


def test_a_conclusion_is_trained_and_the_quoted_values_are_given(tokenizer):
    for seed in range(40):
        chat = conclusion(ChatBuilder(tokenizer), Random(seed))
        given, _, rest = tokenizer.decode(chat.reply).rpartition(trained(tokenizer, chat))
        assert re.fullmatch(r"(\w+ [$]?[\d.]+[%k]?(, |\. ?))+", given)
        assert not rest
        conclusion_text, _, answer = trained(tokenizer, chat).removesuffix(TURN_END).partition("\nAnswer: ")
        reached = tokenizer.decode(chat.reply[chat.answer_position :]).lstrip()
        assert answer
        assert reached.startswith((answer, answer.lstrip("$")))
        best = {"largest": max, "larger": max, "smallest": min, "smaller": min, "-": max}
        word = next((word for word in best if f" {word} " in conclusion_text), None)
        words = [*chat.prompt, *chat.reply]
        quotes = [quote.rpartition(" ") for quote in given.strip(" .").split(", ")]
        keys = [tokenizer.decode(words[t.name_position]).strip() for t in chat.targets if t.name_position >= 0]
        for key, begins in zip(sorted(key for key, _, _ in quotes), sorted(keys), strict=True):
            assert key.startswith(begins)
        deciding = [target for target in chat.targets if target.quote_position >= 0]
        assert len(deciding) == (word is not None)
        for target in deciding:
            _, _, value = best[word](quotes, key=lambda q: float(q[2].strip("$%k")))
            assert tokenizer.decode(words[: target.quote_position + 1]).endswith(f" {value}")


def test_text_exercises_hold_both_kinds_in_rows_of_similar_length(tokenizer):
    builder = ChatBuilder(tokenizer)
    rows = text_exercises(builder, Random(0))
    batch = pack(rows, builder, with_picture=False)
    assert {kind for row in batch.answer_kind.tolist() for kind in row} == {0, 7, 8}
    assert (batch.input_ids > 0).float().mean() > 0.7
    assert batch.input_ids[0, : len(builder.text_prefix)].tolist() == builder.text_prefix


def test_a_quoted_fact_is_named_by_the_question_or_by_the_fact_before(tokenizer):
    builder = ChatBuilder(tokenizer)
    facts = [FactLocation("Oats", "45", (0,) * 4, (1, 1)), FactLocation("Rice", "52", (8,) * 4, (9, 9))]
    listed = Turn("", "Which has the largest value?", ("Rice",), "reason", "Oats 45, Rice 52. The")
    comparison = replace(listed, question="Which is larger, Rice or Oats?")
    for turn, expected in ((listed, [None, "Oats"]), (comparison, ["Oats", "Rice"])):
        chat = builder.chat(turn, "cot", facts)
        words = [*chat.prompt, *chat.reply]
        keys = [target for target in chat.targets if tokenizer.decode(chat.reply[target.position]) in ("Oats", "Rice")]
        assert [target.visual_token for target in keys] == [0, 8]
        named = [target.name_position for target in keys]
        names = [tokenizer.decode(words[at]).strip() if at >= 0 else None for at in named]
        assert names == expected
        if turn is comparison:
            assert all(at < len(chat.prompt) for at in named)


def test_visual_tokens_are_in_the_order_of_target_embeddings(model):
    features = torch.zeros(1, 256, model.config.vision_config.hidden_size)
    with torch.no_grad():
        empty = project(model, features)
        features[0, 2 * 16 + 5] = torch.randn(features.size(2))  # third row, sixth column
        moved = (project(model, features) - empty).abs().sum(-1)[0].nonzero().flatten()
    assert moved.tolist() == [1 * 8 + 2]


def test_target_embeddings_add_letters_and_contents_of_each_token():
    targets = TargetEmbeddings(torch.randn(10, 8))
    characters = torch.zeros(1, 256, SLOTS, dtype=torch.long)
    none = tuple(torch.zeros(0, dtype=torch.long) for _ in range(3))
    word = (torch.tensor([0]), torch.tensor([63]), torch.tensor([4]))
    blank = targets(characters, none)
    assert torch.allclose(blank[0], targets.positions)
    assert torch.allclose(targets(characters, word)[0, 63] - blank[0, 63], targets.table[4])
    characters[0, 0, 0] = 3
    assert not torch.equal(targets(characters, none)[0, 0], blank[0, 0])


def test_perfect_reading_has_no_loss_and_full_accuracy():
    target = to_characters([draw_sample(1, 0)])
    logits = 50 * torch.nn.functional.one_hot(target, CLASSES).float()
    assert reading_loss(logits, target) < 1e-6
    assert reading_accuracy(logits, target) == 1


def test_the_learning_rate_rises_stays_and_falls():
    rates = [warmup_stable_decay(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] < rates[50] < rates[99] == rates[500] == 1.0
    assert rates[999] == pytest.approx(0.05)


def _train(folder, stops):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.LayerNorm(6))
    steps = []
    for stop in stops:

        def step(_, number, stop=stop):
            if number == stop:
                raise KeyboardInterrupt
            steps.append(number)
            source = torch.Generator().manual_seed(number)
            output = module(torch.randn(4, 6, generator=source))
            return StepResult(output.square().mul(torch.arange(6.0)).sum(), {"all": (1.0, 2)}, {})

        phase = Phase("test", {"module": module}, step, lambda _: repeat([]), 9, 0.01)
        try:
            train_phase(phase, module, folder, save_seconds=0.0)
        except KeyboardInterrupt:
            assert stop is not None
    assert steps == list(range(9))
    return np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])


def test_a_resumed_phase_ends_where_an_uninterrupted_one_does(tmp_path):
    uninterrupted, resumed = _train(tmp_path / "a", [None]), _train(tmp_path / "b", [4, None])
    assert np.array_equal(uninterrupted, resumed)


def test_the_running_accuracy_moves_slowly():
    accuracy = RunningAccuracy()
    accuracy.add({"sums": (3.0, 4)})
    accuracy.add({"sums": (0.0, 4), "reading": (1.0, 1)})
    assert accuracy.rates == {"sums": pytest.approx(0.98 * 0.75), "reading": 1.0}
