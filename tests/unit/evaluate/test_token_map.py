"""The areas of visual tokens divide a picture, and are those that the compressor reads."""

import pytest
import torch
from PIL import Image, ImageChops

from fcotvl.compress import compressors
from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.core.errors import ParamsError
from fcotvl.core.geometry import compressed, group
from fcotvl.core.prompts import IMAGE_TOKEN
from fcotvl.evaluate.token_map import Area, TokenMap, areas, draw, token_map
from fcotvl.inference import pruning
from fcotvl.inference.pruned_decoding import System
from tests.support import models

PROMPT = "Total? Answer briefly."
SIDE = 4
STUDENTS = [(name, ratio) for name in compressors.available() for ratio in compressors.ratios(name)]


def student(name, ratio):
    """A student none of whose weights is special."""
    made = make_student(models.teacher(), compressor=name, ratio=ratio, options=models.OPTIONS.get(name))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in made.model.compressor.parameters():
            parameter.normal_(std=0.1)
    return made


def mapped(model, picture=None, system=None):
    processor = processor_for(models.processor(), model.config)
    return token_map(system or System(model), processor, picture or models.picture(112, 56), PROMPT)


def cells(tile):
    return [sorted(area.cells) for area in sorted(tile, key=lambda area: min(area.cells))]


@pytest.mark.parametrize(("name", "ratio"), STUDENTS)
@pytest.mark.parametrize("size", [(56, 56), (112, 56), (112, 160)])
def test_areas_divide_each_tile_and_their_tokens_are_those_of_the_prompt(name, ratio, size):
    model, picture = student(name, ratio), models.picture(*size)
    found = mapped(model, picture)
    for tile in found.tiles:
        assert sorted(cell for area in tile for cell in area.cells) == list(range(SIDE**2))
        tokens = sorted(token for area in tile for token in area.tokens)
        assert tokens == list(range(len(tokens)))
    processor = processor_for(models.processor(), model.config)
    ids = processor(picture, IMAGE_TOKEN)["input_ids"]
    assert found.tokens == int((ids == processor.image_token_id).sum())
    columns, rows = found.grid
    assert len(found.tiles) == columns * rows + (columns * rows > 1)


@pytest.mark.parametrize("name", ["cnn", "cnn-default", "pool"])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75, 0.875])
def test_a_run_of_neighbours_is_one_area(name, ratio):
    run, kept = group(ratio)
    for tile in mapped(student(name, ratio)).tiles:
        assert cells(tile) == [list(range(start, start + run)) for start in range(0, SIDE**2, run)]
        for area in tile:
            first = min(area.cells) // run * kept
            assert area.tokens == set(range(first, first + kept))


def test_blocks_of_two_rows_are_areas_of_the_convolution_in_two_dimensions():
    (tile,) = mapped(student("cnn2d", 0.75), models.picture(56, 56)).tiles
    assert cells(tile) == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_a_query_reads_the_whole_tile():
    (tile,) = mapped(student("qformer", 0.5), models.picture(56, 56)).tiles
    assert tile == (Area(frozenset(range(16)), frozenset(range(8)), 8),)


def test_the_teacher_has_a_token_for_each_cell():
    (tile,) = mapped(models.teacher(), models.picture(56, 56)).tiles
    assert tile == tuple(Area(frozenset({cell}), frozenset({cell}), 1) for cell in range(16))
    assert areas(student("adaptive", 0.5), 4) != areas(student("adaptive", 0.5), 12)


def test_each_tile_of_an_adaptive_student_has_areas_of_its_own():
    found = mapped(student("adaptive", 0.5), models.picture(224, 56))
    sizes = {sum(len(area.tokens) for area in tile) for tile in found.tiles}
    assert sizes == {compressed(16, 0.25), compressed(16, 0.75)}


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.75])
def test_fastv_keeps_the_tokens_that_its_decoder_keeps(ratio):
    """Judged by the attention that transformers computes, without the code of the baseline."""
    model = models.teacher()
    fastv = pruning.build("fastv", model, ratio=ratio, layer=2)
    found = mapped(model, system=fastv)
    assert found.tokens == round(48 * (1 - ratio))
    processor = processor_for(models.processor(), model.config)
    inputs = processor(models.picture(112, 56), processor.render(PROMPT))
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        attention = model(**inputs, output_attentions=True).attentions[1]
    visual = (inputs["input_ids"][0] == model.config.image_token_id).nonzero()[:, 0]
    best = attention[0, :, -1].mean(dim=0)[visual].topk(found.tokens).indices.tolist()
    kept = [16 * number + min(a.cells) for number, tile in enumerate(found.tiles) for a in tile if a.kept]
    assert kept == sorted(best)


