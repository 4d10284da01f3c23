"""Lets transformers' Auto classes know the student, without importing torch for it.

``import fcotvl`` must stay light, since the engines do it at every dry run. So nothing is imported
until someone imports the Auto classes themselves; then the module that registers with them follows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import ClassVar

FOLLOWERS = {
    "transformers.models.auto.configuration_auto": "fcotvl.models.config",
    "transformers.models.auto.modeling_auto": "fcotvl.models.student",
    "transformers.models.auto.processing_auto": "fcotvl.models.processor",
}
"""After which module of transformers which of ours is imported; ours registers itself."""


class _ThenFollow(Loader):
    """Runs a module, then imports its follower."""

    under_way = 0
    """These modules import each other, and only the outermost is complete when it ends."""
    waiting: ClassVar[list[str]] = []

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        _ThenFollow.under_way += 1
        try:
            self.loader.exec_module(module)
        finally:
            _ThenFollow.under_way -= 1
        self.waiting.append(FOLLOWERS[module.__name__])
        while self.waiting and not _ThenFollow.under_way:
            import_module(self.waiting.pop())


class _Finder(MetaPathFinder):
    """Finds the modules named in ``FOLLOWERS`` and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in FOLLOWERS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenFollow(spec.loader)
        return spec


def announce() -> None:
    """Register with transformers now where it is imported already, and later where it is not."""
    sys.meta_path.insert(0, _Finder())
    for module, follower in FOLLOWERS.items():
        if module in sys.modules:
            import_module(follower)
