"""The tiny InternVL of scale ``tiny``: its tokenizer and an untrained model."""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerFast

from fcotvl.core.prompts import IMAGE_END, IMAGE_START, IMAGE_TOKEN, SPECIAL_TOKENS, TURN_END
from fcotvl.internvl.architectures import tiny_config
from fcotvl.internvl.chat_templates import CHATML

PAD = "<|endoftext|>"

_PIECES = r"\d|\n| ?\p{Ll}+|\p{L}+| ?[^\s\d\p{L}]|\s"
"""Single digits, line breaks, lower-case words and marks with the space before them.

Names and labels are capitalised and split from that space: a word in a question and the same word in a picture are one
token.
"""


def build_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on ``texts``: any UTF-8 text round-trips, digits stay single.

    Args:
        texts: typical prompts and replies; frequent words become one token.
        vocab_size: most tokens, including special ones and the 256 bytes.
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


def sincos(side: int, width: int) -> Float[Tensor, "positions width"]:
    """Fixed 2-D sine and cosine position embeddings, row-major over a square grid."""
    quarter = width // 4
    rates = torch.exp(-math.log(100.0) * torch.arange(quarter) / quarter)
    angles = torch.arange(side)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = waves[:, None].expand(side, side, -1)
    columns = waves[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, width)


def build_tiny(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> InternVLForConditionalGeneration:
    """Make an untrained model whose position embeddings start as 2-D sine and cosine waves.

    transformers initialises them to zero; the ViT would first have to learn where patches are.
    """
    config = tiny_config(
        vocab_size=len(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        end_token_id=tokenizer.convert_tokens_to_ids(TURN_END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = InternVLForConditionalGeneration(config)
    vision = config.vision_config
    side = vision.image_size[0] // vision.patch_size[0]
    positions = model.model.vision_tower.embeddings.position_embeddings
    with torch.no_grad():
        positions[0, 1:] = 0.3 * sincos(side, vision.hidden_size)
    return model.eval()
