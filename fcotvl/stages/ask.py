"""Ask a question about a picture."""

import logging
import sys
import time
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from PIL import Image
from tabulate import tabulate
from transformers import AutoModelForImageTextToText

from fcotvl.compress.checkpoints import load_processor, load_student, load_teacher, processor_for
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError, DataError
from fcotvl.core.prompts import IMAGE_TOKEN
from fcotvl.core.records import Turn
from fcotvl.data.images import normalise_image
from fcotvl.inference import pruning
from fcotvl.inference.generate import Query, generate
from fcotvl.inference.pruned_decoding import System

log = logging.getLogger(__name__)

MAX_PIXELS = 50_000_000
Asked = dict[str, tuple[System, FcotvlProcessor]]
"""Systems by name, each with its processor."""


def run(
    params: Params,
    picture: Path,
    question: str,
    *,
    cot: bool = False,
    compare: bool = False,
    model: tuple[Path, ...] = (),
) -> None:
    """Print the reply to QUESTION about the file PICTURE, by default of the student of the last `make repro`.

    With several systems a table says what each read, how long it took, and what it replied.

    Args:
        params: the study; its scale has the prompts, and it says where the student lies.
        picture: PNG, JPEG or another file that Pillow decodes.
        question: in the user's words; the scale's prompt goes around it.
        cot: ask for a chain of thought.
        compare: ask the teacher, the student and FastV at the same ratio.
        model: folders of models instead, as export, convert and teacher write them.

    Raises:
        CheckpointError: there is no such model.
        DataError: the picture cannot be read.
    """
    try:
        pixels = normalise_image(picture.read_bytes(), max_pixels=MAX_PIXELS).pixels
    except OSError as error:
        raise DataError(f"{picture} cannot be read ({error.strerror}); name a file with a picture") from error
    systems = _folders(params, model) if model else _trained(params, compare=compare)
    mode = "cot" if cot else "direct"
    turn = Turn("asked", question, (), "extractive")
    query = Query(lambda: pixels, "asked", params.scale_config.prompts.ask(turn, mode))
    rows: list[list[str]] = []
    for name, (system, processor) in systems.items():
        length = params.scale_config.prompts.max_new_tokens(mode)
        ask = partial(generate, system.model, processor, [query], pruning=system.pruning, label=None)
        ask(max_new_tokens=1)  # the first pass of a process is slow
        start = time.perf_counter()
        (reply,) = ask(max_new_tokens=length)
        tokens = _visual_tokens(system, processor, pixels)
        rows.append([name, f"{tokens:,}", f"{time.perf_counter() - start:.2f}", reply])
    if len(rows) == 1:
        name, seen, seconds, reply = rows[0]
        log.info("%s: %s visual tokens, %s s", name, seen, seconds)
        sys.stdout.write(f"{reply}\n")
    else:
        header = ["system", "visual tokens", "s", "reply"]
        sys.stdout.write(tabulate(rows, header, tablefmt="grid", disable_numparse=True, maxcolwidths=60) + "\n")


def _visual_tokens(system: System, processor: FcotvlProcessor, pixels: Image.Image) -> int:
    """Visual tokens that the last layer of the LLM reads."""
    vision = processor.image_processor(pixels)
    tokens = processor.expand([IMAGE_TOKEN], processor.tiles(vision))[0].count(IMAGE_TOKEN)
    return system.pruning.kept(tokens) if system.pruning else tokens


def _folders(params: Params, folders: tuple[Path, ...]) -> Asked:
    """The models of these folders, under their names."""
    systems: Asked = {}
    for folder in folders:
        processor = load_processor(folder)
        try:
            model = AutoModelForImageTextToText.from_pretrained(folder, dtype=_dtype(params), local_files_only=True)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{folder} is not a model ({reason}); name a folder that export wrote") from error
        systems[str(folder)] = (System(model.to(PartialState().device).eval()), processor)
    return systems


def _trained(params: Params, *, compare: bool) -> Asked:
    """The merged student that params.yaml describes; and, to compare, its teacher and FastV."""
    home = Path("data") / params.scale
    file = home / f"{params.compressor}-r{params.ratio}-s{params.seed}/{params.recipe}/merged/merged.safetensors"
    if not file.is_file():
        raise CheckpointError(f"{file} is missing; run make repro first, or name a folder with --model")
    processor = load_processor(home / "teacher")
    teacher = load_teacher(home / "teacher", dtype=_dtype(params)).to(PartialState().device)
    systems = {"student": System(load_student(teacher, [file]))}
    if compare:
        fastv = pruning.build("fastv", teacher, ratio=params.ratio, layer=params.baselines.fastv_layer)
        systems = {"teacher": System(teacher), **systems, f"FastV {params.ratio}": fastv}
    return {name: (system, processor_for(processor, system.model.config)) for name, system in systems.items()}


def _dtype(params: Params) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, params.scale_config.model.dtype)
    return dtype
