"""The documentation as a site, and what a code host reads: links, workflows, release notes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.imports import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does: an unknown link, anchor or docstring name ends the build."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page_at_its_place(site):
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    pages = [
        Path(name) for name in listed.split() if not name.startswith(("docs/results/", "dvclive/", "fcotvl/", "."))
    ]
    assert Path("docs/running.md") in pages
    for page in pages:
        place = page.parent if page.name == "README.md" else page.with_suffix("")
        assert (site / place / "index.html").is_file(), page
    report = (site / "docs/results/index.html").read_text(encoding="utf-8")
    linked = re.findall(r'href="(tables/[^"]+)"', report)
    assert linked
    assert all((site / "docs/results" / name).exists() for name in linked)


def test_no_link_names_a_file_that_became_a_page(site):
    pages = [path for path in site.rglob("*.html") if "docs/results" not in str(path)]
    left = {(path.name, link) for path in pages for link in re.findall(r'href="([^":#]+\.md)["#]', path.read_text())}
    assert (len(pages) > 20, left) == (True, set())


def test_packages_have_pages_with_their_docstrings(site):
    page = (site / "api/merge/index.html").read_text(encoding="utf-8")
    assert 'id="fcotvl.merge.shapley.shapley_values"' in page
    assert "marginal contribution" in page


def test_the_site_loads_nothing_from_other_hosts(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//[^"]*"', text), page
        assert not re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect|icon)"[^>]+href="(?:https?:)?//', text), page


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_targets_that_exist_with_pinned_actions(path):
    text = path.read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"].values()
    steps = [step for job in jobs for step in job["steps"]]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for step in steps:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", "a/b@" + 40 * "0"))
        assert set(re.findall(r"^make (\w+)", step.get("run", ""), re.MULTILINE)) <= set(targets)
    assert all("timeout-minutes" in job for job in jobs)


def test_release_notes_are_a_section_of_the_changelog(tmp_path):
    (tmp_path / "CHANGELOG.md").write_text(
        "# C\n\n## [Unreleased]\n\n- new\n\n## [0.2.0] - 2026-01-01\n\n- two\n\n## [0.1.0]\n\n- one\n"
    )
    steps = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["release"]["steps"]
    (script,) = [step["run"] for step in steps if "notes" in step.get("name", "")]

    def notes(tag):
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=tmp_path,
            env=os.environ | {"GITHUB_REF_NAME": tag},
            check=False,
            capture_output=True,
            text=True,
        )
        return (tmp_path / "notes.md").read_text().strip() if done.returncode == 0 else done.stderr.strip()

    assert notes("v0.2.0") == "- two"
    assert notes("v0.1.0") == "- one"
    assert notes("v0.3.0") == "CHANGELOG.md has no section 0.3.0"
