"""VisionZip: keep the visual tokens that the ViT attends to most, and merge the others into a few.

Source: Yang et al. 2024 (arXiv 2412.04467) and the authors' code (github.com/dvlab-research/VisionZip), applied to each
tile by itself, as there to each crop. Of k tokens that stay, 27 in 32 are dominant (54 of 64 in the paper, rounded
down here), the rest contextual:

- dominant are the tokens that get the most attention in the ViT's layer before the last;
- of the others, every s-th is a target, s = others // contextual, as many as there are contextual tokens; each that is
  no target joins the target whose key in that layer has the largest cosine to its own (mean over heads), and a
  contextual token is its target plus the mean of those that joined it.

InternVL differs from LLaVA. Its ViT has a class token, but drops it, so that nothing makes it a summary of the
picture; the rule is therefore the one for encoders without: the attention that a patch receives, mean over heads and
patches. (With the class token's attention, or in the last layer, the baseline is much weaker on the tiny teacher.)
Pixel shuffle makes a visual token of 2 x 2 patches: attention and keys are means over the four. Tokens are merged
before the projector and stay in the order of the tile, a contextual one at the place of its target; the code for LLaVA
puts the contextual ones last.
"""

from typing import Any

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize, one_hot
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLModel

from fcotvl.compress.config import full_tokens, shuffle_factor
from fcotvl.compress.student import Features, shuffle
from fcotvl.inference.early_pruning import EarlyPruning
from fcotvl.inference.pruned_decoding import System


class VisionZip(EarlyPruning):
    """Chooses by the ViT's attention, and merges by its keys."""

    encodes = True

    def encode(self, model: InternVLModel, pixel_values: Float[Tensor, "tile 3 h w"]) -> Features:
        """The tokens that stay. The attention of one layer is computed beside the ViT's own pass."""
        vision = model.vision_tower
        *before, scored, last = vision.encoder.layer
        states = vision.embeddings(pixel_values.to(model.dtype))
        for layer in before:
            states = layer(states)
        received, keys = attention(scored, states)
        size, patch = pixel_values.shape[2:], model.config.vision_config.patch_size
        grid = tuple(n // p for n, p in zip(size, patch, strict=True))
        tokens = shuffle(model, vision.layernorm(last(scored(states)))[:, 1:].unflatten(1, grid))
        blocks, factor = "tile (rows fr columns fc) c -> tile (rows columns) c", shuffle_factor(model.config)
        sizes = {"rows": grid[0] // factor, "fr": factor, "fc": factor}
        scores = reduce(received[..., None], blocks, "mean", **sizes)[..., 0]
        return merge(tokens, scores, reduce(keys, blocks, "mean", **sizes), self.kept(tokens.shape[1]))

    def choosing_flops(self, config: InternVLConfig, tiles: int) -> int:
        """FLOPs of the attention of one layer, of the cosines of keys, and of the means."""
        vision, tokens = config.vision_config, full_tokens(config)
        patches, width = tokens * shuffle_factor(config) ** 2, vision.hidden_size
        dominant, contextual = shares(self.kept(tokens))
        joining = tokens - dominant - contextual
        scoring = 2 * (patches + 1) * width**2 + (patches + 1) * patches * width
        merging = joining * contextual * width * shuffle_factor(config) ** 2
        cosines = joining * contextual * (width // vision.num_attention_heads)
        return int(tiles * 2 * (scoring + merging + cosines))


def attention(
    layer: Any, states: Float[Tensor, "tile seq width"]
) -> tuple[Float[Tensor, "tile patch"], Float[Tensor, "tile patch head"]]:
    """The attention that each patch receives from patches, and its key, both as means over heads.

    Args:
        layer: of the ViT.
        states: what enters it, class token first.
    """
    block, entering = layer.attention, layer.layernorm_before(states)
    heads = (block.num_heads, block.head_dim)
    keys = block.k_norm(block.k_proj(entering)).unflatten(-1, heads).transpose(1, 2).float()
    queries = block.q_norm(block.q_proj(entering)).unflatten(-1, heads).transpose(1, 2).float()
    received = torch.zeros_like(states[:, 1:, 0], dtype=torch.float)
    for head in range(block.num_heads):  # one map of patches by patches at a time
        weights = (queries[:, head, 1:] @ keys[:, head].mT * block.scale).softmax(dim=-1)
        received += weights[..., 1:].mean(dim=1) / block.num_heads
    return received, keys[:, :, 1:].mean(dim=1)


def shares(count: int) -> tuple[int, int]:
    """How many of ``count`` tokens are dominant, and how many contextual."""
    dominant = count * 27 // 32
    return dominant, count - dominant


def merge(
    tokens: Features, scores: Float[Tensor, "tile n"], keys: Float[Tensor, "tile n head"], count: int
) -> Float[Tensor, "tile k width"]:
    """Make ``count`` tokens of each tile's: those with the highest scores, and means of the others."""
    dominant, contextual = shares(count)
    ranked = scores.argsort(dim=-1, descending=True, stable=True)
    kept, others = ranked[:, :dominant], ranked[:, dominant:].sort(dim=-1).values
    places = torch.arange(others.shape[1], device=tokens.device)
    step = max(1, len(places) // contextual)
    is_target = (places % step == 0) & (places < step * contextual)
    targets, joining = others[:, is_target], others[:, ~is_target]
    cosines = _at(normalize(keys, dim=-1), joining) @ _at(normalize(keys, dim=-1), targets).mT
    joined = one_hot(cosines.argmax(dim=-1), contextual).to(tokens)
    means = joined.mT @ _at(tokens, joining) / joined.sum(dim=1)[..., None].clamp(min=1)
    merged = tokens.scatter_add(1, targets[..., None].expand(-1, -1, tokens.shape[-1]), means)
    return _at(merged, torch.cat([kept, targets], dim=1).sort(dim=-1).values)


def _at(tokens: Float[Tensor, "tile n channels"], places: Tensor) -> Float[Tensor, "tile k channels"]:
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def build(
    teacher: InternVLForConditionalGeneration,
    *,
    ratio: float,
    layer: int,  # noqa: ARG001 - tokens are merged before the LLM
) -> System:
    """Merge the teacher's visual tokens by its ViT's attention."""
    return System(teacher, VisionZip(ratio))
