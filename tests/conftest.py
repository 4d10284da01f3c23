"""Shapes in signatures are checked in every test; hypothesis fails on the same example twice."""

from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

install_import_hook("fcotvl", "beartype.beartype")

settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci")
