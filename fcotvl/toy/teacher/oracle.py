"""What a picture's visual tokens would be if it were read perfectly."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from fcotvl.toy.teacher.data import CLASSES, GRID, SLOTS
from fcotvl.toy.teacher.pack import SPELLED, Contents


class Oracle(nn.Module):
    """What a visual token should say: the sum of fixed vectors of what it covers.

    The vectors are drawn once and not trained (words as the LLM's first embeddings, keys as
    the same vectors turned, so that one linear map finds the key that a question names). So
    the ViT can learn to produce them while the LLM learns to read them.
    """

    def __init__(self, words: Float[Tensor, "vocabulary width"]) -> None:
        super().__init__()
        width = words.size(1)
        self.embed = nn.Embedding(4 * SLOTS * CLASSES, width)
        self.place = nn.Parameter(torch.randn((GRID // 2) ** 2, width) * 0.05)
        words = words.detach()
        keys = words @ nn.init.orthogonal_(torch.empty(width, width))
        spelled = torch.randn(SPELLED * CLASSES, width) * words.std()
        self.table = nn.Parameter(torch.cat([words, keys, spelled]))
        nn.init.normal_(self.embed.weight, std=0.05)
        self.requires_grad_(requires_grad=False)

    def forward(
        self, characters: Int[Tensor, "tiles patches slots"], shown: Contents
    ) -> Float[Tensor, "tiles tokens width"]:
        """One vector per block of 2 x 2 patches: characters, words, keys of values."""
        blocks = rearrange(
            characters, "t (h fh w fw) s -> t (h w) (fh fw s)", h=GRID // 2, fh=2, fw=2
        )
        offset = CLASSES * torch.arange(4 * SLOTS, device=characters.device)
        filled = (blocks > 0).unsqueeze(-1)
        letters: Tensor = (self.embed(blocks + offset) * filled).sum(2) + self.place
        page, place, row = shown
        flat = letters.flatten(0, 1).index_add(0, page * letters.size(1) + place, self.table[row])
        return flat.view_as(letters)
