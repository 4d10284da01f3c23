"""Stage ``check``: stop a wrong value before any other stage works.

Its output is constant and an input of every stage, so a run starts with it and nothing reruns
because of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from pkgutil import iter_modules

from fcotvl.compress import compressors
from fcotvl.core import config as params_module
from fcotvl.core.config import Params
from fcotvl.core.errors import DataError, ParamsError
from fcotvl.core.io import write_text

log = logging.getLogger(__name__)

ROOMS = Path(__file__).parents[1]


def run(params: Params, *, output: Path) -> None:
    """Validate the study and every scale, build every variant without memory, write ``output``."""
    validate(params)
    scales = sorted(path.stem for path in params_module.SCALES.glob("*.yaml"))
    for name in scales:
        validate_scale(params_module.load(scale=name))
    built = build_variants(params)
    log.info("%d scales are valid, %d variants build", len(scales), built)
    write_text(output, "ok\n")


def validate(params: Params) -> None:
    """Check what the types alone cannot: names, ratios and folders. Needs no torch.

    Raises:
        ParamsError: a name is unknown, a compressor does not offer a ratio, or ``teacher.source``
            does not fit the scale.
        DataError: ``data.raw`` is not a folder.
    """
    for recipe, values in params.recipes.items():
        _known(f"recipes.{recipe}.resampling", values.resampling, "train/resampling")
        _known(f"recipes.{recipe}.merge", values.merge, "merge/methods")
    for name in params.compressors:
        _known("compressors", name, "compress/compressors")
    for name, ratio in variants(params):
        compressors.output_tokens(name, ratio=ratio, tokens=params.scale_config.model.tokens)
    if not Path(params.data.raw).is_dir():
        raise DataError(f"data.raw: {params.data.raw!r} is not a folder; name one that exists")
    if params.teacher.source == "train" and params.scale_config.model.architecture != "tiny":
        raise ParamsError(
            f"teacher.source=train builds the tiny model; scale {params.scale!r} needs pretrained"
        )
    validate_scale(params)


def validate_scale(params: Params) -> None:
    """Check that the readers which the scale names exist.

    Raises:
        ParamsError: a reader is unknown.
    """
    scale = params.scale_config
    readers = [s.reader for s in scale.sources] + [b.reader for b in scale.benchmarks.values()]
    for reader in readers:
        _known(f"{params.scale}.yaml", reader, "data/sources")


def variants(params: Params) -> Iterator[tuple[str, float]]:
    """The experiment's compressor and ratio, then those of the ablation grid."""
    yield params.compressor, params.ratio
    for compressor in params.ablation.compressor:
        for ratio in params.ablation.ratio:
            yield compressor, ratio


def build_variants(params: Params) -> int:
    """Build a student of every compressor at every ratio on the meta device; return how many.

    Raises:
        ParamsError: a compressor does not take its options.
    """
    import torch  # noqa: PLC0415 - the Snakefile imports this module for validate() alone

    from fcotvl.compress.config import FcotvlConfig  # noqa: PLC0415
    from fcotvl.compress.student import FcotvlForConditionalGeneration  # noqa: PLC0415
    from fcotvl.internvl.architectures import teacher_config  # noqa: PLC0415

    teacher = teacher_config(params.scale_config.model.architecture)
    count = 0
    for name in compressors.available():
        for ratio in compressors.ratios(name):
            options = params.compressors.get(name, {})
            config = FcotvlConfig.from_teacher(
                teacher, compressor=name, ratio=ratio, options=options
            )
            with torch.device("meta"):
                FcotvlForConditionalGeneration(config)
            count += 1
    return count


def _known(where: str, name: str, folder: str) -> None:
    known = _names(ROOMS / folder)
    if name not in known:
        raise ParamsError(f"{where}: no {name!r}; there are {', '.join(known)}")


def _names(folder: Path) -> list[str]:
    found: Iterable[str] = (module.name.replace("_", "-") for module in iter_modules([str(folder)]))
    return sorted(found)
