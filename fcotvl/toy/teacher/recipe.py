"""The tiny teacher from nothing but the renderer: it learns to read, to find, then both at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import (
    GenerationConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from fcotvl.compress.processor import FcotvlImageProcessor, FcotvlProcessor
from fcotvl.core.prompts import MODES, reply
from fcotvl.toy.model import build_tiny, build_tokenizer
from fcotvl.toy.render import FAMILIES, render
from fcotvl.toy.teacher.join import join
from fcotvl.toy.teacher.oracle import Oracle
from fcotvl.toy.teacher.pack import TINY_PROMPTS, Packer
from fcotvl.toy.teacher.state import Progress
from fcotvl.toy.teacher.text import train_text
from fcotvl.toy.teacher.vision import Parts, PatchReader, train_vision

log = logging.getLogger(__name__)


READ, FOUND = 0.97, 0.95
"""What phases 1 and 2 should reach: characters read in place, and look-ups that start right."""


@dataclass(frozen=True)
class TeacherBudget:
    """How long each phase lasts; the defaults are those of the recipe at scale ``tiny``."""

    vision_steps: int = 4500
    """Phase 1: ViT and projector learn to read and to name what they read."""
    text_steps: int = 2500
    """Phase 2: the LLM finds and reasons on pictures that the oracle reads for it."""
    join_steps: int = 2600
    """Phase 3: everything together."""
    pages: int = 12
    """Pictures in a batch of phase 1."""
    chats: int = 8
    """Pictures in a batch of phases 2 and 3, each with about ten questions."""
    peak: float = 2e-3
    """Highest learning rate of phases 1 and 2."""
    join_peak: float = 1e-3
    vocabulary: int = 2048
    sample_pictures: int = 1500
    """Renders per family whose texts the tokenizer is learned from."""


SMOKE = TeacherBudget(
    vision_steps=4, text_steps=6, join_steps=3, pages=4, chats=2, sample_pictures=40
)
"""Goes through every phase in seconds; reads nothing."""


def sample_texts(pictures: int, seed: int) -> Iterator[str]:
    """All that is asked and answered about the first pictures of each family."""
    for index in range(pictures):
        for family in FAMILIES:
            for turn in render(family, "train", index, seed).turns:
                for mode in MODES if turn.rationale else MODES[:1]:
                    yield TINY_PROMPTS.ask(turn, mode)
                    yield reply(turn, mode)


def train_teacher(
    budget: TeacherBudget, *, seed: int, scratch: Path
) -> tuple[InternVLForConditionalGeneration, PreTrainedTokenizerFast]:
    """Train a teacher from random weights; run again with the same ``scratch``, it goes on.

    Args:
        budget: steps and batch sizes.
        seed: of weights and pictures.
        scratch: a folder for this budget and seed alone; it holds what a resumed run needs.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(sample_texts(budget.sample_pictures, seed), budget.vocabulary)
    model = build_tiny(tokenizer, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        oracle = Oracle(model.get_input_embeddings().weight)
        reader = PatchReader(oracle, model.config.vision_config.hidden_size)
    parts, packer = Parts(model, reader, oracle), Packer(tokenizer)
    vision, llm = model.model.vision_tower, model.model.language_model
    projector = model.model.multi_modal_projector
    b = budget

    def phase(name: str, **modules: nn.Module) -> Progress:
        log.info("phase %s", name)
        return Progress(scratch / name, modules)

    read = train_vision(
        parts, packer, phase("1-vision", vision=vision, projector=projector, reader=reader),
        steps=b.vision_steps, batch=b.pages, peak=b.peak, seed=seed,
    )  # fmt: skip
    _warn_below("reading", read.rates.get("read", 1.0), READ, "vision_steps")
    found = train_text(
        model, oracle, packer, phase("2-text", llm=llm),
        steps=b.text_steps, batch=b.chats, peak=b.peak, seed=seed,
    )  # fmt: skip
    _warn_below("finding", found.rates.get("extractive", 1.0), FOUND, "text_steps")
    join(
        parts, packer, phase("3-join", model=model.model, reader=reader),
        steps=b.join_steps, batch=b.chats, peak=b.join_peak, seed=seed,
    )  # fmt: skip
    return model, tokenizer


def _warn_below(what: str, reached: float, wanted: float, budget: str) -> None:
    if reached < wanted:
        log.warning(
            "%s ends at %.3f, below %.2f, and limits all that follows: raise train_teacher.%s",
            what, reached, wanted, budget,
        )  # fmt: skip


def save_teacher(
    model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write weights, config, tokenizer, chat template and processor as one checkpoint."""
    tile = model.config.vision_config.image_size[0]
    processor = FcotvlProcessor(
        FcotvlImageProcessor(tile_size=tile), tokenizer, image_seq_length=64
    )
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
