"""Registers the student with transformers' Auto classes without importing torch.

``import fcotvl`` must stay light, since Snakemake runs it at every dry run, and importing our classes while
transformers imports its own would be circular. So they are registered by name and imported on first use, as the Auto
classes do with their own.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

MODEL_TYPE = "fcotvl"
MAPPINGS = {
    "transformers.models.auto.configuration_auto": "CONFIG_MAPPING",
    "transformers.models.auto.processing_auto": "PROCESSOR_MAPPING",
}
"""By module, the mapping that is looked up for a model type or a processor class."""


def _register() -> None:
    """Import config, model and processor, which register themselves with the Auto classes."""
    import_module("fcotvl.compress.student")
    import_module("fcotvl.compress.processor")


class _LazyMapping(dict[str, Any]):
    """Extra registrations of an Auto class; imports ours when they are looked up."""

    def __contains__(self, key: object) -> bool:
        if key == MODEL_TYPE:
            _register()
        return super().__contains__(key)

    def values(self) -> Any:
        _register()
        return super().values()


def _make_lazy(module: ModuleType) -> None:
    mapping = getattr(module, MAPPINGS[module.__name__])
    mapping._extra_content = _LazyMapping(mapping._extra_content)


class _LazyLoader(Loader):
    """Runs a module with its own loader, then makes its mapping lazy."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        _make_lazy(module)


class _Finder(MetaPathFinder):
    """Finds the modules of ``MAPPINGS`` and no others."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in MAPPINGS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LazyLoader(spec.loader)
        return spec


def announce() -> None:
    """Register the student now, or once transformers is imported."""
    sys.meta_path.insert(0, _Finder())
    for name in MAPPINGS:
        if name in sys.modules:
            _make_lazy(sys.modules[name])
