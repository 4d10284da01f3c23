"""Lets transformers' Auto classes know the student, without importing torch for it.

``import fcotvl`` must stay light, since the engines do it at every dry run, and importing our
classes while transformers is importing its own would be circular. So they are offered by name, and
imported when someone first asks for one, as the Auto classes do for their own.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

MODEL_TYPE = "fcotvl"
REGISTRARS = {
    "transformers.models.auto.configuration_auto": "CONFIG_MAPPING",
    "transformers.models.auto.processing_auto": "PROCESSOR_MAPPING",
}
"""Which mapping of which module is asked for a model type, or for a processor by its class."""


def _register() -> None:
    """Import what registers itself with the Auto classes: config, model and processor."""
    import_module("fcotvl.compress.student")
    import_module("fcotvl.compress.processor")


class _Offer(dict[str, Any]):
    """What is registered with an Auto class beyond transformers' own; ours comes when asked for."""

    def __contains__(self, key: object) -> bool:
        if key == MODEL_TYPE:
            _register()
        return super().__contains__(key)

    def values(self) -> Any:
        _register()
        return super().values()


def _offer(registrar: ModuleType) -> None:
    mapping = getattr(registrar, REGISTRARS[registrar.__name__])
    mapping._extra_content = _Offer(mapping._extra_content)


class _ThenOffer(Loader):
    """Runs a registrar as its own loader would, then puts the offer in."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        _offer(module)


class _Finder(MetaPathFinder):
    """Finds the registrars and nothing else."""

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in REGISTRARS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenOffer(spec.loader)
        return spec


def announce() -> None:
    """Offer the student to transformers, now or, where it is not imported yet, once it is."""
    sys.meta_path.insert(0, _Finder())
    for name in REGISTRARS:
        if name in sys.modules:
            _offer(sys.modules[name])
