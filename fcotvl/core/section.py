"""The base of every block of configuration, and the value types that pydantic does not have."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Count = Annotated[int, Field(ge=1, le=10**9)]
"""How many: enough for a web-scale corpus, and no typing error away from a run without end."""
Positive = Annotated[float, Field(ge=1e-6, le=1e6)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Rate = Annotated[float, Field(gt=0, le=1)]
"""A learning rate."""
Ratio = Annotated[float, Field(strict=True)]
"""A share of visual tokens removed. Strict, as ``Seed`` is: both engines write the value into commands and names."""
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Option = bool | int | float | str


class Section(BaseModel):
    """A frozen block of YAML. Unknown keys and numbers that are not finite are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
