"""The parts of the teacher's recipe: targets, packing, losses, optimizer and resume."""

import re
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from fcotvl.compress.processor import FcotvlImageProcessor, FcotvlProcessor
from fcotvl.core.prompts import reply
from fcotvl.core.records import Turn
from fcotvl.toy.model import build_tiny, build_tokenizer
from fcotvl.toy.render import Glyph, render
from fcotvl.toy.teacher import pack
from fcotvl.toy.teacher.data import (
    CLASSES,
    SLOTS,
    Shown,
    Spot,
    draw_page,
    find_spots,
    gathered,
    patch_characters,
    shown_words,
    to_characters,
    to_pixels,
)
from fcotvl.toy.teacher.drill import SUMS, calculate, conclude, drills
from fcotvl.toy.teacher.optim import Optimizers, orthogonalise, warm_decay
from fcotvl.toy.teacher.oracle import Oracle
from fcotvl.toy.teacher.pack import END, TINY_PROMPTS, Chat, Packer
from fcotvl.toy.teacher.pointing import Watched
from fcotvl.toy.teacher.recipe import sample_texts
from fcotvl.toy.teacher.state import Progress
from fcotvl.toy.teacher.text import LOOK_LAYER
from fcotvl.toy.teacher.vision import contents_loss, project, reading_accuracy, reading_loss


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


def test_words_belong_to_every_visual_token_that_shows_a_part_of_them():
    glyphs = [Glyph("O", 20.0, 7.0, 0), Glyph("x", 30.0, 7.0, 0), Glyph(":", 36.0, 7.0, 0)]
    assert shown_words(glyphs) == (Shown(0, "Ox"), Shown(1, "Ox"))


def test_a_fact_stands_where_its_value_is_drawn_nearest_to_its_key():
    glyphs = [
        Glyph(char, 30.0 * at, 7.0, at) for at, char in enumerate(["3", "O", "3", "R", "4", "5"])
    ]
    spots = find_spots(glyphs, "O=3\nR=4 5")
    assert spots[0] in (
        Spot("O", "3", (1,), (0,), ((0, 2),)),
        Spot("O", "3", (1,), (2,), ((4, 2),)),
    )
    assert spots[1] == Spot("R", "4 5", (3,), (4, 5), ((8, 6), (10, 6)))
    keys = [shown.key for shown in shown_words(glyphs, spots)]
    assert keys in (["O", "", "", "", "R", "R"], ["", "", "O", "", "R", "R"])


def test_patches_of_a_word_look_at_its_first_patches():
    glyphs = [Glyph(c, 5.0 + 14 * at, 7.0, 0) for at, c in enumerate("Butter")]
    assert gathered(glyphs)[5] == (5, 0, 1, 2, 3)
    assert gathered(glyphs[:2]) == ((0, 0, 1, 1, 1), (1, 0, 1, 1, 1))


@pytest.mark.parametrize("family", ["document", "chart", "infographic"])
def test_every_fact_of_a_render_is_found_where_it_is_drawn(family):
    for index in range(40):
        drawn = render(family, "train", index, 1)
        spots = find_spots(drawn.glyphs, drawn.table)
        assert [f"{s.key}={s.value}" for s in spots] == drawn.table.splitlines()
        assert all(len(s.value_at) == len(s.value.replace(" ", "")) for s in spots)


def test_tokens_of_a_reply_point_at_what_shows_them(tokenizer):
    packer, page = Packer(tokenizer), draw_page(3, 0)
    shown = {(word.place, char) for word in page.words for char in word.word}
    asked = {spot.key for spot in page.spots} | {spot.value for spot in page.spots}
    for turn in page.render.turns:
        for mode in ("direct", "cot") if turn.rationale else ("direct",):
            chat = packer.chat(turn, mode, page.spots, page.reading)
            assert chat.points or (turn.kind, mode) == ("reason", "direct")
            whole = chat.prompt + chat.reply
            for point in chat.points:
                first = tokenizer.decode([chat.reply[point.at]]).strip()[0]
                assert (point.look, first) in shown | {(point.look, ":")}
                if point.asked >= 0:
                    name = tokenizer.decode([whole[point.asked]]).strip()
                    assert any(fact.startswith(name) for fact in asked)


