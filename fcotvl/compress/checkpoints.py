"""Load a teacher, make a student of it, and keep only what training changed."""

import copy
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, InternVLConfig, InternVLForConditionalGeneration, PreTrainedModel
from transformers.utils import logging

from fcotvl.compress import compressors
from fcotvl.compress.config import FcotvlConfig, tile_tokens, visual_tokens
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import FcotvlForConditionalGeneration, build_compressor
from fcotvl.core.errors import CheckpointError
from fcotvl.core.io import atomic
from fcotvl.core.processes import is_main

logging.disable_progress_bar()  # transformers' bar for loading weights; stages have their own

HEADER = "fcotvl"
"""Metadata key of the safetensors file under which the ``StudentHeader`` stands."""


@dataclass(frozen=True)
class StudentHeader:
    """The student that a file of trained tensors belongs to."""

    stage: str
    """The stage that made them: ``distill``, ``sft`` or ``merge``."""
    compressor: str
    ratio: float
    options: dict[str, Any] = field(default_factory=dict)
    positions: Literal["consecutive", "spread"] = "consecutive"


def load_teacher(folder: str | Path, *, dtype: torch.dtype | None = None) -> InternVLForConditionalGeneration:
    """Load the teacher in ``folder`` (or of that hub id), in evaluation mode.

    Raises:
        CheckpointError: the folder is missing, or tensors are missing, unknown or of other shapes.
    """
    _check_folder(folder)
    with _loading(f"{folder} cannot be loaded"):
        if Path(folder).is_dir():
            _check_size(Path(folder))
        model, report = InternVLForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    _check_keys(folder, report, "run teacher again")
    loaded: InternVLForConditionalGeneration = model.eval()
    return loaded


def load_model(folder: Path, *, dtype: torch.dtype | None = None) -> InternVLForConditionalGeneration:
    """Load the whole model in ``folder``, a teacher or an exported student, in evaluation mode.

    Raises:
        CheckpointError: it is not a model, or its weights are not those of its config.
    """
    _check_folder(folder)
    with _loading(f"{folder} is not a model"):
        if AutoConfig.from_pretrained(folder).model_type != FcotvlConfig.model_type:
            return load_teacher(folder, dtype=dtype)
        student, report = FcotvlForConditionalGeneration.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    _check_keys(folder, report, "export the student again")
    loaded: InternVLForConditionalGeneration = student.eval()
    return loaded


def _check_keys(folder: str | Path, report: Mapping[str, Any], remedy: str) -> None:
    """Refuse what transformers would only warn of: weights that the model lacks or the folder does."""
    for problem in ("missing", "mismatched", "unexpected"):
        if keys := sorted(map(str, report[f"{problem}_keys"])):
            raise CheckpointError(
                f"{folder}: {len(keys)} {problem} keys, the first is {keys[0]}; its weights are not those of its "
                f"config.json, {remedy}"
            )


def load_processor(folder: str | Path) -> FcotvlProcessor:
    """Load the processor saved beside a teacher or student.

    Raises:
        CheckpointError: the folder has no processor.
    """
    _check_folder(folder)
    with _loading(f"{folder} has no processor"):
        processor: FcotvlProcessor = FcotvlProcessor.from_pretrained(folder)
    return processor


def processor_for(processor: FcotvlProcessor, config: InternVLConfig) -> FcotvlProcessor:
    """Copy a processor for the number of visual tokens per tile that ``config``'s model reads.

    Raises:
        CheckpointError: the number differs between tiles and the config has no threshold.
    """
    counts = tile_tokens(config)
    threshold = (getattr(config, "compressor_options", None) or {}).get("threshold")
    if len(counts) > 1 and threshold is None:
        raise CheckpointError(
            f"this student's compressor {config.compressor!r} has no threshold; take a checkpoint "
            "of distill, which calibrates it"
        )
    adapted, images = copy.copy(processor), copy.copy(processor.image_processor)
    images.tile_tokens = list(counts) if len(counts) > 1 else None
    images.threshold = threshold if len(counts) > 1 else None
    adapted.image_processor, adapted.image_seq_length = images, visual_tokens(config)
    return adapted


