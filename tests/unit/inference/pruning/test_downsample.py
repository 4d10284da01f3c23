"""Downsampling shows the teacher smaller tiles, on the grid nearest to the share kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fcotvl.compress.checkpoints import processor_for
from fcotvl.compress.student import encode_tiles
from fcotvl.inference import pruning
from fcotvl.inference.generate import generate
from fcotvl.inference.pictures import PictureEncoder
from fcotvl.inference.pruning.downsample import nearest_grid
from tests.support import models
from tests.unit.inference.test_generate import queries


@pytest.fixture(scope="module")
def teacher():
    return models.teacher()


@pytest.mark.parametrize(
    ("tokens", "ratio", "grid"),
    [
        (64, 0.0, (8, 8)),
        (64, 0.25, (7, 7)),
        (64, 0.5, (5, 6)),
        (64, 0.75, (4, 4)),
        (64, 0.875, (3, 3)),
        (256, 0.25, (14, 14)),
        (256, 0.5, (11, 12)),
        (256, 0.75, (8, 8)),
        (256, 0.875, (5, 6)),
    ],
)
def test_the_grid_is_the_nearest_of_those_that_are_almost_square(tokens, ratio, grid):
    side = round(tokens**0.5)
    every = [(r, c) for r in range(1, side + 1) for c in range(1, side + 1) if 0 <= c - r <= 1]
    misses = {each: abs(each[0] * each[1] - tokens * (1 - ratio)) for each in every}
    assert nearest_grid(tokens, ratio) == grid
    assert misses[grid] == min(misses.values())


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75, 0.875])
def test_the_system_states_its_true_number_of_tokens(teacher, ratio):
    system = pruning.build("downsample", teacher, ratio=ratio, layer=2)
    rows, columns = system.pruning.grid
    with torch.no_grad():
        tokens = system.pruning.encode(teacher.model, torch.zeros(2, 3, 56, 56))
    assert tokens.shape[1] == rows * columns == system.pruning.kept(16)
    assert system.pruning.kept(5 * 16) == 5 * rows * columns
    assert system.pruning.ratio == 1 - rows * columns / 16


def test_a_tile_is_what_pillow_makes_smaller(teacher):
    """The tile resized by Pillow on bytes, and the position embeddings interpolated by hand."""
    system = pruning.build("downsample", teacher, ratio=0.5, layer=2)
    processor, picture = models.processor(), models.picture()
    whole = processor.image_processor([picture], return_tensors="pt")["pixel_values"]
    small = np.asarray(picture.resize((42, 42), Image.Resampling.BICUBIC)).transpose(2, 0, 1) / 255
    images = processor.image_processor
    mean, std = (np.asarray(each)[:, None, None] for each in (images.image_mean, images.image_std))
    vision = teacher.model.vision_tower
    with torch.no_grad():
        patches = vision.embeddings.patch_embeddings(torch.tensor((small - mean) / std, dtype=torch.float32)[None])
        first, *others = vision.embeddings.position_embeddings[0]
        square = torch.stack(others).T.reshape(1, -1, 8, 8)
        smaller = torch.nn.functional.interpolate(square, (6, 6), mode="bicubic").flatten(2)[0].T
        states = torch.cat([vision.embeddings.cls_token + first, patches + smaller], dim=1)
        states = vision.layernorm(vision.encoder(states).last_hidden_state)
        grid = states[:, 1:].reshape(1, 3, 2, 3, 2, -1)
        blocks = [grid[0, r, i, c, j] for r in range(3) for c in range(3) for i in (0, 1) for j in (0, 1)]
        expected = torch.stack(blocks).reshape(9, -1)
        found = system.pruning.encode(teacher.model, whole)[0]
    assert found.shape == expected.shape
    # Pillow rounds to bytes.
    torch.testing.assert_close(found, expected, atol=0.05 * float(expected.std()), rtol=0.05)


def test_ratio_0_is_the_teacher(teacher):
    system, processor = pruning.build("downsample", teacher, ratio=0.0, layer=2), models.processor()
    pixels = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        assert torch.equal(system.pruning.encode(teacher.model, pixels), encode_tiles(teacher.model, pixels))
    replies = generate(teacher, processor, queries(), max_new_tokens=8, pruning=system.pruning)
    assert replies == generate(teacher, processor, queries(), max_new_tokens=8)


def test_systems_that_share_an_encoder_answer_as_alone(teacher):
    """What is kept of the teacher's own tiles is not taken for resized or merged ones."""
    systems = [pruning.build(n, teacher, ratio=r, layer=2) for n in pruning.available() for r in (0.5, 0.75)]

    def replies(system, encoder=None):
        processor = processor_for(models.processor(), system.model.config)
        return generate(system.model, processor, queries(), max_new_tokens=6, pruning=system.pruning, encoder=encoder)

    encoder = PictureEncoder()
    for _ in range(2):
        assert [replies(system, encoder) for system in systems] == [replies(system) for system in systems]