def test_heads_that_look_where_they_should_cost_nothing(tokenizer, model):
    packer, page = Packer(tokenizer), draw_page(3, 0)
    packed = packer.pack([[packer.chat(t, "direct", page.spots) for t in page.render.turns[1:4]]])
    llm = model.model.language_model
    row, query, look = packed.points[:, :3].unbind(1)
    with torch.no_grad(), Watched([llm.layers[LOOK_LAYER].self_attn]) as (glance,):
        llm(
            input_ids=packed.input_ids,
            attention_mask=packed.mask,
            position_ids=packed.position_ids,
        )
        told = glance.cost(row, query, look[:, None].expand(-1, 2), packed.mask)
    llm.set_attn_implementation("eager")
    with torch.no_grad():
        weights = llm(
            input_ids=packed.input_ids,
            attention_mask=packed.mask,
            position_ids=packed.position_ids,
            output_attentions=True,
        ).attentions[LOOK_LAYER]
    llm.set_attn_implementation("sdpa")
    wanted = -weights[row, :2, query, look].log().mean()
    assert torch.allclose(told, wanted, atol=1e-5)


def test_contents_that_a_linear_map_finds_cost_nothing():
    table = torch.eye(6)
    head = torch.nn.Linear(6, 6)
    with torch.no_grad():
        head.weight.copy_(50 * table)
        head.bias.zero_()
    visual = torch.zeros(1, 64, 6)
    visual[0, 3, 1], visual[0, 9, 4] = 1, 1
    shown = (torch.tensor([0, 0]), torch.tensor([3, 9]), torch.tensor([1, 4]))
    cost, share = contents_loss(head, visual, shown, (0, 2, 6))
    assert cost < 1e-6
    assert share == 1


def test_words_are_tokens_and_numbers_are_spelled(tokenizer):
    packer = Packer(tokenizer)
    size = len(tokenizer)
    (token,) = packer.ids("Jan")
    page, place, row = packer.contents([[Shown(9, "Jan"), Shown(11, "45", "Jan")]])
    assert page.tolist() == [0] * 4
    assert place.tolist() == [9, 11, 11, 11]
    assert row.tolist() == [token, 2 * size + 5, 2 * size + CLASSES + 6, size + token]


def test_pixels_are_those_of_the_processor(tokenizer):
    page = draw_page(0, 0)
    processor = FcotvlImageProcessor(tile_size=224, max_tiles=1)
    wanted = processor(page.render.image, return_tensors="pt")["pixel_values"]
    assert torch.allclose(to_pixels([page]), wanted, atol=1e-5)


def test_packed_tokens_are_those_of_the_chat_template(tokenizer):
    processor = FcotvlProcessor(FcotvlImageProcessor(224, 1), tokenizer, image_seq_length=64)
    packer = Packer(tokenizer)
    turn = render("chart", "train", 0, 0).turns[1]
    for mode in ("direct", "cot"):
        chat = packer.chat(turn, mode)
        given, labels = processor.encode(TINY_PROMPTS.ask(turn, mode), reply(turn, mode), 1)
        assert given == packer.prefix + chat.prompt + chat.reply
        assert [label for label in labels if label >= 0] == chat.reply


def test_the_answer_of_a_chain_of_thought_starts_where_it_is_said_to(tokenizer):
    packer = Packer(tokenizer)
    for turn in render("document", "train", 3, 0).turns[1:]:
        chat = packer.chat(turn, "cot")
        answer = tokenizer.decode(chat.reply[chat.answer_at : -1])
        assert answer.strip() == turn.answers[0]


def test_packed_turns_do_not_see_each_other(tokenizer, model):
    packer, llm = Packer(tokenizer), model.model.language_model
    chats = [packer.chat(turn, "direct") for turn in render("chart", "train", 1, 0).turns[1:4]]
    packed = packer.pack([chats])
    start = len(packer.prefix)
    stop = start + len(chats[0].prompt) + len(chats[0].reply) - 1

    def hidden(ids):
        with torch.no_grad():
            return llm(
                input_ids=ids, attention_mask=packed.mask, position_ids=packed.position_ids
            ).last_hidden_state[0]

    one, other = packed.input_ids, packed.input_ids.clone()
    other[0, start:stop] = 7  # another first turn
    assert torch.equal(hidden(one)[stop:], hidden(other)[stop:])
    assert not torch.equal(hidden(one)[start:stop], hidden(other)[start:stop])
    other[0, 5] = 7  # another picture
    assert not torch.equal(hidden(one)[stop:], hidden(other)[stop:])


