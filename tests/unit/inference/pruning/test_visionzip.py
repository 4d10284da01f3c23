"""VisionZip keeps and merges what a plain walk through its rule does, on recorded attention and keys."""

from __future__ import annotations

import pytest
import torch

from fcotvl.compress.student import encode_tiles
from fcotvl.inference.generate import generate
from fcotvl.inference.pruning.visionzip import VisionZip, merge
from tests.support import models
from tests.unit.inference.test_generate import queries


@pytest.fixture(scope="module")
def teacher():
    return models.teacher()


@pytest.fixture(scope="module")
def pixels():
    """Three tiles of 8 x 8 patches, 4 x 4 visual tokens."""
    return models.processor().image_processor([models.picture(112, 56)], return_tensors="pt")["pixel_values"]


def recorded(model, pixels):
    """Attention that each patch gets from patches, and its key, both mean over heads, of the layer before the last."""
    layer, seen = model.model.vision_tower.encoder.layer[-2].attention, {}
    handle = layer.k_proj.register_forward_hook(lambda module, given, result: seen.update(keys=result))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model.model.vision_tower(pixels, output_attentions=True).attentions[-2]
    handle.remove()
    model.set_attn_implementation("sdpa")
    heads = seen["keys"].unflatten(-1, (layer.num_heads, -1))
    return maps.mean(dim=1)[:, 1:, 1:].mean(dim=1), heads.mean(dim=2)[:, 1:]


def pooled(patches, side=8):
    """Mean over each block of 2 x 2 patches of one tile."""
    return [
        sum(patches[side * (2 * row + i) + 2 * column + j] for i in (0, 1) for j in (0, 1)) / 4
        for row in range(side // 2)
        for column in range(side // 2)
    ]


def by_the_rule(tokens, scores, keys, count):
    """One tile, token by token."""
    dominant = count * 27 // 32
    best = sorted(range(len(tokens)), key=lambda i: -float(scores[i]))[:dominant]
    others = [i for i in range(len(tokens)) if i not in best]
    step = len(others) // (count - dominant)
    targets = others[::step][: count - dominant]
    joined = {target: [] for target in targets}
    for i in others:
        if i not in joined:
            joined[max(targets, key=lambda j: float(torch.cosine_similarity(keys[i], keys[j], dim=0)))].append(
                tokens[i]
            )
    merged = {t: tokens[t] + (sum(parts) / len(parts) if parts else 0) for t, parts in joined.items()}
    return torch.stack([merged.get(i, tokens[i]) for i in sorted([*best, *targets])])


@pytest.mark.parametrize(("ratio", "count"), [(0.25, 12), (0.5, 8), (0.75, 4), (0.875, 2)])
def test_the_tokens_are_those_of_the_rule(teacher, pixels, ratio, count):
    with torch.no_grad():
        found = VisionZip(ratio).encode(teacher.model, pixels)
        tokens = encode_tiles(teacher.model, pixels)
    received, keys = recorded(teacher, pixels)
    expected = [
        by_the_rule(own, pooled(scores), pooled(key), count)
        for own, scores, key in zip(tokens, received, keys, strict=True)
    ]
    assert found.shape[1] == count
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("tokens", "count", "dominant"), [(256, 64, 54), (576, 192, 162), (576, 128, 108)])
def test_the_shares_are_those_of_the_paper(tokens, count, dominant):
    """Its table 1: 54 + 10 of 64, 108 + 20 of 128, 162 + 30 of 192. A dominant token is passed on as it is."""
    generator = torch.Generator().manual_seed(0)
    features, keys = torch.randn(1, tokens, 3, generator=generator), torch.randn(1, tokens, 2, generator=generator)
    kept = merge(features, torch.arange(float(tokens))[None], keys, count)
    assert kept.shape[1] == count
    assert torch.equal(kept[0, -dominant:], features[0, -dominant:])
    assert not torch.isin(kept[0, :-dominant], features).all(dim=-1).any()


def test_ratio_0_is_the_teacher(teacher, pixels):
    with torch.no_grad():
        assert torch.equal(VisionZip(0.0).encode(teacher.model, pixels), encode_tiles(teacher.model, pixels))
    processor = models.processor()
    replies = generate(teacher, processor, queries(), max_new_tokens=8, pruning=VisionZip(0.0))
    assert replies == generate(teacher, processor, queries(), max_new_tokens=8)
