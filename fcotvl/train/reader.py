"""From places in a corpus to batches: what every training task does with its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.tile_complexity import tile_complexity
from fcotvl.core.prompts import Prompts
from fcotvl.train.dataset import Corpus, Place, Shuffled
from fcotvl.train.packing import Batch, Chat, collate


@dataclass(frozen=True)
class Reader:
    """A corpus, and how the model wants to see it."""

    corpus: Corpus
    processor: FcotvlProcessor
    prompts: Prompts
    max_tiles: int
    """Per picture, thumbnail not counted."""

    def batch(self, places: Sequence[Place], chats: Sequence[Sequence[Chat]]) -> Batch:
        """The pictures at ``places``, each with its chats."""
        pictures = [self.corpus[place].decode() for place in places]
        return collate(pictures, chats, self.processor, max_tiles=self.max_tiles)

    def details(self, most: int) -> list[float]:
        """The detail of each tile of up to ``most`` pictures, which are the same in every run."""
        order = Shuffled(self.corpus.places(), "details")
        found = []
        for index in range(min(most, len(order))):
            picture = self.corpus[order[index]].decode()
            seen = self.processor.image_processor(picture, max_tiles=self.max_tiles)
            found += [tile_complexity(tile) for tile in seen["pixel_values"]]
        return found
