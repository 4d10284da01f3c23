"""Tiny random models in the layout of the real ones."""

from __future__ import annotations

import string

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import InternVLConfig, InternVLForConditionalGeneration, PreTrainedTokenizerFast

from fcotvl.compress.processor import FcotvlImageProcessor, FcotvlProcessor
from fcotvl.core.geometry import tokens_per_tile
from fcotvl.core.prompts import SPECIAL_TOKENS
from fcotvl.internvl.chat_templates import CHATML

TILE = 56
PATCH = 7
TOKENS = tokens_per_tile(TILE, PATCH, 2)
"""16 visual tokens per tile."""
THRESHOLD = 0.125
"""Between the complexity of a stretched ``picture``'s tiles (0.09 to 0.12) and that of small ones and thumbnails (0.156
to 0.159)."""
OPTIONS: dict[str, dict[str, float]] = {"qformer": {"hidden": 32, "heads": 4}, "adaptive": {"threshold": THRESHOLD}}
"""Options of the compressors that need some at these sizes."""


def tokenizer(chat_template: str = CHATML) -> PreTrainedTokenizerFast:
    """One token per printable character, and the special ones."""
    plain = ["<unk>", *string.printable]
    core = Tokenizer(models.WordLevel({c: i for i, c in enumerate(plain)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", pad_token="<|im_end|>", eos_token="<|im_end|>"
    )
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS)})
    fast.chat_template = chat_template
    return fast


def processor(max_tiles: int = 4, tokens: int = TOKENS) -> FcotvlProcessor:
    """The processor of the random teacher."""
    images = FcotvlImageProcessor(tile_size=TILE, max_tiles=max_tiles)
    return FcotvlProcessor(images, tokenizer(), image_seq_length=tokens)


def config(*, tied: bool = True, llm: str = "qwen2") -> InternVLConfig:
    """Two ViT layers 16 wide, four LLM layers 32 wide with grouped-query attention."""
    vocabulary = tokenizer()
    return InternVLConfig(
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "image_size": (TILE, TILE),
            "patch_size": (PATCH, PATCH),
            "attention_bias": True,
        },
        text_config={
            "model_type": llm,
            "hidden_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 64,
            "vocab_size": len(vocabulary),
            "max_position_embeddings": 512,
            "tie_word_embeddings": tied,
            "eos_token_id": vocabulary.eos_token_id,
            "pad_token_id": vocabulary.pad_token_id,
        },
        image_token_id=vocabulary.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=TOKENS,
        tie_word_embeddings=tied,
    )


def teacher(*, tied: bool = True, llm: str = "qwen2", seed: int = 0) -> InternVLForConditionalGeneration:
    """A random teacher whose every parameter matters: nothing is left at zero or at one."""
    torch.manual_seed(seed)
    model = InternVLForConditionalGeneration(config(tied=tied, llm=llm)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def picture(width: int = TILE, height: int = TILE, seed: int = 0) -> Image.Image:
    """Coarse coloured noise, which survives resizing."""
    cells = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height))