def make_student(
    teacher: InternVLForConditionalGeneration,
    *,
    compressor: str,
    ratio: float,
    options: Mapping[str, Any] | None = None,
    positions: str = "consecutive",
    seed: int = 0,
    share_frozen: bool = False,
) -> FcotvlForConditionalGeneration:
    """Make a student with the teacher's weights and a new compressor.

    Args:
        teacher: source of all other weights.
        compressor: name of the compressor.
        ratio: share of visual tokens removed.
        options: keyword arguments of the compressor.
        positions: of visual tokens in the LLM: ``consecutive`` or ``spread``, see ``fcotvl.compress.positions``.
        seed: seed of the compressor's initial weights.
        share_frozen: use the teacher's own ViT and LLM instead of copies, which halves the memory. Only while neither
            of them is trained.

    Raises:
        ParamsError: the compressor does not exist or does not offer that ratio.
    """
    config = FcotvlConfig.from_teacher(
        teacher.config, compressor=compressor, ratio=ratio, options=options, positions=positions
    )
    with torch.device("meta"):
        student = FcotvlForConditionalGeneration(config)
    # Copied together, since the embedding and the head may be the same tensor.
    frozen = (teacher.model.language_model, teacher.lm_head, teacher.model.vision_tower)
    student.model.language_model, student.lm_head, student.model.vision_tower = (
        frozen if share_frozen else copy.deepcopy(frozen)
    )
    student.model.multi_modal_projector = copy.deepcopy(teacher.model.multi_modal_projector)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student.model.compressor = build_compressor(config).to(teacher.device, teacher.dtype)
    student.generation_config = copy.deepcopy(teacher.generation_config)
    return student.eval()


