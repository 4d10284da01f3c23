"""The recipe of the tiny teacher, trained from random weights on renders in three phases."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import torch
from torch import nn
from transformers import GenerationConfig, InternVLForConditionalGeneration, PreTrainedTokenizerFast

from fcotvl.compress.processor import FcotvlImageProcessor, FcotvlProcessor
from fcotvl.core.config import TeacherBudget
from fcotvl.core.geometry import tokens_per_tile
from fcotvl.core.prompts import MODES, reply
from fcotvl.toy.model import build_tiny, build_tokenizer
from fcotvl.toy.render import FAMILIES, MAX_FACTS, render
from fcotvl.toy.teacher.batch import ExerciseBatch, pack
from fcotvl.toy.teacher.chats import TINY_PROMPTS, ChatBuilder, Contents
from fcotvl.toy.teacher.phase import Phase, StepResult, train_phase
from fcotvl.toy.teacher.samples import Curriculum, Sample, batches, to_characters
from fcotvl.toy.teacher.target_embeddings import TargetEmbeddings
from fcotvl.toy.teacher.text import exercise_losses, picture_losses
from fcotvl.toy.teacher.vision import PatchReader, TeacherParts, run_vision

log = logging.getLogger(__name__)

VISION_CURRICULUM: Curriculum = ((1.0, (MAX_FACTS,)),)
TEXT_CURRICULUM: Curriculum = ((0.3, (3, 4, 6)), (1.0, (4, 6, 12, 12)))
JOINT_CURRICULUM: Curriculum = ((1.0, (4, 6, 12, 12, 12, 12)),)
PRACTICE_SHARE = 0.25
"""Share of practice pages in phase 1."""
VISION_DISTANCE_WEIGHT, JOINT_DISTANCE_WEIGHT = 3.0, 1.0
"""Weight of the distance from the target embeddings."""
CONTENT_DROPOUT = 0.1
"""Share of contents that phase 2 leaves out of the target embeddings, as the ViT will miss some."""
JOINT_VISION_WEIGHT = 0.5
EXPECTED_READING, EXPECTED_LOOK_UPS = 0.97, 0.95
"""Accuracy that phases 1 and 2 should reach: characters in place, first tokens of look-ups."""


def sample_texts(pictures: int, seed: int) -> Iterator[str]:
    """All prompts and replies of the first pictures of each family."""
    for index in range(pictures):
        for family in FAMILIES:
            for turn in render(family, "train", index, seed).turns:
                for mode in MODES if turn.rationale else MODES[:1]:
                    yield TINY_PROMPTS.ask(turn, mode)
                    yield reply(turn, mode)


def train_teacher(
    budget: TeacherBudget, *, seed: int, scratch: Path
) -> tuple[InternVLForConditionalGeneration, PreTrainedTokenizerFast]:
    """Train a teacher from random weights; a stopped run resumes from ``scratch``.

    Args:
        budget: steps and batch sizes.
        seed: determines weights and pictures.
        scratch: a folder for this budget and seed alone; it holds the state of a stopped run.
    """
    tokenizer = build_tokenizer(sample_texts(budget.sample_pictures, seed), budget.vocabulary)
    model = build_tiny(tokenizer, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        targets = TargetEmbeddings(model.get_input_embeddings().weight)
        reader = PatchReader(targets, model.config.vision_config.hidden_size)
    parts = TeacherParts(model, reader, targets, ChatBuilder(tokenizer))

    def run(phase: Phase) -> dict[str, float]:
        return train_phase(phase, model, scratch / phase.name).rates

    read = run(_vision_phase(parts, budget, seed)).get("read", 1.0)
    _warn_below("reading", read, EXPECTED_READING, "vision_steps")
    found = run(_text_phase(parts, budget, seed)).get("extractive", 1.0)
    _warn_below("look-up", found, EXPECTED_LOOK_UPS, "text_steps")
    run(_joint_phase(parts, budget, seed))
    return model, tokenizer


def _vision_phase(parts: TeacherParts, budget: TeacherBudget, seed: int) -> Phase:
    """Train the ViT and the projector; the projected tokens should equal target embeddings."""
    model, steps = parts.model.model, budget.vision_steps
    modules: dict[str, nn.Module] = {
        "vision": model.vision_tower,
        "projector": model.multi_modal_projector,
        "reader": parts.reader,
    }
    source = partial(batches, VISION_CURRICULUM, practice_share=PRACTICE_SHARE)
    stream = partial(source, steps=steps, size=budget.pages, seed=seed)

    def step(samples: list[Sample], _: int) -> StepResult:
        return run_vision(parts, samples, distance_weight=VISION_DISTANCE_WEIGHT)[1]

    return Phase("1-vision", modules, step, stream, steps, budget.peak)


def _text_phase(parts: TeacherParts, budget: TeacherBudget, seed: int) -> Phase:
    """Train the LLM on target embeddings in place of pictures."""
    steps, llm = budget.text_steps, parts.model.model.language_model
    stream = partial(batches, TEXT_CURRICULUM, steps=steps, size=budget.chats, seed=seed + 1)

    def step(samples: list[Sample], number: int) -> StepResult:
        rng = Random(f"turns-{seed}-{number}")  # noqa: S311
        batch, contents = _language_inputs(parts, samples, rng)
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        kept = torch.rand(len(contents[0]), generator=generator) >= CONTENT_DROPOUT
        tile, token, row = (column[kept] for column in contents)
        visual = parts.target_embeddings(to_characters(samples), (tile, token, row))
        answers = picture_losses(parts.model, batch, visual, contents, parts.builder)
        return answers + exercise_losses(parts.model, parts.builder, rng)

    return Phase("2-text", {"llm": llm}, step, stream, steps, budget.peak)


def _joint_phase(parts: TeacherParts, budget: TeacherBudget, seed: int) -> Phase:
    """Train all parts on pictures; the losses of phase 1 stay as auxiliary losses."""
    steps, modules = budget.joint_steps, {"model": parts.model.model, "reader": parts.reader}
    stream = partial(batches, JOINT_CURRICULUM, steps=steps, size=budget.chats, seed=seed + 3)

    def step(samples: list[Sample], number: int) -> StepResult:
        rng = Random(f"join-{seed}-{number}")  # noqa: S311
        batch, contents = _language_inputs(parts, samples, rng)
        visual, seen = run_vision(parts, samples, distance_weight=JOINT_DISTANCE_WEIGHT)
        answers = picture_losses(parts.model, batch, visual, contents, parts.builder)
        exercises = exercise_losses(parts.model, parts.builder, rng)
        auxiliary = replace(seen, loss=JOINT_VISION_WEIGHT * seen.loss)
        return answers + auxiliary + exercises

    return Phase("3-joint", modules, step, stream, steps, budget.joint_peak)


def _language_inputs(parts: TeacherParts, samples: list[Sample], rng: Random) -> tuple[ExerciseBatch, Contents]:
    """Random turns about each sample, and what its visual tokens show."""
    chats = [parts.builder.sample_chats(sample, rng) for sample in samples]
    return pack(chats, parts.builder), parts.builder.content_rows(samples)


def _warn_below(what: str, accuracy: float, expected: float, budget: str) -> None:
    if accuracy < expected:
        log.warning(
            "%s accuracy ends at %.3f, below %.2f, which limits all later phases: raise "
            "train_teacher.%s",
            what, accuracy, expected, budget,
        )  # fmt: skip


def save_teacher(model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights, config, tokenizer, chat template and processor as one checkpoint."""
    tile_size = model.config.vision_config.image_size[0]
    processor = FcotvlProcessor(
        FcotvlImageProcessor(tile_size, max_tiles=1), tokenizer, image_seq_length=tokens_per_tile(tile_size)
    )
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
