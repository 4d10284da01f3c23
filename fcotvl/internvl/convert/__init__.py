"""Convert original InternVL2 checkpoints to transformers' layout and back, shard by shard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import GenerationConfig, InternVLConfig, InternVLForConditionalGeneration

from fcotvl.compress.processor import FcotvlImageProcessor, FcotvlProcessor
from fcotvl.core.errors import CheckpointError
from fcotvl.internvl.chat_templates import IMAGE_TOKEN, TURN_END
from fcotvl.internvl.convert.configs import (
    INTERNLM,
    TEMPLATES,
    llm_of,
    read_original,
    to_transformers,
)
from fcotvl.internvl.convert.names import Pair, join, pairs, saved_name, split
from fcotvl.internvl.convert.shards import Reader, Writer
from fcotvl.internvl.convert.tokenizers import read_tokenizer

SHARD_BYTES = 1024**3
KEPT = "internvl_config.json"
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
    reader = Reader(source)
    internlm = llm_of(original) == INTERNLM
    head = "language_model.output.weight" if internlm else "language_model.lm_head.weight"
    config = to_transformers(
        original,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        end_token_id=tokenizer.convert_tokens_to_ids(TURN_END),
        tied=head not in reader.where,
    )
    listed = pairs(config, internlm=internlm, has_head=head in reader.where)
    _same_names({pair.original for pair in listed}, set(reader.where), source)
    _split_all(reader, target, listed, config, shard_bytes)
    config.architectures = ["InternVLForConditionalGeneration"]
    config.save_pretrained(target)
    GenerationConfig(
        eos_token_id=config.text_config.eos_token_id, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(target)
    images = FcotvlImageProcessor(
        tile_size=original["force_image_size"], max_tiles=original["max_dynamic_patch"]
    )
    FcotvlProcessor(images, tokenizer, image_seq_length=config.image_seq_length).save_pretrained(
        target
    )
    (target / KEPT).write_text(json.dumps(original, indent=2), encoding="utf-8")
    _keep_files(source, target / "original_tokenizer")


def to_original(source: Path, target: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write a checkpoint that ``from_original`` made, trained further or not, in the old layout.

    Raises:
        CheckpointError: ``source`` is no such checkpoint.
    """
    if not (source / KEPT).exists():
        raise CheckpointError(f"{source} has no {KEPT}; expected a folder that was converted")
    config = InternVLConfig.from_pretrained(source)
    original = json.loads((source / KEPT).read_text(encoding="utf-8"))
    reader = Reader(source)
    listed = pairs(
        config,
        internlm=llm_of(original) == INTERNLM,
        has_head="language_model.lm_head.weight" in reader.where,
    )
    _same_names({name for pair in listed for name in pair.ours}, set(reader.where), source)
    writer = Writer(target, shard_bytes)
    for pair in tqdm(listed, desc="convert", disable=None):
        parts = [reader.tensor(name) for name in pair.ours]
        writer.add(pair.original, join(parts, pair, *_heads(config)))
    writer.close()
    (target / "config.json").write_text(json.dumps(original, indent=2), encoding="utf-8")
    _keep_files(source / "original_tokenizer", target)


def _split_all(
    reader: Reader, target: Path, listed: list[Pair], config: InternVLConfig, shard_bytes: int
) -> None:
    """Convert tensor by tensor in the order of the source's shards."""
    expected = _shapes(config)
    writer = Writer(target, shard_bytes)
    order = sorted(listed, key=lambda pair: reader.where[pair.original])
    for pair in tqdm(order, desc="convert", disable=None):
        rows = sum(expected[name][0] for name in pair.ours)
        shape = [rows, *expected[pair.ours[0]][1:]]
        if reader.shapes[pair.original] != shape:
            found = reader.shapes[pair.original]
            raise CheckpointError(f"{pair.original} is {found}; its config expects {shape}")
        for name, part in split(reader.tensor(pair.original), pair, *_heads(config)).items():
            writer.add(name, part)
    writer.close()


def _heads(config: InternVLConfig) -> tuple[int, int]:
    """Channels of an LLM head, and query heads per key-value head."""
    text = config.text_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return head, text.num_attention_heads // text.num_key_value_heads


def _shapes(config: InternVLConfig) -> dict[str, list[int]]:
    """Shape of each tensor of the converted checkpoint, from a model without memory."""
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config)
    return {saved_name(name): list(p.shape) for name, p in model.named_parameters()}


def _same_names(expected: set[str], found: set[str], source: Path) -> None:
    for problem, names in (("lacks", expected - found), ("has unknown", found - expected)):
        if names:
            raise CheckpointError(
                f"{source} {problem} {len(names)} tensors, the first is {min(names)}; "
                "expected an InternVL2 checkpoint of its config"
            )


def _keep_files(source: Path, target: Path) -> None:
    """Copy the tokenizer's files, whichever there are."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
