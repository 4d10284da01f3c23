"""The small InternVL of scale ``tiny``: its tokenizer, its sizes and a fresh model."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from fcotvl.internvl.chat_templates import (
    CHATML,
    IMAGE_END,
    IMAGE_START,
    IMAGE_TOKEN,
    SPECIAL_TOKENS,
    TURN_END,
)

PAD = "<|endoftext|>"

_PIECES = r"\d|\n| ?\p{Ll}+|\p{L}+| ?[^\s\d\p{L}]|\s"
"""Single digits, line breaks, lower-case words and marks with the space before them.

Names and labels are capitalised and come without that space: one form wherever they stand, so that
what a question asks for and what a picture shows are the same token.
"""


def build_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE from ``texts``: any UTF-8 text round trips, digits stay single.

    Args:
        texts: what the model will read and write; frequent words become one token.
        vocab_size: most tokens, special ones and the 256 bytes included.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, *SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=TURN_END,
        pad_token=PAD,
        extra_special_tokens={
            "start_image_token": IMAGE_START,
            "end_image_token": IMAGE_END,
            "context_image_token": IMAGE_TOKEN,
        },
        chat_template=CHATML,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def tiny_config(tokenizer: PreTrainedTokenizerFast) -> InternVLConfig:
    """Sizes of the tiny model: 224-pixel tiles of 64 visual tokens, about 3 M parameters."""
    vision = InternVLVisionConfig(
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=512,
        attention_bias=True,
        image_size=(224, 224),
        patch_size=(14, 14),
        layer_scale_init_value=1.0,
    )
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=432,
        num_hidden_layers=4,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=4096,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(TURN_END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=64,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )


def sincos(side: int, width: int) -> Float[Tensor, "positions width"]:
    """Fixed 2-D sine and cosine position embeddings, row-major over a square grid."""
    quarter = width // 4
    rates = torch.exp(-math.log(100.0) * torch.arange(quarter) / quarter)
    place = torch.arange(side)[:, None] * rates
    waves = torch.cat([place.sin(), place.cos()], dim=1)
    rows = waves[:, None].expand(side, side, -1)
    columns = waves[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, width)


def build_tiny(config: InternVLConfig, *, seed: int) -> InternVLForConditionalGeneration:
    """Make an untrained model whose ViT knows where its patches are.

    transformers starts position embeddings at zero; here they start as 2-D waves and are trained.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = InternVLForConditionalGeneration(config)
    vision = config.vision_config
    side = vision.image_size[0] // vision.patch_size[0]
    positions = model.model.vision_tower.embeddings.position_embeddings
    with torch.no_grad():
        positions[0, 1:] = 0.3 * sincos(side, vision.hidden_size)
    return model.eval()
