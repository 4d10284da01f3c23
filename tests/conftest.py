"""Shapes in signatures are checked in every test; hypothesis fails on the same example twice."""

import gc
import sys
from collections.abc import Iterator

import pytest
import transformers.models.internvl.modeling_internvl  # noqa: F401 - below the hook, it would be compiled anew
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

install_import_hook("fcotvl", "beartype.beartype")
gc.freeze()  # a million objects of libraries that stay need not be looked through again and again
gc.set_threshold(100_000)

settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci")


@pytest.fixture(autouse=True)
def new_accelerator() -> Iterator[None]:
    """Let the next test compute in another precision: accelerate keeps the first one of a process."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state()