def test_a_packed_turn_is_read_as_a_lone_one(tokenizer, model):
    packer, llm = Packer(tokenizer), model.model.language_model
    chats = [packer.chat(turn, "direct") for turn in render("chart", "train", 1, 0).turns[1:3]]
    packed = packer.pack([chats])
    lone = torch.tensor([packer.prefix + chats[1].prompt + chats[1].reply[:-1]])
    with torch.no_grad():
        together = llm(
            input_ids=packed.input_ids,
            attention_mask=packed.mask,
            position_ids=packed.position_ids,
        ).last_hidden_state[0]
        alone = llm(input_ids=lone).last_hidden_state[0]
    size = len(chats[1].prompt) + len(chats[1].reply) - 1
    assert torch.allclose(together[-size:], alone[-size:], atol=1e-4)


def test_a_recital_trains_the_values_and_not_which_key_comes_next(tokenizer):
    packer = Packer(tokenizer)
    spots = [Spot("Jan", "45", (0,) * 3, (1, 1)), Spot("Feb", "52", (8,) * 3, (9, 9))]
    chat = packer.recite(spots, Random(0))
    trained = [t for t, w in zip(chat.reply, chat.weights, strict=True) if w]
    assert tokenizer.decode(trained) in ("4552", "5245")
    assert sorted(point.look for point in chat.points) == [1, 1, 9, 9]
    assert tokenizer.decode(chat.reply[chat.answer_at]) in "45"


def test_a_packer_does_not_grow_with_what_it_has_read(tokenizer, monkeypatch):
    monkeypatch.setattr(pack, "REMEMBERED", 5)
    packer = Packer(tokenizer)
    texts = [f"Oats {amount}" for amount in range(30)] * 2
    assert [tokenizer.decode(packer.ids(text)) for text in texts] == texts
    assert len(packer._known) <= 5


def trained(tokenizer, chat: Chat) -> str:
    return tokenizer.decode([t for t, w in zip(chat.reply, chat.weights, strict=True) if w])


def test_sums_are_right_and_results_alone_are_trained(tokenizer):
    chat = calculate(Packer(tokenizer), Random(3))
    text = tokenizer.decode(chat.reply)
    problems = re.findall(r"(\S+) ([+-]) (\S+) = (\S+?)\. ", text)
    assert len(problems) == SUMS
    for left, sign, right, result in problems:
        a, b, c = (float(re.sub(r"[$%k]", "", number)) for number in (left, right, result))
        assert c == pytest.approx(a + b if sign == "+" else a - b)
    assert trained(tokenizer, chat).replace(" ", "") == "".join(p[3] for p in problems)
    assert tokenizer.decode(chat.reply[chat.answer_at :]).lstrip().startswith(problems[-1][3])


def test_a_conclusion_is_trained_and_what_it_rests_on_is_given(tokenizer):
    for seed in range(40):
        chat = conclude(Packer(tokenizer), Random(seed))
        given, _, rest = tokenizer.decode(chat.reply).rpartition(trained(tokenizer, chat))
        assert re.fullmatch(r"(\w+ [$]?[\d.]+[%k]?(, |\. ?))+", given)
        assert not rest
        conclusion, _, answer = trained(tokenizer, chat).removesuffix(END).partition("\nAnswer: ")
        reached = tokenizer.decode(chat.reply[chat.answer_at :]).lstrip()
        assert answer
        assert reached.startswith((answer, answer.lstrip("$")))
        best = {"largest": max, "larger": max, "smallest": min, "smaller": min, "-": max}
        word = next((word for word in best if f" {word} " in conclusion), None)
        words = [*chat.prompt, *chat.reply]
        quotes = [quote.rpartition(" ") for quote in given.strip(" .").split(", ")]
        keys = [tokenizer.decode(words[p.asked]).strip() for p in chat.points if p.asked >= 0]
        for key, begins in zip(sorted(key for key, _, _ in quotes), sorted(keys), strict=True):
            assert key.startswith(begins)
        told = [point for point in chat.points if point.quoted >= 0]
        assert len(told) == (word is not None)
        for point in told:
            _, _, value = best[word](quotes, key=lambda q: float(q[2].strip("$%k")))
            assert tokenizer.decode(words[: point.quoted + 1]).endswith(f" {value}")


