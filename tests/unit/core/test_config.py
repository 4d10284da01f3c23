"""Every wrong value is one line that says what was found and what was expected."""

import re
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import _yaml as dvc_yaml

from fcotvl.core import config
from fcotvl.core.errors import ParamsError
from fcotvl.core.prompts import TEMPLATES

ROOT = Path(__file__).parents[3]
SCALES = {path.stem: path for path in sorted(ROOT.glob("workflow/scales/*.yaml"))}
MIXES = {path.stem: path for path in sorted(ROOT.glob("workflow/mixes/*.yaml"))}
INTERNVL2 = ("internvl2-1b", "internvl2-2b", "internvl2-8b")


@pytest.fixture
def study(tmp_path):
    """Loads a copy of params.yaml, the scales and the mixes after the given replacements."""
    for folder in ("workflow/scales", "workflow/mixes"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    text = (ROOT / "params.yaml").read_text()

    def load(*replacements, **overrides):
        changed = text
        for old, new in replacements:
            assert changed.count(old) >= 1, f"{old!r} is not in params.yaml"
            changed = changed.replace(old, new, 1)
        (tmp_path / "params.yaml").write_text(changed)
        return config.load(tmp_path / "params.yaml", **overrides)

    return load


@pytest.fixture
def edit(tmp_path):
    """Changes one copied YAML file: every key of ``values`` is replaced, section by section."""

    def change(name, **values):
        path = tmp_path / "workflow" / name
        content = yaml.safe_load(path.read_text())
        for key, value in values.items():
            content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(content))

    return change


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_is_valid(study, scale):
    assert study(scale=scale).scale_config.title


@pytest.mark.parametrize("mix", MIXES)
def test_every_mix_is_valid(study, mix):
    assert study(mix=mix).mix_config.title


def test_all_scales_and_mixes_of_the_design_are_there():
    assert set(SCALES) >= {"smoke", "tiny", "local", *INTERNVL2}
    assert set(MIXES) >= {"smoke", "rendered", "local", "public"}


def values(section, *names):
    return tuple(getattr(section, name) for name in names)


@pytest.mark.parametrize("scale", INTERNVL2)
def test_the_internvl2_scales_have_the_values_of_the_paper_and_of_internvl2(study, scale):
    found = study(scale=scale, mix="public").scale_config
    decay = 0.05 if scale == "internvl2-8b" else 0.01
    optim = ("steps", "batch_size", "lr", "warmup", "weight_decay")
    assert values(found.distill, *optim) == (15625, 128, 2e-4, 0.03, decay)
    assert values(found.sft, *optim) == (35156, 128, 4e-5, 0.03, decay)
    assert values(found.sft, "checkpoints", "reweigh") == (4, 500)
    assert values(found.rscot, "questions", "batch_size", "batch_tokens") == (200_000, 128, 262_144)
    assert found.merge.questions == 1000
    assert values(found.evaluate, "batch_size", "batch_tokens", "speed_pairs", "speed_batch") == (16, 65_536, 7, 1)
    assert values(found.model, "architecture", "max_tiles", "dtype") == (scale, 6, "bfloat16")
    assert found.model.hub == f"OpenGVLab/InternVL2-{scale[-2:].upper()}"
    assert values(found.model, "tile_size", "tokens") == (448, 256)
    prompts = found.prompts
    assert prompts.direct == "{question} Answer the question using a single word or phrase."
    assert prompts.cot.startswith("{question} Reason step by step, then end with a line that says")
    assert values(prompts, "direct_tokens", "cot_tokens") == (100, 1024)


def test_prompts_are_those_of_the_architecture_unless_given(study, edit):
    prompts = study(scale="tiny").scale_config.prompts
    assert {"direct": prompts.direct, "cot": prompts.cot} == TEMPLATES["tiny"]
    edit("scales/tiny.yaml", prompts={"cot": "{question} Think."})
    prompts = study(scale="tiny").scale_config.prompts
    assert values(prompts, "direct", "cot") == (TEMPLATES["tiny"]["direct"], "{question} Think.")


def entries(path):
    """The sources, benchmarks and sections of a YAML file that say anything, with their places."""
    for key, value in yaml.safe_load(path.read_text()).items():
        if key == "sources":
            yield from ((f"{key}[{index}]", entry) for index, entry in enumerate(value))
        elif key == "benchmarks":
            yield from ((f"{key}.{name}", entry) for name, entry in value.items())
        elif isinstance(value, dict) and len(value) > 1 and key != "model":  # several scales may have one model
            yield key, value


