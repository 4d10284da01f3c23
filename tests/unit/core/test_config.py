"""Every wrong value is one line that says what was found and what was expected."""

import shutil
from pathlib import Path

import pytest
import yaml

from fcotvl.core import config as params
from fcotvl.core.errors import ParamsError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path):
    """A copy of params.yaml and the scales; call it with replacements to load it."""
    shutil.copytree(ROOT / "workflow/scales", tmp_path / "workflow/scales")
    text = (ROOT / "params.yaml").read_text()

    def load(*replacements, **overrides):
        changed = text
        for old, new in replacements:
            assert changed.count(old) >= 1, f"{old!r} is not in params.yaml"
            changed = changed.replace(old, new, 1)
        (tmp_path / "params.yaml").write_text(changed)
        return params.load(tmp_path / "params.yaml", **overrides)

    return load


@pytest.mark.parametrize("scale", sorted(p.stem for p in ROOT.glob("workflow/scales/*.yaml")))
def test_every_scale_is_valid(study, scale):
    assert study(scale=scale).at.title


def test_all_scales_of_the_design_are_there():
    names = {path.stem for path in ROOT.glob("workflow/scales/*.yaml")}
    assert {"smoke", "tiny", "local"} <= names


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (("ratio: 0.5  #", "ratio: 0.6  #"), "ratio 0.6 is not one of 0.0, 0.25, 0.5, 0.75, 0.875"),
        (("seed: 0  #", "seed: -1  #"), "seed: Input should be greater than or equal to 0"),
        (("seed: 0  #", "seed: x  #"), "found 'x'"),
        (("recipe: full", "recipe: foo"), "recipe 'foo' is not under recipes"),
        (("- full\n", ""), "must be listed in modules"),
        (("scale: tiny", "scale: tinny"), "scale 'tinny' is not one of"),
        (("compressor: cnn\n", ""), "compressor is missing"),
        (
            ("  temperature: 1.0", "  temprature: 1.0"),
            "distill.temprature (did you mean temperature?)",
        ),
        (("    cot: 0.5", "    cott: 0.5"), "recipes.cot.cott (did you mean cot?)"),
        (("seed: 0  #", "sede: 0\nseed: 0  #"), "unknown key sede (did you mean seed?)"),
        (("ce_weight: 0.5", "ce_weight: 1.5"), "distill.ce_weight"),
    ],
)
def test_a_wrong_value_is_one_line(study, replacement, message):
    with pytest.raises(ParamsError) as caught:
        study(replacement)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_yaml_is_one_line(study):
    with pytest.raises(ParamsError, match="is not YAML") as caught:
        study(("scale: tiny", "scale: [tiny"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ParamsError, match="run in the project's folder"):
        params.load(tmp_path / "params.yaml")


def test_a_wrong_scale_file_is_named(study, tmp_path):
    path = tmp_path / "workflow/scales/tiny.yaml"
    values = yaml.safe_load(path.read_text())
    values["sft"]["steps"] = 0
    values["modell"] = {}
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError) as caught:
        study()
    assert "tiny.yaml: " in str(caught.value)
    assert "sft.steps" in str(caught.value)
    assert "unknown key modell (did you mean model?)" in str(caught.value)


def test_a_prompt_needs_a_place_for_the_question(study, tmp_path):
    path = tmp_path / "workflow/scales/tiny.yaml"
    path.write_text(path.read_text().replace("{question} Reason", "Reason"))
    with pytest.raises(ParamsError, match=r"prompts.cot has no \{question\}"):
        study()


def test_flags_replace_values_and_are_checked_too(study):
    assert study(ratio=0.75, seed=3).ratio == 0.75
    assert study(seed=None).seed == 0
    with pytest.raises(ParamsError, match=r"ratio 0\.3"):
        study(ratio=0.3)


def test_params_are_frozen(study):
    with pytest.raises(ValueError, match="frozen"):
        study().seed = 1
