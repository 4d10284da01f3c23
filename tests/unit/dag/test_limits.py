"""Time and memory that jobs ask a cluster for, against the cost model and the budgets."""

from functools import cache

import pytest

from fcotvl.compress.config import FcotvlConfig
from fcotvl.core import config
from fcotvl.core.config.scale import LaunchParams
from fcotvl.dag import limits
from fcotvl.evaluate.cost import parameters, training_flops
from fcotvl.internvl.architectures import teacher_config
from tests.support.imports import ROOT

SCALES = ("internvl2-1b", "internvl2-2b", "internvl2-8b")
WITH_A_MODEL = ("distill", "rscot", "sft", "merge", "predict_baselines", "predict_merged", "speed")


@cache
def load(scale):
    """The study at ``scale`` on the public mix."""
    return config.load(ROOT / "params.yaml", scale=scale, mix="public")


def study(scale, **launch):
    """The same, started otherwise."""
    params = load(scale)
    changed = LaunchParams(**params.scale_config.launch.model_dump() | launch)
    return params.model_copy(update={"scale_config": params.scale_config.model_copy(update={"launch": changed})})


@pytest.mark.parametrize("architecture", limits.SIZES)
def test_sizes_are_those_of_the_models(architecture):
    teacher, size = teacher_config(architecture), limits.SIZES[architecture]
    text, counts = teacher.text_config, parameters(teacher)
    tables = text.vocab_size * text.hidden_size * (1 if text.tie_word_embeddings else 2)
    assert size.vit == pytest.approx(counts["vit"], rel=0.01)
    assert size.layers == pytest.approx(counts["llm"] - tables, rel=0.01)
    assert size.total == pytest.approx(counts["total"], rel=0.01)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("stage", "recipe"), [("distill", ""), ("sft", "full"), ("sft", "matched")])
def test_training_takes_what_the_cost_model_says_within_the_margin(scale, stage, recipe):
    params, teacher = study(scale), teacher_config(scale)
    student = FcotvlConfig.from_teacher(teacher, compressor="cnn", ratio=params.ratio)
    tiles = params.scale_config.model.max_tiles + 1
    asked = None if recipe == "full" else teacher
    shape = {"tiles": tiles, "text_tokens": limits.TEXT, "answer_tokens": 150}
    whole = training_flops(student, asked, trains_llm=stage == "sft", **shape)
    assert 0.7 < limits.picture_flops(stage, params, recipe) / whole <= 1


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("stage", WITH_A_MODEL)
def test_the_attempts_of_a_job_are_long_enough_together_however_short_one_is(scale, stage):
    for hours in (4, 24):
        params = study(scale, job_hours=hours)
        runtime = limits.resources(stage, params)["runtime"]
        attempts = 1 + (limits.retries(stage, params) or 0)
        each = [runtime(None, attempt=attempt) / 60 for attempt in range(1, attempts + 1)]
        assert max(each) <= hours
        assert sum(each) - attempts * limits.START / 60 >= limits.hours(stage, params)


def test_fine_tuning_asks_for_the_time_of_the_longest_recipe():
    params = study("internvl2-2b")
    steps = 3 * params.scale_config.sft.steps
    recipes = params.recipes | {"long": params.recipes["matched"].model_copy(update={"steps": steps})}
    longer = params.model_copy(update={"recipes": recipes})
    assert limits.hours("sft", longer) == pytest.approx(3 * limits.hours("sft", params))


def test_a_larger_budget_asks_for_longer_and_an_attempt_for_more():
    one, eight = study("internvl2-2b", processes=1), study("internvl2-2b")
    assert limits.hours("rscot", one) == pytest.approx(8 * limits.hours("rscot", eight))
    assert limits.hours("harness", one) == pytest.approx(limits.hours("harness", eight))
    memory = limits.resources("sft", eight)["mem_mb"]
    assert memory(None, attempt=1) < memory(None, attempt=2) < 2 * memory(None, attempt=1)
    assert limits.resources("sft", one)["mem_mb"](None, attempt=1) < memory(None, attempt=1)
    assert limits.retries("distill", study("smoke")) is None


def test_a_merge_takes_a_reply_to_each_question_of_each_coalition_under_one_of_the_prompts():
    params = study("internvl2-2b")
    scale = params.scale_config

    def hours(prompts, methods=("shapley",)):
        merge = params.merge.model_copy(update={"prompts": prompts, "methods": methods})
        return limits.hours("merge", params.model_copy(update={"merge": merge}))

    batches = 2**scale.sft.checkpoints * scale.merge.questions / scale.evaluate.batch_size / scale.launch.processes
    for mode in ("direct", "cot"):
        seconds = batches * scale.prompts.max_new_tokens(mode) * limits.DECODING
        assert hours([mode]) == pytest.approx(seconds / 3600)
    assert hours(["direct", "cot"]) == pytest.approx((hours(["direct"]) + hours(["cot"])) / 2)
    assert hours(["cot"], ("shapley", "search")) == pytest.approx(2 * hours(["cot"]))