def save_student_tensors(
    model: FcotvlForConditionalGeneration,
    path: Path,
    *,
    stage: str,
    names: Iterable[str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write parameters of ``model`` to ``path``, atomically: those in ``names``, or all trainable ones.

    The main process writes. Where parameters are sharded, all processes must call this: each is gathered in turn.
    ``dtype`` is that of whoever reads them; training itself keeps what it trains in float32.
    """
    parameters = dict(model.named_parameters())
    if names is None:
        names = [name for name, parameter in parameters.items() if parameter.requires_grad]
    tensors = {}
    for name in names:
        tensor = parameters[name].detach()
        if isinstance(tensor, DTensor):
            tensor = tensor.full_tensor()
        if is_main():
            tensors[name] = tensor.to("cpu", dtype)
    if is_main():
        config = model.config
        header = StudentHeader(
            stage, config.compressor, config.ratio, config.compressor_options or {}, config.positions
        )
        with atomic(path) as scratch:
            write_student_tensors(scratch, tensors, header)


def write_student_tensors(path: Path, tensors: Mapping[str, Tensor], header: StudentHeader) -> None:
    """Write tensors and their header as one safetensors file.

    The header is one metadata key: safetensors writes several in random order, so equal files would differ in bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    save_file(stored, path, metadata={HEADER: json.dumps(asdict(header))})


def read_student_tensors(path: Path) -> tuple[dict[str, Tensor], StudentHeader]:
    """Read the tensors of ``path`` and their header.

    Raises:
        CheckpointError: the file is missing, damaged or has no header.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {_first_line(error)}") from error
    if header is None:
        raise CheckpointError(f"{path} has no {HEADER!r} header; expected a file of distill, sft or merge")
    try:
        return tensors, TypeAdapter(StudentHeader).validate_json(header)
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(map(str, found["loc"])) or "it"
        raise CheckpointError(f"{path} has a damaged header: {where}: {found['msg']}; make the file anew") from error


def load_student(
    teacher: InternVLForConditionalGeneration,
    files: Sequence[Path],
    *,
    ratio: float | None = None,
    share_frozen: bool = False,
) -> FcotvlForConditionalGeneration:
    """Load the student of ``files``: later files replace tensors of earlier ones and the teacher.

    Args:
        teacher: source of all other weights.
        files: tensors of one student.
        ratio: share of visual tokens removed, where the compressor serves several; by default the one in the files.
        share_frozen: as for ``make_student``.

    Raises:
        CheckpointError: the files belong to different students, lack a part of the compressor, do not fit the teacher
            or do not serve that ratio.
    """
    if not files:
        raise ValueError("no files; a student needs at least the tensors that distill trained")
    parts = [(path, *read_student_tensors(path)) for path in files]
    _, _, first = parts[0]
    if ratio is None:
        ratio = first.ratio
    if ratio not in (served := {first.ratio, *compressors.train_ratios(first.compressor)}):
        raise CheckpointError(
            f"{files[0]} is of {_describe(first)} and does not serve ratio {ratio} (but "
            f"{', '.join(map(str, sorted(served)))}); distil one that does"
        )
    student = make_student(
        teacher,
        compressor=first.compressor,
        ratio=ratio,
        options=first.options,
        positions=first.positions,
        share_frozen=share_frozen,
    )
    for path, tensors, header in parts:
        if replace(header, stage=first.stage) != first:
            raise CheckpointError(
                f"{path} is of {_describe(header)}, but {files[0]} is of {_describe(first)}; give files of one student"
            )
        load_tensors(student, tensors, source=str(path))
    own = {name for name, _ in student.named_parameters() if name.startswith("model.compressor.")}
    if missing := sorted(own.difference(*(tensors for _, tensors, _ in parts))):
        raise CheckpointError(f"{files[0]} has no {missing[0]}, which no teacher has either; distil the student again")
    return student


def load_tensors(model: PreTrainedModel, tensors: Mapping[str, Tensor], *, source: str = "") -> None:
    """Copy ``tensors`` over the model's parameters of the same names.

    Raises:
        CheckpointError: the model has no parameter of a name, or it has another shape.
    """
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if name not in parameters:
            raise CheckpointError(f"{source}: the model has no parameter {name}")
        if parameters[name].shape != tensor.shape:
            found, expected = list(tensor.shape), list(parameters[name].shape)
            raise CheckpointError(f"{source}: {name} is {found}, but the model has {expected}")
        if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16) or not tensor.isfinite().all():
            raise CheckpointError(f"{source}: {name} ({tensor.dtype}) holds something else than finite numbers")
        with torch.no_grad():
            parameters[name].copy_(tensor)


def _describe(header: StudentHeader) -> str:
    options = f" with {header.options}" if header.options else ""
    positions = ", positions spread" if header.positions == "spread" else ""
    return f"{header.compressor} at {header.ratio}{options}{positions}"


def _check_folder(folder: str | Path) -> None:
    """Refuse a missing path at once; transformers would look for it on the hub for minutes."""
    if isinstance(folder, Path) and not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; run the stage that writes it (teacher)")


def _check_size(folder: Path) -> None:
    """Refuse a config of another model than the weights are, before memory is taken for what the weights lack.

    Raises:
        CheckpointError: it has more layers than there are tensors, or more than twice the parameters.
    """
    sizes: list[int] = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            sizes += [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118
    config = InternVLConfig.from_pretrained(folder)
    layers = config.text_config.num_hidden_layers + config.vision_config.num_hidden_layers
    if layers > len(sizes):
        raise CheckpointError(f"config.json has {layers} layers, but the weights are {len(sizes)} tensors")
    with torch.device("meta"):
        needed = sum(parameter.numel() for parameter in InternVLForConditionalGeneration(config).parameters())
    if needed > 2 * sum(sizes):
        raise CheckpointError(f"config.json has {needed:,} parameters, but the weights hold {sum(sizes):,} numbers")


@contextmanager
def _loading(problem: str) -> Iterator[None]:
    """Report whatever a damaged folder raises as one line; its libraries raise anything, even a plain ``Exception``."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(f"{problem}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return " ".join(" ".join(lines[: 1 + lines[0].endswith(":")]).split())
