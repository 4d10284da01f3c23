"""Pages from templates: one look, one file each, nothing that is loaded from elsewhere."""

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from fcotvl.report.table import INTERVAL

SHARE = re.compile(r"\d+\.\d %")
"""A cell that is drawn as a length."""


def render_template(name: str, **values: Any) -> str:
    """The page that the template ``name`` of this folder makes of ``values``."""
    environment = Environment(
        loader=PackageLoader("fcotvl.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    environment.tests["share"] = lambda cell: isinstance(cell, str) and bool(SHARE.fullmatch(cell))
    return environment.get_template(name).render(**values)


def _cell(text: object) -> Markup:
    """The text with its interval, if any, in a fainter style."""
    found = INTERVAL.match(str(text))
    if not found:
        return escape(text)
    return Markup('{} <span class="interval">[{}, {}]</span>').format(*found.groups())
