"""Cost of a model from its config alone: FLOPs by part, KV-cache bytes and parameters.

Counted as ``torch.utils.flop_counter`` does: matrix products only, 2 FLOPs for a multiplication and its addition, and
the full square of attention, of which causal kernels may compute half.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import InternVLConfig, InternVLForConditionalGeneration

from fcotvl.compress.config import FcotvlConfig, full_tokens, tile_ratios, tile_tokens, token_width
from fcotvl.compress.student import FcotvlForConditionalGeneration, build_compressor
from fcotvl.core.geometry import compressed, tile_shares
from fcotvl.inference.early_pruning import EarlyPruning
from fcotvl.inference.flops import attention_widths, llm_layer, projector
from fcotvl.inference.pruned_decoding import Pruning


@dataclass(frozen=True)
class Cost:
    """Cost of one prompt about one picture, in FLOPs except ``kv_bytes``."""

    vit: int
    compressor: int
    """The student's compressor, or the choice of tokens before the LLM."""
    projector: int
    prefill: int
    """LLM and head up to the first new token."""
    decode: int
    """LLM and head for the second new token; later ones only have a longer context."""
    kv_bytes: int
    """Size of the KV cache after prefill, in bytes."""

    @property
    def connector(self) -> int:
        """Compressor and projector; pixel shuffle computes nothing."""
        return self.compressor + self.projector


def cost(
    config: InternVLConfig,
    *,
    tiles: int | Sequence[int],
    text_tokens: int,
    pruning: Pruning | EarlyPruning | None = None,
    bytes_per_number: int = 2,
) -> Cost:
    """Compute the cost of a prompt of ``tiles`` tiles and ``text_tokens`` other tokens.

    Args:
        config: config of a teacher or a student.
        tiles: number of tiles, thumbnail included, or a list of the visual tokens of each tile. Given only a number, an
            adaptive student is counted at its mean ratio.
        text_tokens: all tokens except visual ones, with those of the chat template.
        pruning: how visual tokens are dropped, if at all: at prefill or before.
        bytes_per_number: bytes of a number in the KV cache; 2 for bfloat16.
    """
    counts = _tile_counts(config, tiles)
    visual = int(sum(tokens * number for tokens, number in counts.items()))
    number, layers = int(sum(counts.values())), config.text_config.num_hidden_layers
    compressor = int(sum(each * _compressor(config, n) for n, each in counts.items()))
    tile_size, projected, read, scoring = config.vision_config.image_size, visual, visual, 0
    if isinstance(pruning, EarlyPruning):
        tile_size, projected, read = pruning.tile_size(config), pruning.projected(visual), pruning.kept(visual)
        compressor += pruning.choosing_flops(config, number)
    full = read + text_tokens
    lengths = [full] * layers
    if isinstance(pruning, Pruning):
        short = pruning.kept(visual) + text_tokens
        lengths = [full] * pruning.layer + [short] * (layers - pruning.layer)
        scoring = pruning.scoring_flops(config, full)
    head = 2 * config.text_config.hidden_size * config.text_config.vocab_size
    _, key_value_width = attention_widths(config)
    return Cost(
        vit=number * _vit(config, tile_size),
        compressor=compressor,
        projector=projector(config, projected),
        prefill=sum(llm_layer(config, length, length) for length in lengths) + head + scoring,
        decode=sum(llm_layer(config, 1, length + 1) for length in lengths) + head,
        kv_bytes=sum(lengths) * 2 * key_value_width * bytes_per_number,
    )


def training_flops(
    student: InternVLConfig,
    teacher: InternVLConfig | None = None,
    *,
    trains_llm: bool,
    tiles: int,
    text_tokens: int,
    answer_tokens: int,
) -> int:
    """Count the FLOPs of one picture in a training step, forward and backward, nothing computed twice.

    A backward pass costs one forward pass for the gradients of a layer's input and one for those of its weights. The
    ViT is frozen and has neither; a frozen LLM has the former only. Attention itself has two inputs for each product,
    and so both in any case.

    Args:
        student: the student.
        teacher: the teacher, if the loss depends on it.
        trains_llm: whether the student's LLM is trained, as in fine-tuning, or frozen, as in distillation.
        tiles: number of tiles, thumbnail included.
        text_tokens: all tokens except visual ones.
        answer_tokens: those of them that are predicted.
    """
    seen = cost(student, tiles=tiles, text_tokens=0)

    def llm(config: InternVLConfig) -> tuple[int, int]:
        """Forward pass, and attention as a part of it."""
        text = config.text_config
        length = tiles * compressed(full_tokens(config), getattr(config, "ratio", 0.0)) + text_tokens
        layers, head = text.num_hidden_layers, 2 * text.hidden_size * text.vocab_size
        attention = 4 * length**2 * attention_widths(config)[0]
        return layers * llm_layer(config, length, length) + head * answer_tokens, layers * attention

    shared = seen.vit + 3 * seen.connector
    forward, attention = llm(student)
    asked = cost(teacher, tiles=tiles, text_tokens=0).connector + llm(teacher)[0] if teacher else 0
    return shared + asked + (3 * forward if trains_llm else 2 * forward + attention)


def parameters(config: InternVLConfig) -> dict[str, int]:
    """Count parameters by part; an embedding tied to the head counts once, in the LLM."""
    is_student = isinstance(config, FcotvlConfig)
    model_class = FcotvlForConditionalGeneration if is_student else InternVLForConditionalGeneration
    with torch.device("meta"):
        model = model_class(config)
    parts = {"vit": "vision_tower", "compressor": "compressor", "projector": "multi_modal_projector"}
    counts = {
        part: sum(p.numel() for p in getattr(model.model, name).parameters())
        for part, name in parts.items()
        if hasattr(model.model, name)
    }
    total = sum(p.numel() for p in model.parameters())
    return {"compressor": 0, **counts, "llm": total - sum(counts.values()), "total": total}


def _tile_counts(config: InternVLConfig, tiles: int | Sequence[int]) -> dict[int, Fraction | int]:
    """Number of tiles by their visual tokens; at a mean ratio not always a whole number."""
    if not isinstance(tiles, int):
        return dict(Counter(tiles))
    shares = tile_shares(getattr(config, "ratio", 0.0), tile_ratios(config))
    return {n: tiles * share for n, share in zip(tile_tokens(config), shares, strict=True)}


def _vit(config: InternVLConfig, tile_size: Sequence[int]) -> int:
    """FLOPs of the ViT on one tile of this height and width, class token included."""
    vision = config.vision_config
    patch_rows, patch_columns = vision.patch_size
    patches = (tile_size[0] // patch_rows) * (tile_size[1] // patch_columns)
    width, seq = vision.hidden_size, patches + 1
    embedding = patches * vision.num_channels * patch_rows * patch_columns * width
    layer = seq * (4 * width**2 + 2 * width * vision.intermediate_size) + 2 * seq**2 * width
    return int(2 * (embedding + vision.num_hidden_layers * layer))


def _compressor(config: InternVLConfig, tokens: int) -> int:
    """FLOPs of compressing one tile to ``tokens``, counted on the meta device."""
    if not isinstance(config, FcotvlConfig):
        return 0
    # Plain attention, since fused kernels are not counted on every device.
    plain = sdpa_kernel(SDPBackend.MATH)
    with torch.device("meta"), plain, FlopCounterMode(display=False) as counter:
        tile = torch.empty(1, full_tokens(config), token_width(config))
        counts = ([tokens],) if len(tile_tokens(config)) > 1 else ()
        build_compressor(config)(tile, *counts)
    return int(counter.get_total_flops())
