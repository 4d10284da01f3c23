"""``workflow/mixes/<mix>.yaml``: which data are curated, for training and for evaluation."""

from typing import Annotated, Literal

from pydantic import Field

from fcotvl.core.config.architecture import MAX_LENGTH, MaxLength, MaxTiles, TileParams
from fcotvl.core.section import Count, Name, Option, Positive, Section

Split = Literal["align", "instruct", "val", "test"]


class SourceParams(Section):
    """One source of training images."""

    reader: Name
    """A reader of ``fcotvl.data.sources``."""
    options: dict[str, Option] = {}
    """Its keyword arguments: a folder below ``data.raw``, a hub id, a family of the renderer."""
    weight: Positive = 1.0
    """Share of the mix, relative to the other sources."""
    licence: str
    splits: tuple[Split, ...] = ("align", "instruct", "val")
    """The splits that it contributes to."""
    images: Count | None = None
    """How many there are, by a hub data set's card; ``fcotvl plan`` shows what is short."""
    gigabytes: Positive | None = None
    """Download size, by its card."""
    optional: bool = False
    """Left out, as the audit then says, where its folder is not below ``data.raw``."""


class BenchmarkParams(Section):
    """One benchmark."""

    reader: Name
    options: dict[str, Option] = {}
    licence: str
    count: Count
    """Largest number of questions."""
    max_tiles: MaxTiles
    """Largest number of tiles per image, thumbnail not counted (InternVL: 12, 18, 24)."""
    optional: bool = False
    """As for a source; a benchmark that is left out has no questions."""


class CorpusParams(Section):
    """How much is curated."""

    align: Count
    """Images for distillation."""
    instruct: Count
    """Images for rationales and fine-tuning."""
    val: Count
    """Images for the merge's utility."""
    epochs: Count
    """How often ``align`` and ``instruct`` may hold a record of a source that runs dry before its share is reached; 1:
    never again. Up to 4, repeats are worth nearly what new data are (Muennighoff et al. 2023, arXiv 2305.16264).
    Validation pictures are never repeated."""
    shard_size: Count
    """Records per Parquet file."""
    max_pixels: Count
    """Larger images are quarantined before they are decoded."""
    near_duplicate: Annotated[int, Field(ge=0, le=64)]
    """Hamming distance of perceptual hashes (256 bits) up to which two pictures count as one; 0: equal pixels only.
    Unrelated pictures differ in about 128."""


class AuditParams(TileParams):
    """Whose tokens the audit counts."""

    max_length: MaxLength = MAX_LENGTH
    """Of rows that are longer, the audit estimates what training cuts."""


class Mix(Section):
    """What data: sources with their weights, benchmarks, and how much of them."""

    title: str
    sources: tuple[SourceParams, ...] = Field(min_length=1)
    benchmarks: dict[Name, BenchmarkParams] = Field(min_length=1)
    """By name, as in ``fcotvl.evaluate.benchmarks``."""
    corpus: CorpusParams
    audit: AuditParams
    """Whose visual tokens the audit counts: a mix is curated once for all model sizes."""
