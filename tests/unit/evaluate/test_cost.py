"""FLOPs from the config equal those that torch counts while the model runs."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fcotvl.compress import compressors
from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.compress.config import FcotvlConfig
from fcotvl.evaluate.cost import cost, parameters
from fcotvl.inference import pruning as methods
from fcotvl.inference.early_pruning import EarlyPruning
from fcotvl.inference.pruned_decoding import System
from fcotvl.inference.pruning.random import RandomPruning
from fcotvl.internvl.architectures import teacher_config
from tests.support import models
from tests.support.models import OPTIONS

STUDENTS = [(name, ratio) for name in compressors.available() for ratio in compressors.ratios(name)]


def counted(run):
    """FLOPs of ``run`` by torch's own counter."""
    # Fused attention is not counted on every kind of CPU.
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain, FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops(), result


def measure(model, processor, pruning=None):
    """Tiles, the prompt's other tokens, and FLOPs of each part, for a picture of three tiles."""
    early = pruning if isinstance(pruning, EarlyPruning) else EarlyPruning(0.0)
    inputs = processor([models.picture(112, 56)], processor.render("What is it?"))
    decoder = System(model, pruning).decoder(["a"])
    vit, tokens = counted(lambda: early.encode(model.model, inputs["pixel_values"]))
    compressor, tiles = 0, 3
    if "tile_tokens" in inputs:
        tiles = inputs["tile_tokens"].tolist()
        compressor, parts = counted(lambda: model.model.compressor(tokens, tiles))
        tokens = torch.cat(parts)[None]
    elif hasattr(model.model, "compressor"):
        compressor, tokens = counted(lambda: model.model.compressor(tokens))
    projector, features = counted(lambda: model.model.multi_modal_projector(tokens))
    if early is pruning:
        compressor, features = counted(lambda: early.choose(list(features)))
        texts = processor.expand([processor.render("What is it?")], [[len(tile) for tile in features]])
        inputs |= processor.tokenize(texts)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    prefill, _ = counted(lambda: decoder.prefill(ids, mask, features))
    cache_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in decoder.cache.layers)
    decode, _ = counted(lambda: decoder.step(torch.tensor([5])))
    visual = int((ids == model.config.image_token_id).sum())
    return tiles, ids.shape[1] - visual, [vit, compressor, projector, prefill, decode, cache_bytes]


def predicted(config, tiles, text_tokens, pruning=None):
    c = cost(config, tiles=tiles, text_tokens=text_tokens, pruning=pruning, bytes_per_number=4)
    return [c.vit, c.compressor, c.projector, c.prefill, c.decode, c.kv_bytes]


# The counter also sees the rotary angles (positions times frequencies), below a thousandth here.
TOLERANCE = 0.001


@pytest.mark.parametrize("llm", ["qwen2", "llama"])
def test_the_teachers_flops_are_those_that_torch_counts(llm):
    model = models.teacher(llm=llm)
    tiles, text, measured = measure(model, models.processor())
    assert measured == pytest.approx(predicted(model.config, tiles, text), rel=TOLERANCE)


@pytest.mark.parametrize(("name", "ratio"), STUDENTS)
def test_a_students_flops_are_those_that_torch_counts(name, ratio):
    student = make_student(models.teacher(), compressor=name, ratio=ratio, options=OPTIONS.get(name, {}))
    tiles, text, measured = measure(student, processor_for(models.processor(), student.config))
    assert measured == pytest.approx(predicted(student.config, tiles, text), rel=TOLERANCE)


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.875])
@pytest.mark.parametrize("name", methods.available())
def test_a_baselines_flops_are_those_that_torch_counts(name, ratio, layer):
    system = methods.build(name, models.teacher(), ratio=ratio, layer=layer)
    processor = processor_for(models.processor(), system.model.config)
    tiles, text, measured = measure(system.model, processor, system.pruning)
    expected = predicted(system.model.config, tiles, text, system.pruning)
    # Some choose tokens within the ViT's pass.
    found, expected = ([vit + compressor, *others] for vit, compressor, *others in (measured, expected))
    assert found == pytest.approx(expected, rel=TOLERANCE)


def test_given_a_number_of_tiles_the_mean_ratio_counts():
    """Of six tiles at 0.75, two lose half and four lose seven eighths."""
    config = FcotvlConfig.from_teacher(models.config(), compressor="adaptive", ratio=0.75)
    mean = cost(config, tiles=6, text_tokens=9)
    assert mean == cost(config, tiles=[8, 8, 2, 2, 2, 2], text_tokens=9)
    assert mean.prefill == cost(models.config(), tiles=[4] * 6, text_tokens=9).prefill


def test_fastvs_share_of_flops_is_that_of_its_paper():
    """Chen et al. 2024, section 4.2: (K n-layers + (T-K) n'-layers) / T, here with text."""
    config = teacher_config("internvl2-2b")
    full = cost(config, tiles=5, text_tokens=0)
    half = cost(config, tiles=5, text_tokens=0, pruning=RandomPruning(0.5, layer=2))
    assert 0.5 < half.prefill / full.prefill < 0.55
    assert half.kv_bytes / full.kv_bytes == (2 + 22 * 0.5) / 24


def test_parameters_are_the_published_ones():
    """InternViT-300M has 304.01 M and mlp1 of the 2B model 12.595 M (reference: model cards)."""
    counts = parameters(teacher_config("internvl2-2b"))
    assert counts["vit"] / 1e6 == pytest.approx(304.01, abs=0.01)
    assert counts["projector"] / 1e6 == pytest.approx(12.595, abs=0.001)
    assert counts["total"] == counts["vit"] + counts["projector"] + counts["llm"]
    assert counts["llm"] / 1e9 == pytest.approx(1.89, abs=0.01)


def test_parameters_of_the_paper_compressor_at_its_real_width():
    """One kernel of 2 over 4096 channels: 33.6 M."""
    config = FcotvlConfig.from_teacher(teacher_config("internvl2-2b"), compressor="cnn", ratio=0.5)
    assert parameters(config)["compressor"] == 4096 * 4096 * 2 + 4096


def test_a_tied_embedding_counts_once():
    tied, apart = (sum(p.numel() for p in models.teacher(tied=tied).parameters()) for tied in (True, False))
    assert parameters(models.config(tied=True))["total"] == tied
    assert parameters(models.config(tied=False))["total"] == apart
    assert apart > tied
