"""Ask systems about one picture: those of a finished run, or models in folders."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from fcotvl.compress.checkpoints import load_model, load_processor, load_student, load_teacher, processor_for
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError, DataError
from fcotvl.core.prompts import IMAGE_TOKEN, Prompts
from fcotvl.core.records import Turn
from fcotvl.data.images import normalise_image
from fcotvl.inference import pruning
from fcotvl.inference.generate import Query, generate
from fcotvl.inference.pruned_decoding import System
from fcotvl.inference.sharing import join

MAX_PIXELS = 50_000_000
Asked = tuple[System, FcotvlProcessor]
"""A system and the processor for its number of visual tokens."""


@dataclass(frozen=True)
class Reply:
    """What a system said to one question."""

    text: str
    tokens: int
    """Visual tokens that the last layer of the LLM reads."""
    seconds: float


def read_picture(path: Path) -> Image.Image:
    """The picture in ``path`` as the chain curates it.

    Raises:
        DataError: it cannot be read or decoded, or is too large.
    """
    try:
        return normalise_image(path.read_bytes(), max_pixels=MAX_PIXELS).pixels
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a file with a picture") from error


def wording(question: str, prompts: Prompts, mode: str) -> str:
    """The prompt of ``mode`` with the user's question in it."""
    return prompts.ask(Turn("asked", question, (), "extractive"), mode)


def ask(asked: Asked, picture: Image.Image, question: str, *, prompts: Prompts, mode: str) -> Reply:
    """Put a question about a picture to one system, as ``predict`` does, and time it.

    Args:
        asked: the system and its processor.
        picture: as ``read_picture`` returns it.
        question: in the user's words; the prompt goes around it.
        prompts: those of the scale.
        mode: ``direct`` or ``cot``.
    """
    system, processor = asked
    query = Query(lambda: picture, "asked", wording(question, prompts, mode))
    reply = partial(generate, system.model, processor, [query], pruning=system.pruning, label=None)
    reply(max_new_tokens=1)  # the first pass of a process is slow
    start = time.perf_counter()
    (text,) = reply(max_new_tokens=prompts.max_new_tokens(mode), min_new_tokens=prompts.min_tokens)
    return Reply(text, _visual_tokens(asked, picture), time.perf_counter() - start)


def systems_of(params: Params, *, compare: bool, folders: tuple[Path, ...] = ()) -> dict[str, Asked]:
    """The systems to ask, by name.

    Args:
        params: the study; it says where the student of the last run lies.
        compare: beside that student, its teacher and FastV at the same ratio.
        folders: models instead, as export, convert and teacher write them.

    Raises:
        CheckpointError: there is no such model.
    """
    return _in_folders(params, folders) if folders else _trained(params, compare=compare)


def _visual_tokens(asked: Asked, picture: Image.Image) -> int:
    system, processor = asked
    vision = processor.image_processor(picture)
    tokens = processor.expand([IMAGE_TOKEN], processor.tiles(vision))[0].count(IMAGE_TOKEN)
    return system.pruning.kept(tokens) if system.pruning else tokens


def _in_folders(params: Params, folders: tuple[Path, ...]) -> dict[str, Asked]:
    """The models of these folders, under their names."""
    systems: dict[str, Asked] = {}
    for folder in folders:
        processor, model = load_processor(folder), load_model(folder, dtype=_dtype(params))
        systems[str(folder)] = (System(model.to(join())), processor)
    return systems


def _trained(params: Params, *, compare: bool) -> dict[str, Asked]:
    """The merged student that params.yaml describes; and, to compare, its teacher and FastV."""
    home = Path("data") / params.scale
    place = f"s{params.seed}/{params.recipe}/merged/merged.safetensors"
    files = [home / f"{params.compressor}-r{ratio}-{place}" for ratio in (f"{params.ratio:g}", params.ratio)]
    file = next((file for file in files if file.is_file()), files[-1])  # a ratio of 0 may be written 0 or 0.0
    if not file.is_file():
        raise CheckpointError(f"{file} is missing; run make repro first, or name a folder with --model")
    processor = load_processor(home / "teacher")
    teacher = load_teacher(home / "teacher", dtype=_dtype(params)).to(join())
    systems = {"student": System(load_student(teacher, [file]))}
    if compare:
        fastv = pruning.build("fastv", teacher, ratio=params.ratio, layer=params.baselines.fastv_layer)
        systems = {"teacher": System(teacher), **systems, f"FastV {params.ratio}": fastv}
    return {name: (system, processor_for(processor, system.model.config)) for name, system in systems.items()}


def _dtype(params: Params) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, params.scale_config.model.dtype)
    return dtype