def test_early_pruning_shows_the_tokens_that_it_chooses():
    model = models.teacher()
    divprune = pruning.build("divprune", model, ratio=0.5, layer=2)
    found = mapped(model, system=divprune)
    assert found.tokens == 24
    inputs = processor_for(models.processor(), model.config)([models.picture(112, 56)], IMAGE_TOKEN)
    with torch.inference_mode():
        tokens = model.get_image_features(inputs["pixel_values"]).pooler_output.flatten(0, 1)
        cosines = torch.nn.functional.cosine_similarity(tokens[:, None], tokens[None], dim=-1)
    kept = [16 * number + min(a.cells) for number, tile in enumerate(found.tiles) for a in tile if a.kept]
    dropped = [token for token in range(48) if token not in kept]
    # What is dropped is nearer to something kept than what is kept is to each other.
    nearest = cosines[dropped][:, kept].amax(dim=1)
    assert cosines[kept][:, kept].fill_diagonal_(-1).max() <= nearest.min() + 1e-6


@pytest.mark.parametrize("name", ["visionzip", "downsample"])
def test_tokens_that_are_not_those_of_the_cells_are_one_line(name):
    model = models.teacher()
    with pytest.raises(ParamsError, match="reads tiles in a way of its own; its tokens cannot be drawn"):
        mapped(model, system=pruning.build(name, model, ratio=0.5, layer=2))


def test_the_legend_says_what_the_lines_enclose():
    assert mapped(student("cnn", 0.5)).legend() == "24 areas of 2 cells, read by 1 token each"
    assert mapped(student("qformer", 0.75), models.picture(56, 56)).legend() == "1 area of 16 cells, read by 4 tokens"
    model = models.teacher()
    fastv = pruning.build("fastv", model, ratio=0.5, layer=2)
    words = "48 areas of 1 cell, read by 1 token each; grey: 24 tokens that are dropped"
    assert mapped(model, system=fastv).legend() == words


def two_cells(kept):
    """Four cells in two rows: the upper two are one area, of which ``kept`` stays."""
    upper = Area(frozenset({0, 1}), frozenset({0}), kept)
    lower = (Area(frozenset({2}), frozenset({1}), 1), Area(frozenset({3}), frozenset({2}), 1))
    return TokenMap((1, 1), 2, ((upper, *lower),))


def test_lines_lie_between_areas_and_not_within_them():
    drawn = draw(Image.new("RGB", (100, 100), "white"), two_cells(1))
    assert drawn.size == (672, 672)
    dark = (0, 70, 140)
    assert drawn.getpixel((168, 336)) == drawn.getpixel((336, 504)) == dark  # below the upper area, between the lower
    assert drawn.getpixel((336, 168)) == (255, 255, 255)  # within the upper area


def test_what_is_dropped_lies_under_a_veil():
    picture = models.picture(56, 56).resize((672, 672))
    kept, dropped = draw(picture, two_cells(1)), draw(picture, two_cells(0))
    assert ImageChops.difference(kept, dropped).getbbox()[3] <= 336
    assert dropped.crop((20, 20, 300, 300)).entropy() < kept.crop((20, 20, 300, 300)).entropy()
    assert kept.crop((10, 350, 320, 660)).tobytes() == picture.crop((10, 350, 320, 660)).tobytes()


def test_the_thumbnail_stands_below_the_tiles():
    picture = models.picture(112, 56)
    drawn = draw(picture, mapped(models.teacher(), picture))
    assert drawn.size == (672, 336 + 12 + 168)
    assert drawn.crop((400, 360, 672, 516)).getcolors() == [(272 * 156, (255, 255, 255))]
