"""Show the audit of a mix, or of two, as a page."""

import logging
from pathlib import Path

from fcotvl.core.config import Params
from fcotvl.core.io import write_text
from fcotvl.report import audit_page
from fcotvl.report.inputs import PageAudit, read_json

log = logging.getLogger(__name__)


def run(params: Params, *, audit: Path, page: Path, beside: Path | None = None) -> None:
    """Show the audit of a mix, or those of two mixes side by side.

    Args:
        params: not used.
        audit: JSON file written by ``curate``.
        page: HTML file to write.
        beside: audit of a second mix.
    """
    del params  # all commands have params
    audits = {_name(path): read_json(path, PageAudit, "curate", "an audit") for path in (audit, beside) if path}
    write_text(page, audit_page.page(audits))
    log.info("wrote %s, a page on %s", page, " and ".join(audits))


def _name(path: Path) -> str:
    """The folder of a mix, or the file's own name, so that two audits have different names."""
    return str(path.parent / path.stem) if path.stem != "audit" else path.parent.name or path.stem
