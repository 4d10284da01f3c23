"""One clone, shared by the tests of the engines, which run in the order of their file."""

from pathlib import Path

import pytest

from tests.support.workspace import Workspace


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A fresh clone at scale smoke: nothing is built."""
    folder: Path = tmp_path_factory.mktemp("engines") / "clone"
    folder.mkdir()
    workspace = Workspace(folder)
    workspace.fill()
    return workspace
