"""What the README offers to type passes the check at every scale it fits, and no other."""

import re
import shutil

import pytest

from fcotvl.core import config as params
from fcotvl.core.errors import DataError, ParamsError
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


def test_data_sets_whose_records_would_share_ids_are_one_line(study, tmp_path):
    mix = tmp_path / "workflow/mixes/public.yaml"
    mix.write_text(mix.read_text().replace("source: synthdog/zh", "source: synthdog/en"))
    with pytest.raises(ParamsError, match=r"public\.yaml: several data sets of the hub are called 'synthdog/en'"):
        check.run(params.load(), output=tmp_path / "check.txt")


def test_one_name_in_two_splits_is_allowed():
    options = {"id": "some/set", "source": "some"}
    parts = [
        {"reader": "huggingface", "options": options, "licence": "MIT", "splits": [split]} for split in ("align", "val")
    ]
    mix = params.load().mix_config
    check.validate_mix("own", mix.model_validate(mix.model_dump() | {"sources": parts}))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fastv_layer: 2", "fastv_layer: 99", "baselines.fastv_layer is 99, but the LLM of scale 'tiny' has 4 layers"),
        ("    heads: 4", "    heads: 3", "compressor 'qformer': 512 channels do not divide among 3 heads"),
        ("    heads: 4", "    heads: four", "compressor 'qformer': heads is 'four'"),
        ("    layers: 2", "    layers: 1000000000", "compressor 'qformer': layers is 1000000000"),
        ("    layers: 2", "    layres: 2", "compressor 'qformer': got an unexpected keyword argument 'layres'"),
    ],
)
def test_what_a_model_cannot_have_is_one_line(study, tmp_path, old, new, message):
    study(old, new)
    with pytest.raises(ParamsError) as caught:
        check.run(params.load(), output=tmp_path / "check.txt")
    assert message in str(caught.value)
    assert not (tmp_path / "check.txt").exists()


def test_a_rate_of_an_unknown_compressor_is_one_line(study, tmp_path):
    scale = tmp_path / "workflow/scales/tiny.yaml"
    scale.write_text(scale.read_text().replace("qformer: 0.003", "qforner: 0.003"))
    with pytest.raises(ParamsError, match=r"no compressor 'qforner'; did you mean qformer"):
        check.run(params.load(), output=tmp_path / "check.txt")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("qforner-r0.5", "no compressor 'qforner'; did you mean qformer"),
        ("qformer-r0.3", r"compressor 'qformer' has no ratio 0\.3"),
        ("qformer-r0.50", "no compressor 'qformer-r0.50'"),
    ],
)
def test_a_rate_at_a_ratio_that_no_student_has_is_one_line(study, tmp_path, key, message):
    scale = tmp_path / "workflow/scales/tiny.yaml"
    text = scale.read_text()
    scale.write_text(text.replace("qformer: 0.003", "qformer-r0.5: 0.003"))
    check.run(params.load(), output=tmp_path / "check.txt")
    scale.write_text(text.replace("qformer: 0.003", f"{key}: 0.003"))
    with pytest.raises(ParamsError, match=message):
        check.run(params.load(), output=tmp_path / "check.txt")


def test_an_unknown_baseline_is_one_line(study):
    study("  - fastv\n", "  - fastvv\n")
    with pytest.raises(ParamsError, match=r"baselines.methods: no training-free baseline 'fastvv'; did you mean fastv"):
        check.validate(params.load())


@pytest.mark.parametrize("raw", ["data/nowhere", '"data/\\0"', "x" * 5000])
def test_data_that_are_nowhere_are_one_line(study, raw):
    study("raw: data/raw", f"raw: {raw}")
    with pytest.raises(DataError, match=r"data\.raw: .* is not a folder"):
        check.validate(params.load())


def test_the_grids_of_the_study_are_valid_and_those_that_no_student_can_serve_are_one_line(study, tmp_path):
    file = tmp_path / "study.yaml"
    text = (ROOT / "workflow/study.yaml").read_text()
    file.write_text(text)
    check.validate(params.load(overlay=file))
    file.write_text(text.replace("compressor: [nested]", "compressor: [cnn]"))
    with pytest.raises(
        ParamsError, match=r"grids\.nested\.serve: a student of cnn does not serve ratio 0\.25, but its"
    ):
        check.validate(params.load(overlay=file))
    file.write_text(text.replace("[cnn, cnn-default, cnn2d,", "[cnn, cnm,"))
    with pytest.raises(ParamsError, match="no compressor 'cnm'"):
        check.validate(params.load(overlay=file))


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("constant: [1, -1]", "constant: [4]", "grids.runs.pool: constant has 4 checkpoints, 0 to 3, and none at 4"),
        ("\n  runs:\n", "\n  full:\n", "grids.full has a pool and the name of a recipe, whose folder it would share"),
        ("methods: [best, ", "methods: [bets, ", "no merge method 'bets'"),
        ("methods: [best, greedy, search, shapley, uniform]", "methods: [best]", "merge.headline is 'shapley', which"),
    ],
)
def test_a_pool_that_cannot_be_merged_is_one_line(study, tmp_path, written, instead, message):
    file = tmp_path / "study.yaml"
    text = (ROOT / "workflow/study.yaml").read_text()
    assert text.count(written) == 1
    file.write_text(text.replace(written, instead))
    with pytest.raises(ParamsError, match=re.escape(message)):
        check.validate(params.load(overlay=file))
