"""Convert original InternVL2 checkpoints to transformers' layout and back, shard by shard."""

import json
import shutil
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import GenerationConfig, InternVLConfig, InternVLForConditionalGeneration

from fcotvl.compress.config import head_dim
from fcotvl.compress.processor import FcotvlImageProcessor, FcotvlProcessor
from fcotvl.core.errors import CheckpointError
from fcotvl.core.prompts import IMAGE_TOKEN, TURN_END
from fcotvl.internvl.convert.configs import INTERNLM, TEMPLATES, llm_of, read_original, to_transformers
from fcotvl.internvl.convert.names import Pair, all_pairs, join, saved_name, split
from fcotvl.internvl.convert.shards import ShardReader, write_shards
from fcotvl.internvl.convert.tokenizers import read_tokenizer

SHARD_BYTES = 1024**3
ORIGINAL_CONFIG = "internvl_config.json"
"""The original's config, kept beside the converted one for the way back."""
TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)


def from_original(source: Path, target: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write the original checkpoint in ``source`` to ``target`` as transformers' InternVL.

    Model, processor, tokenizer and chat template; no code of the checkpoint is run.

    Raises:
        CheckpointError: files, tensors or shapes are missing or not those of InternVL2.
    """
    original = read_original(source)
    tokenizer = read_tokenizer(source, TEMPLATES[original["template"]])
    reader = ShardReader(source)
    is_internlm = llm_of(original) == INTERNLM
    head = "language_model.output.weight" if is_internlm else "language_model.lm_head.weight"
    has_head = head in reader.shard_of
    config = to_transformers(
        original,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        end_token_id=tokenizer.convert_tokens_to_ids(TURN_END),
        tied=not has_head,
    )
    pairs = all_pairs(config, internlm=is_internlm, has_head=has_head)
    _check_names({pair.original for pair in pairs}, set(reader.shard_of), source)
    _convert_weights(reader, target, pairs, config, shard_bytes)
    config.architectures = ["InternVLForConditionalGeneration"]
    config.save_pretrained(target)
    GenerationConfig(eos_token_id=config.text_config.eos_token_id, pad_token_id=tokenizer.pad_token_id).save_pretrained(
        target
    )
    images = FcotvlImageProcessor(tile_size=original["force_image_size"], max_tiles=original["max_dynamic_patch"])
    FcotvlProcessor(images, tokenizer, image_seq_length=config.image_seq_length).save_pretrained(target)
    (target / ORIGINAL_CONFIG).write_text(json.dumps(original, indent=2), encoding="utf-8")
    _copy_tokenizer(source, target / "original_tokenizer")


def to_original(source: Path, target: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write a checkpoint that ``from_original`` made, trained further or not, in the old layout.

    Raises:
        CheckpointError: ``source`` is not such a checkpoint.
    """
    if not (source / ORIGINAL_CONFIG).exists():
        raise CheckpointError(f"{source} has no {ORIGINAL_CONFIG}; expected a converted folder")
    config = InternVLConfig.from_pretrained(source)
    original = json.loads((source / ORIGINAL_CONFIG).read_text(encoding="utf-8"))
    reader = ShardReader(source)
    pairs = all_pairs(
        config, internlm=llm_of(original) == INTERNLM, has_head="language_model.lm_head.weight" in reader.shard_of
    )
    _check_names({name for pair in pairs for name in pair.ours}, set(reader.shard_of), source)
    sizes = {pair.original: sum(reader.sizes[name] for name in pair.ours) for pair in pairs}
    tensors = (
        (pair.original, join([reader.tensor(name) for name in pair.ours], pair, *_heads(config)))
        for pair in tqdm(pairs, desc="convert", disable=None)
    )
    write_shards(target, sizes, tensors, limit=shard_bytes)
    (target / "config.json").write_text(json.dumps(original, indent=2), encoding="utf-8")
    _copy_tokenizer(source / "original_tokenizer", target)


def _convert_weights(
    reader: ShardReader, target: Path, pairs: list[Pair], config: InternVLConfig, shard_bytes: int
) -> None:
    """Convert tensor by tensor in the order of the source's shards."""
    shapes, sizes = _shapes(config), {}
    pairs = sorted(pairs, key=lambda pair: reader.shard_of[pair.original])
    for pair in pairs:
        rows = sum(shapes[name][0] for name in pair.ours)
        expected, found = [rows, *shapes[pair.ours[0]][1:]], reader.shapes[pair.original]
        if found != expected:
            raise CheckpointError(f"{pair.original} is {found}; its config expects {expected}")
        for name in pair.ours:
            sizes[name] = reader.sizes[pair.original] * shapes[name][0] // rows
    tensors = (
        part
        for pair in tqdm(pairs, desc="convert", disable=None)
        for part in split(reader.tensor(pair.original), pair, *_heads(config)).items()
    )
    write_shards(target, sizes, tensors, limit=shard_bytes)


def _heads(config: InternVLConfig) -> tuple[int, int]:
    """Channels of an LLM head, and query heads per key-value head."""
    text = config.text_config
    return head_dim(config), text.num_attention_heads // text.num_key_value_heads


def _shapes(config: InternVLConfig) -> dict[str, list[int]]:
    """Shape of each tensor of the converted checkpoint, from a model on the meta device."""
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config)
    return {saved_name(name): list(p.shape) for name, p in model.named_parameters()}


def _check_names(expected: set[str], found: set[str], source: Path) -> None:
    for problem, names in (("lacks", expected - found), ("has unknown", found - expected)):
        if names:
            raise CheckpointError(
                f"{source} {problem} {len(names)} tensors, the first is {min(names)}; "
                "expected an InternVL2 checkpoint of its config"
            )


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Copy those of the tokenizer's files that exist."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
