"""Load a teacher, make a student of it, and keep only what training changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
)
from transformers.utils import logging

from fcotvl.compress.config import FcotvlConfig, tile_tokens, visual_tokens
from fcotvl.compress.processor import FcotvlImageProcessor, FcotvlProcessor
from fcotvl.compress.student import FcotvlForConditionalGeneration, build_compressor
from fcotvl.core.errors import CheckpointError

logging.disable_progress_bar()  # of loading weights; a stage's own bars are about its work

HEADER = "fcotvl"
"""Key of the safetensors header that says what a file of trained tensors belongs to."""


@dataclass(frozen=True)
class Trained:
    """What a file of trained tensors belongs to."""

    stage: str
    """Which stage trained them: ``distill``, ``sft``, ``merge``."""
    compressor: str
    ratio: float
    options: dict[str, Any] = field(default_factory=dict)


def load_teacher(
    folder: str | Path, *, dtype: torch.dtype | None = None
) -> InternVLForConditionalGeneration:
    """The teacher in ``folder`` (or of that hub id), in evaluation mode.

    Raises:
        CheckpointError: it cannot be reached or lacks tensors.
    """
    _must_be_there(folder)
    try:
        model, report = InternVLForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, output_loading_info=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded: {_first_line(error)}") from error
    for problem in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if report[problem]:
            named = sorted(map(str, report[problem]))
            raise CheckpointError(
                f"{folder}: {len(named)} {problem.replace('_', ' ')}, the first is {named[0]}"
            )
    loaded: InternVLForConditionalGeneration = model.eval()
    return loaded


def load_config(folder: str | Path) -> InternVLConfig:
    """The config of a teacher or student, without its weights."""
    _must_be_there(folder)
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is no model: {_first_line(error)}") from error
    if not isinstance(config, InternVLConfig):
        raise CheckpointError(f"{folder} holds a {config.model_type} model; expected InternVL")
    return config


def load_processor(folder: str | Path) -> FcotvlProcessor:
    """The processor saved beside a teacher or student.

    Raises:
        CheckpointError: there is none.
    """
    _must_be_there(folder)
    try:
        processor: FcotvlProcessor = FcotvlProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} has no processor: {_first_line(error)}") from error
    return processor


def processor_for(processor: FcotvlProcessor, config: InternVLConfig) -> FcotvlProcessor:
    """The same processor, with as many visual tokens per tile as the model of ``config`` reads.

    Raises:
        CheckpointError: that is to be chosen tile by tile, and the model has no threshold for it.
    """
    given, counts = processor.image_processor, tile_tokens(config)
    threshold = (getattr(config, "compressor_options", None) or {}).get("threshold")
    if len(counts) > 1 and threshold is None:
        raise CheckpointError(
            f"this student's compressor {config.compressor!r} has no threshold; take a checkpoint "
            "of distill, which calibrates it"
        )
    images = FcotvlImageProcessor(
        given.tile_size,
        given.max_tiles,
        given.image_mean,
        given.image_std,
        tile_tokens=counts if len(counts) > 1 else None,
        threshold=threshold,
    )
    return FcotvlProcessor(
        images,
        processor.tokenizer,
        image_seq_length=visual_tokens(config),
        chat_template=processor.chat_template,
    )


def make_student(
    teacher: InternVLForConditionalGeneration,
    *,
    compressor: str,
    ratio: float,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    share: bool = False,
) -> FcotvlForConditionalGeneration:
    """A student with the teacher's weights and a new compressor.

    Args:
        teacher: where all other weights come from.
        compressor: its name.
        ratio: share of visual tokens removed.
        options: of the compressor.
        seed: of the compressor's random start.
        share: use the teacher's own ViT and LLM instead of copies, which halves the memory; only
            for as long as neither is trained.

    Raises:
        ParamsError: the compressor does not exist or does not take that ratio.
    """
    config = FcotvlConfig.from_teacher(
        teacher.config, compressor=compressor, ratio=ratio, options=options
    )
    with torch.device("meta"):
        student = FcotvlForConditionalGeneration(config)
    take = (lambda module: module) if share else copy.deepcopy
    # One copy of both, since the embedding and the head may be the same tensor.
    student.model.language_model, student.lm_head = take(
        (teacher.model.language_model, teacher.lm_head)
    )
    student.model.vision_tower = take(teacher.model.vision_tower)
    student.model.multi_modal_projector = copy.deepcopy(teacher.model.multi_modal_projector)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student.model.compressor = build_compressor(config).to(teacher.device, teacher.dtype)
    student.generation_config = copy.deepcopy(teacher.generation_config)
    return student.eval()


def save_trained(
    model: FcotvlForConditionalGeneration,
    path: Path,
    *,
    stage: str,
    names: Iterable[str] | None = None,
) -> None:
    """Write the named parameters (those that require a gradient by default) to ``path``."""
    parameters = dict(model.named_parameters())
    if names is None:
        names = [name for name, parameter in parameters.items() if parameter.requires_grad]
    config = model.config
    trained = Trained(stage, config.compressor, config.ratio, config.compressor_options or {})
    write_trained(path, {name: parameters[name].detach() for name in names}, trained)


def write_trained(path: Path, tensors: Mapping[str, Tensor], trained: Trained) -> None:
    """Write tensors and what they belong to as one safetensors file.

    One key of metadata: safetensors writes several in random order, so files would differ.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    save_file(kept, path, metadata={HEADER: json.dumps(asdict(trained))})


