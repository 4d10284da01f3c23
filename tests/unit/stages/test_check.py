"""What the README offers to type passes the check at every scale it fits, and no other."""

import shutil

import pytest

from fcotvl.core import config as params
from fcotvl.core.errors import ParamsError
from fcotvl.stages import check
from tests.support.imports import ROOT


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder with this project's params, where a value can be changed."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for folder in ("workflow/scales", "workflow/mixes"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "data/raw").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def changed(old, new):
        path = tmp_path / "params.yaml"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
        return path

    return changed


@pytest.mark.parametrize("scale", ["tiny", "smoke", "local"])
def test_the_tiny_teacher_can_be_trained_at_scales_that_use_it(study, tmp_path, scale):
    study("source: pretrained", "source: train")
    study("scale: tiny", f"scale: {scale}")
    check.run(params.load(), output=tmp_path / "check.txt")
    assert (tmp_path / "check.txt").read_text() == "ok\n"


def test_a_hub_model_cannot_be_trained_from_nothing(study, tmp_path):
    study("source: pretrained", "source: train")
    study("scale: tiny", "scale: internvl2-2b")
    with pytest.raises(ParamsError, match=r"internvl2-2b.*pretrained"):
        check.run(params.load(), output=tmp_path / "check.txt")


def test_every_mix_is_checked_whatever_the_current_one(study, tmp_path):
    mix = tmp_path / "workflow/mixes/local.yaml"
    mix.write_text(mix.read_text().replace("reader: funsd", "reader: fund"))
    with pytest.raises(ParamsError, match=r"local.yaml: no reader 'fund'; did you mean funsd"):
        check.run(params.load(), output=tmp_path / "check.txt")
