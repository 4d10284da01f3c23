"""Things that are found by folder: one file each, no list to edit.

A registry is a package whose modules each define one object of an agreed name: every compressor file a ``Compressor``,
every metric file a ``score``. Names are read from the folder alone, so params are checked without importing what they
name.
"""

import difflib
import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fcotvl.core.errors import ParamsError


class Registry:
    """The modules of one folder by name; files that begin with an underscore are helpers.

    Args:
        package: dotted name of the folder, ``fcotvl.compress.compressors``.
        member: what each module defines.
        noun: what a message calls one of them.
        separator: between the words of a name; a file has underscores: ``cnn_default.py`` is ``cnn-default``.
    """

    def __init__(self, package: str, member: str, *, noun: str, separator: str = "-") -> None:
        self.package, self.member, self.noun, self.separator = package, member, noun, separator

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return Path(__file__).parents[1].joinpath(*self.package.split(".")[1:])

    def available(self) -> tuple[str, ...]:
        """All names, sorted."""
        stems = (module.name for module in iter_modules([str(self.folder)]))
        return tuple(sorted(stem.replace("_", self.separator) for stem in stems if not stem.startswith("_")))

    def stem(self, name: str) -> str:
        """The module of ``name``, without its package.

        Raises:
            ParamsError: there is none.
        """
        known = self.available()
        if name in known:
            return name.replace(self.separator, "_")
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise ParamsError(f"no {self.noun} {name!r:.80}; {hint}")

    def module(self, name: str) -> ModuleType:
        """The module of ``name``, imported.

        Raises:
            ParamsError: there is none.
        """
        return import_module(f"{self.package}.{self.stem(name)}")

    def get(self, name: str) -> Any:
        """What the module of ``name`` defines.

        Raises:
            ParamsError: there is no such module.
        """
        return getattr(self.module(name), self.member)

    def call(self, name: str, *args: Any, options: Mapping[str, Any]) -> Any:
        """Call what ``name`` defines with ``args`` and the user's ``options``.

        Raises:
            ParamsError: there is none, or it does not take these options: unknown, or not what their annotations say.
        """
        found = self.get(name)
        signature = inspect.signature(found, eval_str=True)
        try:
            signature.bind(*args, **options)
        except TypeError as error:
            raise ParamsError(f"{self.noun} {name!r}: {error}; correct its options") from error
        for option, value in options.items():
            annotation = signature.parameters[option].annotation
            try:
                TypeAdapter(Any if annotation is signature.empty else annotation).validate_python(value, strict=True)
            except ValidationError as error:
                expected = error.errors()[0]["msg"]
                raise ParamsError(f"{self.noun} {name!r}: {option} is {value!r:.80}. {expected}") from error
        return found(*args, **options)