def read_trained(path: Path) -> tuple[dict[str, Tensor], Trained]:
    """The tensors of ``path`` and what they belong to.

    Raises:
        CheckpointError: the file is missing, damaged or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {_first_line(error)}") from error
    if header is None:
        raise CheckpointError(f"{path} does not say which compressor it belongs to; not our file")
    return tensors, Trained(**json.loads(header))


def load_student(
    teacher: InternVLForConditionalGeneration, files: Sequence[Path], *, share: bool = False
) -> FcotvlForConditionalGeneration:
    """The student that ``files`` describe, later files over earlier ones, over the teacher.

    Raises:
        CheckpointError: the files are of different students or do not fit the teacher.
    """
    if not files:
        raise ValueError("no files: a student needs at least the tensors that distill trained")
    parts = [(path, *read_trained(path)) for path in files]
    _, _, first = parts[0]
    student = make_student(
        teacher,
        compressor=first.compressor,
        ratio=first.ratio,
        options=first.options,
        share=share,
    )
    for path, tensors, trained in parts:
        if replace(trained, stage=first.stage) != first:
            raise CheckpointError(
                f"{path} is of {_named(trained)}, but {files[0]} is of {_named(first)}; give files "
                "of one student"
            )
        apply(student, tensors, source=str(path))
    return student


def apply(model: PreTrainedModel, tensors: Mapping[str, Tensor], *, source: str = "") -> None:
    """Copy ``tensors`` over the model's parameters of the same names.

    Raises:
        CheckpointError: a tensor is unknown to the model or has another shape.
    """
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if name not in parameters:
            raise CheckpointError(f"{source}: the model has no parameter {name}")
        if parameters[name].shape != tensor.shape:
            found, expected = list(tensor.shape), list(parameters[name].shape)
            raise CheckpointError(f"{source}: {name} is {found}, but the model has {expected}")
        with torch.no_grad():
            parameters[name].copy_(tensor)


def _named(trained: Trained) -> str:
    options = f" with {trained.options}" if trained.options else ""
    return f"{trained.compressor} at {trained.ratio}{options}"


def _must_be_there(folder: str | Path) -> None:
    """A path that does not exist is no hub id: asking the hub for it would only take minutes."""
    if isinstance(folder, Path) and not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; run the stage that writes it (teacher)")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
