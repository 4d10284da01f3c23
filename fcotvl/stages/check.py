"""Validate params.yaml, every scale and every mix.

Its output is constant and a dependency of every stage, so that a run starts with it and nothing reruns because of it.
"""

import logging
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from fcotvl.compress import compressors
from fcotvl.core import config
from fcotvl.core.config import Mix, Params
from fcotvl.core.errors import DataError, ParamsError
from fcotvl.core.io import write_text
from fcotvl.core.registry import Registry

log = logging.getLogger(__name__)

# By name, without importing them: their code is no dependency of this stage.
BASELINES = Registry("fcotvl.inference.pruning", "build", noun="training-free baseline")
BENCHMARKS = Registry("fcotvl.evaluate.benchmarks", "BENCHMARK", noun="benchmark")
MERGE_METHODS = Registry("fcotvl.merge.methods", "weights", noun="merge method")
READERS = Registry("fcotvl.data.sources", "read", noun="reader")
RESAMPLING = Registry("fcotvl.train.resampling", "weigh", noun="resampling rule")
_AT_RATIO = re.compile(r"(?P<name>.+)-r(?P<ratio>0\.\d*[1-9])")


def run(params: Params, *, output: Path) -> None:
    """Validate everything, build every variant without memory, and write ``output``.

    Args:
        params: the study.
        output: file to write, always with the same content.
    """
    validate(params)
    scales = sorted(path.stem for path in config.SCALES.glob("*.yaml"))
    mixes = sorted(path.stem for path in config.MIXES.glob("*.yaml"))
    for scale in scales:
        config.load(scale=scale)
    for mix in mixes:
        validate_mix(mix, config.load(mix=mix).mix_config)
    built = build_variants(params)
    log.info("%d scales and %d mixes are valid, %d variants build", len(scales), len(mixes), built)
    write_text(output, "ok\n")


def validate(params: Params) -> None:
    """Check what the types alone cannot: names, ratios and folders. Needs no torch.

    Raises:
        ParamsError: a name is unknown, a compressor does not offer a ratio, or ``teacher.source`` does not fit the
            scale.
        DataError: ``data.raw`` is not a folder.
    """
    for recipe, values in params.recipes.items():
        _require(f"recipes.{recipe}.resampling", values.resampling, RESAMPLING)
    for name in params.merge.methods:
        _require("merge.methods", name, MERGE_METHODS)
    for name in params.baselines.methods:
        _require("baselines.methods", name, BASELINES)
    for name in params.compressors:
        compressors.ratios(name)
    tokens = params.scale_config.model.tokens
    for key in params.scale_config.distill.lr_by_compressor:
        if at := _AT_RATIO.fullmatch(key):
            compressors.output_tokens(at["name"], ratio=float(at["ratio"]), tokens=tokens)
        else:
            compressors.ratios(key)
    for name, ratio in variants(params):
        compressors.output_tokens(name, ratio=ratio, tokens=tokens)
    _validate_grids(params)
    try:
        is_folder = Path(params.data.raw).is_dir()
    except (OSError, ValueError):  # too long, or with a null character
        is_folder = False
    if not is_folder:
        raise DataError(f"data.raw: {config.shorten(params.data.raw)} is not a folder; name one that exists")
    if params.teacher.source == "train" and params.scale_config.model.architecture != "tiny":
        raise ParamsError(f"teacher.source=train builds the tiny model; scale {params.scale!r} needs pretrained")
    validate_mix(params.mix, params.mix_config)


def _validate_grids(params: Params) -> None:
    """Check what the study asks of its students and merges."""
    for grid, asked in params.grids.items():
        for name, ratio in product(asked.compressor, asked.serve):
            if ratio not in (known := compressors.train_ratios(name)):
                raise ParamsError(
                    f"grids.{grid}.serve: a student of {name} does not serve ratio {ratio}, but "
                    f"{', '.join(map(str, known)) or 'its own alone'}"
                )
        if asked.pool and grid in params.recipes:
            raise ParamsError(
                f"grids.{grid} has a pool and the name of a recipe, whose folder it would share; rename it"
            )
        kept = params.scale_config.sft.checkpoints
        for recipe, places in asked.pool.items():
            if odd := [place for place in places if not -kept <= place < kept]:
                raise ParamsError(
                    f"grids.{grid}.pool: {recipe} has {kept} checkpoints, 0 to {kept - 1}, and none at {odd[0]}"
                )


def validate_mix(name: str, mix: Mix) -> None:
    """Check that the readers and benchmarks which the mix names exist, and that no two of the hub's sources share ids.

    Raises:
        ParamsError: one is unknown, or two data sets go by one name.
    """
    readers = [source.reader for source in mix.sources]
    for reader in readers + [benchmark.reader for benchmark in mix.benchmarks.values()]:
        _require(f"{name}.yaml", reader, READERS)
    for benchmark in mix.benchmarks:
        _require(f"{name}.yaml", benchmark, BENCHMARKS)
    found = [source for source in mix.sources if source.reader == "huggingface"]
    named = [
        (source.options.get("source"), source.options.get("split", "train"), split)
        for source in found
        for split in source.splits
    ]
    if twice := [each[0] for each in named if named.count(each) > 1]:
        raise ParamsError(
            f"{name}.yaml: several data sets of the hub are called {twice[0]!r}, which their records are numbered by; "
            "give each a name of its own under options.source, as synthdog/en and synthdog/zh"
        )


def variants(params: Params) -> Iterator[tuple[str, float]]:
    """The experiment's compressor and ratio, then those of the ablation grid and of other grids."""
    yield params.compressor, params.ratio
    yield from product(params.ablation.compressor, params.ablation.ratio)
    for grid in params.grids.values():
        yield from product(grid.compressor, grid.ratio)


def build_variants(params: Params) -> int:
    """Build a student of every compressor at every ratio on the meta device; return how many.

    Raises:
        ParamsError: a compressor does not take its options, or the LLM has no layer ``baselines.fastv_layer``.
    """
    import torch  # noqa: PLC0415 - the Snakefile imports this module for validate() alone

    from fcotvl.compress.config import FcotvlConfig  # noqa: PLC0415
    from fcotvl.compress.student import FcotvlForConditionalGeneration  # noqa: PLC0415
    from fcotvl.internvl import architectures  # noqa: PLC0415

    teacher = architectures.teacher_config(params.scale_config.model.architecture)
    layer, layers = params.baselines.fastv_layer, teacher.text_config.num_hidden_layers
    if layer >= layers:
        raise ParamsError(
            f"baselines.fastv_layer is {layer}, but the LLM of scale {params.scale!r} has {layers} layers; choose a "
            "smaller one"
        )
    count = 0
    for name in compressors.available():
        for ratio in compressors.ratios(name):
            options = params.compressors.get(name, {})
            student = FcotvlConfig.from_teacher(teacher, compressor=name, ratio=ratio, options=options)
            with torch.device("meta"):
                FcotvlForConditionalGeneration(student)
            count += 1
    return count


def _require(where: str, name: str, registry: Registry) -> None:
    try:
        registry.stem(name)
    except ParamsError as error:
        raise ParamsError(f"{where}: {error}") from error
