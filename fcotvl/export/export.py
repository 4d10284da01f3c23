"""A student as a folder that transformers loads: weights, processor, tokenizer and model card."""

from importlib.resources import files
from pathlib import Path

from fcotvl import __version__
from fcotvl.compress.checkpoints import processor_for
from fcotvl.compress.config import FcotvlConfig, full_tokens, tile_tokens
from fcotvl.compress.positions import is_spread
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import FcotvlForConditionalGeneration
from fcotvl.core.prompts import Prompts
from fcotvl.evaluate.cost import cost, parameters

CLASSES = "requires_fcotvl.py"
"""The file of the folder that transformers imports where the package is not imported."""
MODEL_CLASSES = {
    "AutoConfig": "FcotvlConfig",
    "AutoModel": "FcotvlModel",
    "AutoModelForImageTextToText": "FcotvlForConditionalGeneration",
    "AutoModelForMultimodalLM": "FcotvlForConditionalGeneration",
}
PROCESSOR = {"AutoProcessor": "FcotvlProcessor"}
IMAGES = {"AutoImageProcessor": "FcotvlImageProcessor"}
TEXT_TOKENS = 50
"""Text tokens of the prompt whose cost the card states."""


def export_student(
    model: FcotvlForConditionalGeneration,
    processor: FcotvlProcessor,
    folder: Path,
    *,
    name: str,
    stage: str,
    prompts: Prompts,
) -> None:
    """Write ``model`` with everything needed to use it to ``folder``.

    Args:
        model: the student.
        processor: its teacher's processor.
        folder: made if it does not exist.
        name: heading of the card.
        stage: the stage that made the weights.
        prompts: what the student was trained with.
    """
    adapted = processor_for(processor, model.config)
    for part, classes in ((model.config, MODEL_CLASSES), (adapted, PROCESSOR), (adapted.image_processor, IMAGES)):
        part.auto_map = {auto: f"{Path(CLASSES).stem}.{name}" for auto, name in classes.items()}
    model.save_pretrained(folder)
    adapted.save_pretrained(folder)
    (folder / CLASSES).write_bytes(files(__package__).joinpath(CLASSES).read_bytes())
    text = model_card(model, processor, name=name, stage=stage, prompts=prompts)
    (folder / "README.md").write_text(text, encoding="utf-8")


def model_card(
    model: FcotvlForConditionalGeneration, processor: FcotvlProcessor, *, name: str, stage: str, prompts: Prompts
) -> str:
    """Fill in ``card.md``: what the model is, how to load and ask it, what it costs."""
    config = model.config
    counts, kept = parameters(config), tile_tokens(config)
    max_tiles = processor.image_processor.max_tiles
    all_tiles = max_tiles + (max_tiles > 1)
    uncompressed = FcotvlConfig.from_teacher(config, compressor="identity", ratio=0.0)
    ours, full = (cost(each, tiles=all_tiles, text_tokens=TEXT_TOKENS) for each in (config, uncompressed))
    template = files(__package__).joinpath("card.md").read_text(encoding="utf-8")
    return template.format(
        name=name,
        stage=stage,
        version=__version__,
        compressor=config.compressor,
        removed=("on average " if len(kept) > 1 else "") + f"{config.ratio:.1%}",
        left=" or ".join(map(str, kept)),
        full=full_tokens(config),
        positions="the positions of those that they replace" if is_spread(config) else "consecutive positions",
        parameters=counts["total"],
        added=counts["compressor"],
        direct=prompts.direct,
        cot=prompts.cot,
        tokens=prompts.direct_tokens,
        cot_tokens=prompts.cot_tokens,
        tiles=max_tiles,
        worst=all_tiles,
        text=TEXT_TOKENS,
        prefill=ours.prefill / full.prefill,
        cache=ours.kv_bytes / full.kv_bytes,
    )