@pytest.mark.parametrize("files", [SCALES, MIXES], ids=["scales", "mixes"])
def test_no_two_files_have_an_equal_source_benchmark_or_section(files):
    found = [(name, key, entry) for name, path in files.items() for key, entry in entries(path)]
    assert len(found) > len(files)
    repeated = [
        f"{one}: {key} equals {other}: {other_key}"
        for (one, key, entry), (other, other_key, twin) in combinations(found, 2)
        if one != other and entry == twin
    ]
    assert not repeated


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (("ratio: 0.5  #", "ratio: 0.6  #"), "ratio 0.6 is not one of 0.0, 0.25, 0.5, 0.75, 0.875"),
        (("seed: 0  #", "seed: -1  #"), "seed: Input should be greater than or equal to 0"),
        (("seed: 0  #", "seed: x  #"), "found 'x'"),
        (("recipe: full", "recipe: foo"), "recipe 'foo' is not under recipes"),
        (("- full\nrecipes:", "recipes:"), "must be listed in ablation_recipes"),
        (("scale: tiny", "scale: tinny"), "scale 'tinny' is not one of"),
        (("mix: rendered", "mix: rendred"), "mix 'rendred' is not one of"),
        (("compressor: cnn\n", ""), "compressor is missing"),
        (("  temperature: 1.0", "  temprature: 1.0"), "distill.temprature (did you mean temperature?)"),
        (("    cot: 0.5", "    cott: 0.5"), "recipes.cot.cott (did you mean cot?)"),
        (("seed: 0  #", "sede: 0\nseed: 0  #"), "unknown key sede (did you mean seed?)"),
        (("ce_weight: 0.5", "ce_weight: 1.5"), "distill.ce_weight"),
        (("weights: clip", "weights: max"), "merge.weights: Input should be 'clip', 'softmax' or"),
        (("tau: 0.01", "tau: 0.0"), "merge.tau: Input should be greater than or equal to"),
        (("seed: 0  #", "seed: true  #"), "seed: Input should be a valid integer (found True)"),
        (("seed: 0  #", "seed: 0.0  #"), "seed: Input should be a valid integer (found 0.0)"),
        (("seed: 0  #", "seed: 1e30  #"), "seed: Input should be a valid integer (found 1e+30)"),
        (("ratio: 0.5  #", "ratio: false  #"), "ratio: Input should be a valid number (found False)"),
        (("eta: 1.0", "eta: .inf"), "resampling.eta: Input should be"),
        (("eta: 1.0", "eta: 1e30"), "resampling.eta: Input should be less than or equal to"),
        (("scale: tiny", "scale: [tiny]"), "scale ['tiny'] is not one of"),
        (("scale: tiny", "scale: ../scales/tiny"), "scale '../scales/tiny' is not one of"),
        (("  temperature: 1.0", f"  temperature: {'x' * 999}"), f"(found '{'x' * 79}...)"),
        (("tau: 0.01", '"t\\nau": 0.01'), "unknown key merge.'t\\nau'"),
        (("permutations: 32", "permutations: 1"), "merge.permutations: Input should be greater"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1]\nb: *a", "has an alias"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "x" * 250_000, "larger than 250,000 bytes"),
        ("a: " + "1" * 5000, "is not YAML: Exceeds the limit"),
        ("a: 2024-13-45", "is not YAML: month must be in 1..12"),
        ("a: !!bool x", "is not YAML: 'x'"),
        ("a: 1\na: 2", 'is not YAML: found duplicate key "a"'),
        ("a: !!python/object:os.system {}", "is not YAML: could not determine a constructor"),
        ("a: b: c", "is not YAML: mapping values are not allowed"),
        ("a: \x00", "is not YAML"),
        ("- a", "holds list, expected a mapping"),
        ("", "holds NoneType, expected a mapping"),
    ],
)
def test_yaml_that_cannot_be_read_is_one_line(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError) as caught:
        config.load(tmp_path / "params.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_folder_in_place_of_the_params_is_one_line(tmp_path):
    with pytest.raises(ParamsError, match="cannot be read"):
        config.load(tmp_path)


def test_numbers_are_read_as_dvc_reads_them(study):
    """DVC reads YAML 1.2 and writes the numbers into the commands: another reading would be another experiment."""
    found = study(("seed: 0  #", "seed: 010  #"), ("data_seed: 0  #", "data_seed: 0o10  #"))
    assert (found.seed, found.data_seed) == (10, 8)
    text = (ROOT / "params.yaml").read_text().replace("seed: 0  #", "seed: 010  #", 1)
    assert dvc_yaml.parse_yaml(text, "params.yaml")["seed"] == found.seed


def test_a_scale_without_a_step_for_each_checkpoint_is_one_line(study, edit):
    for pool, said in (
        ({"steps": 3, "checkpoint_span": 1.0}, "steps is 3, too few for 4 checkpoints$"),
        ({"steps": 7, "checkpoint_span": 0.5}, "steps is 7, too few for 4 checkpoints in the last 50% of them$"),
    ):
        edit("scales/tiny.yaml", sft=pool)
        with pytest.raises(ParamsError, match=f"sft: {said}"):
            study()
    for steps, span, pool in ((8, 0.5, [5, 6, 7, 8]), (40, 1.0, [10, 20, 30, 40])):
        edit("scales/tiny.yaml", sft={"steps": steps, "checkpoint_span": span})
        assert list(study().sft_budget("full").checkpoint_steps.values()) == pool


def test_a_recipe_may_have_steps_and_a_rate_of_its_own(study, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("recipes: {long: {cot: 0.5, resampling: static, steps: 40, lr: 0.5}}\n")
    found = study(overlay=overlay)
    scale, long = found.scale_config.sft, found.sft_budget("long")
    assert (long.steps, long.lr, list(long.checkpoint_steps.values())) == (40, 0.5, [25, 30, 35, 40])
    assert (long.warmup, found.sft_budget("full")) == (scale.warmup, scale)
    overlay.write_text("recipes: {full: {steps: 3}}\n")
    with pytest.raises(ParamsError, match=r"recipes\.full\.steps is 3, too few for 4 checkpoints"):
        study(overlay=overlay)


def test_a_scale_may_have_a_rate_for_a_compressor_and_for_one_ratio(study, edit):
    edit("scales/tiny.yaml", distill={"steps": 8, "lr": 0.1, "lr_by_compressor": {"pool": 0.2, "pool-r0.25": 0.3}})
    budget = study().scale_config.distill
    asked = [("cnn", 0.25), ("pool", 0.5), ("pool", 0.25)]
    assert [budget.lr_of(*one) for one in asked] == [0.1, 0.2, 0.3]


def test_a_scale_may_have_steps_and_a_rate_for_a_recipe(study, edit):
    own = {"steps": 8, "lr": 0.1, "steps_by_recipe": {"full": 40}, "lr_by_recipe": {"cot": 0.5}}
    edit("scales/tiny.yaml", sft=own)
    found = study()
    assert [(found.sft_budget(name).steps, found.sft_budget(name).lr) for name in ("direct", "cot", "full")] == [
        (8, 0.1),
        (8, 0.5),
        (40, 0.1),
    ]
    edit("scales/tiny.yaml", sft=own | {"steps_by_recipe": {"full": 3}})
    with pytest.raises(ParamsError, match=r"sft\.steps_by_recipe\.full of scale tiny is 3, too few for 4 checkpoints"):
        study()
    edit("scales/tiny.yaml", sft=own | {"lr_by_recipe": {"foo": 0.5}})
    with pytest.raises(ParamsError, match=r"sft\.lr_by_recipe of scale tiny names 'foo', which is not under recipes"):
        study()


@pytest.mark.parametrize("lr", [".inf", ".nan", "1e30", "-1.0", "0"])
def test_a_rate_is_finite_and_bounded(study, tmp_path, lr):
    path = tmp_path / "workflow/scales/tiny.yaml"
    study()
    path.write_text(re.sub(r"(distill:\n(?:  .*\n)*?  lr: ).*", rf"\g<1>{lr}", path.read_text(), count=1))
    with pytest.raises(ParamsError, match=r"distill\.lr: Input should be"):
        study()


@pytest.mark.parametrize("key", ["vision_cache_gb", "teacher_cache_gb"])
def test_what_a_sharded_model_computes_is_not_cached(study, edit, key):
    edit("scales/tiny.yaml", launch={key: 1.5, "strategy": "fsdp"})
    with pytest.raises(ParamsError, match=f"{key} needs strategy ddp"):
        study(scale="tiny")


def test_near_duplicates_differ_in_few_bits(study, edit):
    edit("mixes/rendered.yaml", corpus={"near_duplicate": 300})
    with pytest.raises(ParamsError, match=r"corpus\.near_duplicate: .* less than or equal to 64"):
        study()


def test_a_recipe_that_a_flag_names_is_trained(study):
    assert "distilled" not in study().ablation_recipes
    assert study(recipe="distilled").ablation_recipes[-1] == "distilled"
    with pytest.raises(ParamsError, match="recipe 'foo' is not under recipes"):
        study(recipe="foo")


def test_values_of_an_overlay_stand_in_place_of_those_of_the_study(study, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("scale: smoke\nrecipes: {more: {cot: 0.1, rationales: all, resampling: static}}\n")
    found = study(overlay=overlay)
    assert (found.scale, found.recipes["more"].cot, found.recipes["full"].cot) == ("smoke", 0.1, 0.5)
    assert study(overlay=overlay, scale="tiny").scale == "tiny"
    overlay.write_text("sede: 1\n")
    with pytest.raises(ParamsError, match=r"overlay.yaml, over .*params.yaml: unknown key sede \(did you mean seed"):
        study(overlay=overlay)


def test_a_grid_is_every_combination_at_each_of_its_scales():
    grid = config.Grid(title="A", scale=("a", "b"), compressor=("cnn",), ratio=(0.5, 0.75), seed=(0,), recipe=("full",))
    assert len(list(grid.points("study"))) == 4
    alone = config.Grid(title="A", compressor=("cnn",), ratio=(0.5,), seed=(0, 1))
    assert list(alone.points("study"))[1] == {"scale": "study", "compressor": "cnn", "ratio": 0.5, "seed": 1}


def test_the_grid_of_the_ablation_has_an_end(study):
    seeds = "  seed:\n" + "".join(f"  - {seed}\n" for seed in range(10_000))
    with pytest.raises(ParamsError, match="ablation is a grid of 80000 points"):
        study(("  seed:\n  - 0\n", seeds))


@pytest.mark.parametrize("budget", [{"vision_step": 3}, {"pages": "many"}, {"peak": float("inf")}])
def test_junk_in_the_budget_of_the_teacher_is_one_line(study, edit, budget):
    edit("scales/tiny.yaml", train_teacher=budget)
    with pytest.raises(ParamsError, match=rf"train_teacher\.{next(iter(budget))}"):
        study()


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ParamsError, match="run in the project's folder"):
        config.load(tmp_path / "params.yaml")


def test_a_wrong_scale_file_is_named(study, edit):
    edit("scales/tiny.yaml", sft={"steps": 0}, modell={})
    with pytest.raises(ParamsError) as caught:
        study()
    assert "tiny.yaml: " in str(caught.value)
    assert "sft.steps" in str(caught.value)
    assert "unknown key modell (did you mean model?)" in str(caught.value)


def test_a_wrong_mix_file_is_named(study, edit):
    edit("mixes/rendered.yaml", corpus={"val": 0}, source=[])
    with pytest.raises(ParamsError) as caught:
        study()
    assert "rendered.yaml: " in str(caught.value)
    assert "corpus.val" in str(caught.value)
    assert "unknown key source (did you mean sources?)" in str(caught.value)


def test_a_prompt_needs_a_place_for_the_question(study, edit):
    edit("scales/tiny.yaml", prompts={"cot": "Reason first."})
    with pytest.raises(ParamsError, match=r"prompts.cot: the template has no \{question\}"):
        study()


@pytest.mark.parametrize(
    "template",
    ["{question} {context}", "{question} {0}", "{question.x}", "{question!r}", "{question:>99999}", "{question"],
)
def test_a_prompt_has_the_question_alone_in_braces(study, edit, template):
    edit("scales/tiny.yaml", prompts={"direct": template})
    with pytest.raises(ParamsError, match=r"prompts\.direct: .*double a brace"):
        study()
    edit("scales/tiny.yaml", prompts={"direct": "{{x}} {question}"})
    assert study().scale_config.prompts.direct == "{{x}} {question}"


def test_flags_replace_values_and_are_checked_too(study):
    assert study(ratio=0.75, seed=3).ratio == 0.75
    assert study(seed=None).seed == 0
    assert study(mix="smoke").mix_config.corpus.align == 24
    with pytest.raises(ParamsError, match=r"ratio 0\.3"):
        study(ratio=0.3)


def test_params_are_frozen(study):
    with pytest.raises(ValueError, match="frozen"):
        study().seed = 1
