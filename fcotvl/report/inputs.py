"""What the report and the audit's page read, checked: a damaged or foreign file is one line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

from fcotvl.core.errors import DataError

DAMAGED = (OSError, pa.ArrowException, ValueError, TypeError, LookupError, AttributeError)
"""What pandas raises on damaged Parquet and CSV files."""
Number = int | float
REPLY_TEXTS = ("system", "benchmark", "prompt", "kind", "image_id", "question_id")
SCORE_TEXTS = (*REPLY_TEXTS, "metric")


class _Checked(BaseModel):
    """Types are as written; further keys are left out."""

    model_config = ConfigDict(strict=True)


class _Source(_Checked):
    share_asked: Number
    share_kept: Number
    read: int
    kept: int
    duplicates: int
    contaminated: int
    quarantined: int


class _Split(_Checked):
    sources: dict[str, _Source]


class Audit(_Checked):
    """What the report reads of ``audit.json``."""

    corpus: dict[str, _Split]
    benchmarks: dict[str, _Split]


class _PageSource(_Source):
    repeats: int
    epochs: Number
    ran_dry: bool
    absent: str | None


class _Distribution(_Checked):
    mean: Number
    median: int
    p95: int
    max: int
    total: int


Distribution = _Distribution | Annotated[dict[str, Number], Field(max_length=0)]
"""Empty where nothing was counted."""


class _Cut(_Checked):
    images: int
    tokens: int


class _PageSplit(_Checked):
    by_source: dict[str, int]
    by_licence: dict[str, int]
    by_kind: dict[str, int]
    by_answer: dict[str, int]
    by_longer_side: dict[str, int]
    tiles: Distribution
    answer_characters: Distribution
    visual_tokens: dict[str, Distribution]
    cut: dict[str, _Cut] = {}
    sources: dict[str, _PageSource]


class _Dropped(_Checked):
    split: str
    kind: str = Field(alias="as")
    file: str
    reason: str | None = None
    same_as: str | None = None
    distance: int | None = None

    @model_validator(mode="after")
    def _says_why(self) -> "_Dropped":
        if self.reason is None and self.same_as is None:
            raise ValueError("neither a reason nor the record that it matches")
        return self


class PageAudit(_Checked):
    """What the audit's page reads of ``audit.json``."""

    corpus: dict[str, _PageSplit]
    benchmarks: dict[str, _PageSplit]
    dropped: list[_Dropped]


class _Interval(_Checked):
    value: Number
    low: Number
    high: Number


class _Gap(_Interval):
    one: str
    other: str


class _Method(_Checked):
    utility: Number
    weights: dict[str, Number]


class Weights(_Checked):
    """What the report reads of ``weights.json``."""

    methods: dict[str, _Method]
    shapley: dict[str, _Interval]
    gaps: list[_Gap]


class _Counts(_Checked):
    equal: int
    total: int


class Agreement(RootModel[dict[str, dict[str, _Counts]]]):
    """What the report reads of ``harness.json``: counts by system and by what was compared."""


class _Part(_Checked):
    system: str
    part: str
    measured: Number
    low: Number
    high: Number
    predicted: Number | None
    teacher: Number


class Measured(_Checked):
    """What the study reads of the JSON of ``benchmarks/cost.py``."""

    architecture: str
    extrapolate: str
    tiles: str
    dtype: str
    device: str
    pairs: str
    rows: list[_Part]


def read_json(path: Path, schema: type[BaseModel], stage: str, content: str) -> dict[str, Any]:
    """The JSON value in ``path``, which ``stage`` wrote; ``content`` says what it is.

    Raises:
        DataError: it is missing, not JSON or not of this ``schema``.
    """
    try:
        return schema.model_validate_json(path.read_bytes()).model_dump(by_alias=True)
    except OSError as error:
        raise DataError(f"{path} is not {content} ({error.strerror}); run {stage} first") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = " ".join(f"{where}: {first['msg']}".removeprefix(": ").split())
        raise DataError(f"{path} is not {content} ({reason}); run {stage} again") from error


def read_table(
    path: Path, stage: str, content: str, *, texts: Sequence[str] = (), numbers: Sequence[str] = ()
) -> pd.DataFrame:
    """The table in ``path``, Parquet or CSV, which ``stage`` wrote; ``content`` says of what it is.

    Raises:
        DataError: it is missing or damaged, or lacks one of these columns with text or with numbers.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("not a file")  # pandas would read a folder, and wait for a pipe
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        if missing := [name for name in (*texts, *numbers) if name not in table]:
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        for name in texts:
            if path.suffix != ".csv" and not table[name].map(lambda value: isinstance(value, str)).all():
                raise ValueError(f"column {name!r} holds something else than text")
        for name in numbers:
            pd.to_numeric(table[name])
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} is not a table of {content} ({reason}); run {stage} again") from error
    return table


def read_scores(path: Path) -> pd.DataFrame:
    """The scores in ``path``.

    Raises:
        DataError: as ``read_table``.
    """
    return read_table(path, "score", "scores", texts=SCORE_TEXTS, numbers=["score"])


def read_predictions(path: Path) -> pd.DataFrame:
    """The replies in ``path``.

    Raises:
        DataError: as ``read_table``.
    """
    return read_table(path, "predict", "replies", texts=[*REPLY_TEXTS, "prediction"])
