"""Target embeddings: the visual tokens of a perfectly read picture."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from fcotvl.core.geometry import SHUFFLE_FACTOR, tokens_per_tile
from fcotvl.toy.render.canvas import SIDE
from fcotvl.toy.teacher.chats import SPELLED, Contents
from fcotvl.toy.teacher.samples import CLASSES, GRID, SLOTS

BLOCK = SHUFFLE_FACTOR**2
"""Patches per visual token."""


class TargetEmbeddings(nn.Module):
    """The sum of fixed vectors of everything that a visual token shows.

    The vectors are drawn once and not trained. Words have the LLM's first embeddings; keys have the same vectors
    rotated, so that one linear map finds the key that a question names. So the ViT learns to produce these vectors
    while the LLM learns to read them.
    """

    def __init__(self, words: Float[Tensor, "vocabulary width"]) -> None:
        super().__init__()
        width = words.size(1)
        self.characters = nn.Embedding(BLOCK * SLOTS * CLASSES, width)
        self.positions = nn.Parameter(torch.randn(tokens_per_tile(SIDE), width) * 0.05)
        words = words.detach()
        keys = words @ nn.init.orthogonal_(torch.empty(width, width))
        spelled = torch.randn(SPELLED * CLASSES, width) * words.std()
        self.table = nn.Parameter(torch.cat([words, keys, spelled]))
        nn.init.normal_(self.characters.weight, std=0.05)
        self.requires_grad_(requires_grad=False)

    def forward(
        self, characters: Int[Tensor, "tiles patches slots"], contents: Contents
    ) -> Float[Tensor, "tiles tokens width"]:
        """One vector per visual token."""
        blocks = rearrange(
            characters,
            "t (h fh w fw) s -> t (h w) (fh fw s)",
            h=GRID // SHUFFLE_FACTOR,
            fh=SHUFFLE_FACTOR,
            fw=SHUFFLE_FACTOR,
        )
        offset = CLASSES * torch.arange(BLOCK * SLOTS, device=characters.device)
        filled = (blocks > 0).unsqueeze(-1)
        letters: Tensor = (self.characters(blocks + offset) * filled).sum(2) + self.positions
        tile, token, row = contents
        flat = letters.flatten(0, 1).index_add(0, tile * letters.size(1) + token, self.table[row])
        return flat.view_as(letters)