def test_drills_hold_both_kinds_at_about_one_length(tokenizer):
    packer = Packer(tokenizer)
    rows = drills(packer, Random(0))
    packed = packer.pack(rows, pictured=False)
    assert {kind for row in packed.first.tolist() for kind in row} == {0, 7, 8}
    assert (packed.input_ids > 0).float().mean() > 0.7
    assert packed.input_ids[0, : len(packer.bare)].tolist() == packer.bare


def test_a_listed_fact_is_named_by_the_question_or_by_the_one_before(tokenizer):
    packer = Packer(tokenizer)
    spots = [Spot("Oats", "45", (0,) * 4, (1, 1)), Spot("Rice", "52", (8,) * 4, (9, 9))]
    listed = Turn("", "Which has the largest value?", ("Rice",), "reason", "Oats 45, Rice 52. The")
    named = replace(listed, question="Which is larger, Rice or Oats?")
    for turn, wanted in ((listed, [None, "Oats"]), (named, ["Oats", "Rice"])):
        chat = packer.chat(turn, "cot", spots)
        words = [*chat.prompt, *chat.reply]
        keys = [p for p in chat.points if tokenizer.decode(chat.reply[p.at]) in ("Oats", "Rice")]
        assert [p.look for p in keys] == [0, 8]
        asked = [tokenizer.decode(words[p.asked]).strip() if p.asked >= 0 else None for p in keys]
        assert asked == wanted
        if turn is named:
            assert all(p.asked < len(chat.prompt) for p in keys)


def test_visual_tokens_come_in_the_oracles_order(model):
    features = torch.zeros(1, 256, model.config.vision_config.hidden_size)
    with torch.no_grad():
        empty = project(model, features)
        features[0, 2 * 16 + 5] = torch.randn(features.size(2))  # third row, sixth column
        moved = (project(model, features) - empty).abs().sum(-1)[0].nonzero().flatten()
    assert moved.tolist() == [1 * 8 + 2]


def test_the_oracle_adds_letters_and_contents_where_they_stand():
    oracle = Oracle(torch.randn(10, 8))
    characters = torch.zeros(1, 256, SLOTS, dtype=torch.long)
    none = tuple(torch.zeros(0, dtype=torch.long) for _ in range(3))
    word = (torch.tensor([0]), torch.tensor([63]), torch.tensor([4]))
    blank = oracle(characters, none)
    assert torch.allclose(blank[0], oracle.place)
    assert torch.allclose(oracle(characters, word)[0, 63] - blank[0, 63], oracle.table[4])
    characters[0, 0, 0] = 3
    assert not torch.equal(oracle(characters, none)[0, 0], blank[0, 0])


def test_perfect_reading_costs_nothing_and_counts_as_right():
    target = to_characters([draw_page(1, 0)])
    logits = 50 * torch.nn.functional.one_hot(target, CLASSES).float()
    assert reading_loss(logits, target) < 1e-6
    assert reading_accuracy(logits, target) == 1


def test_orthogonalised_matrices_have_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((3, 8, 20), (2, 20, 8)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_the_learning_rate_rises_stays_and_falls():
    rates = [warm_decay(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] < rates[50] < rates[99] == rates[500] == 1.0
    assert rates[999] == pytest.approx(0.05)


def _steps(folder, stops):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.LayerNorm(6))
    for stop in stops:
        optimizers = Optimizers([module])
        progress = Progress(folder, {"module": module}, every_s=0.0)
        for step in progress.steps(optimizers, 9, 0.01):
            if step == stop:
                break  # killed in the midst of it
            source = torch.Generator().manual_seed(step)
            loss = module(torch.randn(4, 6, generator=source)).square().mul(torch.arange(6.0)).sum()
            loss.backward()
    assert progress.done == 9
    return np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    whole, pieces = _steps(tmp_path / "a", [None]), _steps(tmp_path / "b", [4, None])
    assert np.array_equal(whole, pieces)
