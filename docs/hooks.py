"""The site mirrors the repository: each page at its own path, so that links work on a code host and here."""

import shutil
import subprocess
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
API = "Python packages"
WITHOUT_PAGE = ("docs/hooks.py", "docs/results/", "dvclive/", "fcotvl/")
"""Files and folders that the site has no pages of; the committed report is one by itself."""
TASKS = "fcotvl/harness/tasks/"
"""The folder of the package that has pages."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name a page of the API for each package."""
    packages = sorted(path.parent.name for path in ROOT.glob("fcotvl/*/__init__.py"))
    nav = [entry for entry in config.nav or [] if API not in entry]
    config.nav = [*nav, {API: [{f"fcotvl.{name}": f"api/{name}.md"} for name in packages if name != "stages"]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """All Markdown of the repository and what docs/ has beside it, and the pages of the API."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md", "docs", "CITATION.cff"],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    names = [name for name in listed if name.startswith(TASKS) or not name.startswith(WITHOUT_PAGE)]
    names += ["docs/results/index.html"]
    place = (str(ROOT), config.site_dir, config.use_directory_urls)
    pages = [file for file in files if file.src_dir != config.docs_dir]  # the theme's
    pages += [File(name, *place) for name in names]
    for entry in next(entry[API] for entry in config.nav or [] if API in entry):
        for package, name in entry.items():
            pages.append(File.generated(config, name, content=f"::: {package}\n"))
    return Files(pages)


def on_post_build(config: MkDocsConfig) -> None:
    """The committed report with all of its files, none of which becomes a page."""
    shutil.copytree(ROOT / "docs/results", Path(config.site_dir, "docs/results"), dirs_exist_ok=True)
