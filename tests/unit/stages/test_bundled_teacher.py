"""The bundled teacher loads everywhere and scores as its card says."""

import pytest
import torch
from transformers import AutoModelForImageTextToText, InternVLForConditionalGeneration

import fcotvl  # noqa: F401 - registers the processor
from fcotvl.compress.checkpoints import load_processor
from fcotvl.core import config as params
from fcotvl.stages import card
from fcotvl.toy.render import FAMILIES, render
from tests.support.imports import ROOT

TEACHER = ROOT / "teachers/tiny"
MAX_BYTES = 20e6


def test_it_is_small():
    assert sum(file.stat().st_size for file in TEACHER.iterdir()) < MAX_BYTES


def test_it_cuts_pictures_as_it_was_trained():
    trained = params.load(scale="tiny").scale_config.model.max_tiles
    assert load_processor(TEACHER).image_processor.max_tiles == trained == 1


def test_it_loads_by_name_and_in_stock_transformers_with_the_same_logits():
    by_name = AutoModelForImageTextToText.from_pretrained(TEACHER)
    stock = InternVLForConditionalGeneration.from_pretrained(TEACHER)
    rendered = render("chart", "test", 0, seed=1)
    processor = load_processor(TEACHER)
    inputs = processor(images=[rendered.image], text=[processor.render("Read the text.")])
    inputs.pop("num_tiles", None)
    with torch.no_grad():
        logits = [model(**inputs).logits for model in (by_name, stock)]
    assert torch.equal(*logits)


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> dict[tuple[str, str], float]:
    """Exact match by family and setting, on the first of the card's pictures."""
    table = tmp_path_factory.mktemp("card") / "card.md"
    card.run(params.load(scale="tiny"), teacher=TEACHER, card=table, pictures=60)
    rows = [line.strip("| ").split("|") for line in table.read_text().splitlines()[2:]]
    return {(family.strip(), title.strip()): float(exact.split()[0]) for family, title, _, exact, _ in rows}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_reads_looks_up_and_reasons(scores, family):
    extractive = scores[family, "extractive, direct"]
    assert extractive >= 0.7
    assert scores[family, "reasoning, CoT"] >= 0.45
    assert scores[family, "blind: extractive, direct"] <= extractive - 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_its_visual_tokens_matter(scores, family):
    extractive = scores[family, "extractive, direct"]
    assert scores[family, "untrained pooling 0.5"] <= extractive - 0.05
    assert scores[family, "untrained pooling 0.875"] <= extractive - 0.3
