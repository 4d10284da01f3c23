"""dvc.yaml in Snakemake's notation."""

from pathlib import Path

import pytest

from fcotvl.dag import Pipeline
from fcotvl.dag.pipeline import VARIABLE, WILDCARDS
from fcotvl.dag.subprocesses import EngineError
from tests.support.imports import ROOT

DVC = """
stages:
  distill:
    cmd: python -m fcotvl distill --ratio ${ratio} --student data/${scale}/r${ratio}/student.bin
    deps:
    - data/check.txt
    - code
    params:
    - distill
    - workflow/scales/${scale}.yaml:
      - distill
    outs:
    - data/${scale}/r${ratio}/student.bin
  sft:
    foreach: ${ablation_recipes}
    do:
      cmd: python -m fcotvl sft --recipe ${item}
      deps:
      - data/${scale}/r${ratio}/student.bin
      params:
      - recipes.${item}.cot
      outs:
      - data/${scale}/r${ratio}/sft-scores/${item}.bin
  report:
    cmd: python -m fcotvl report --ratio ${ratio}
    deps:
    - data/${scale}/r${ratio}/sft-scores
    params:
    - params.yaml:
    metrics:
    - reports/metrics.json:
        persist: true
"""
PARAMS = """
scale: tiny
compressor: cnn
ratio: 0.5
seed: 0
recipe: full
ablation_recipes: [direct, full]
recipes:
  direct: {cot: 0.0}
  full: {cot: 0.5}
distill: {b: 1, a: 2}
ablation:
  ratio: [0.5, 0.75]
  seed: [0, 1]
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    files = {"dvc.yaml": DVC, "params.yaml": PARAMS, "workflow/scales/tiny.yaml": "distill: {steps: 3}"}
    files |= {"code/a.py": "", "code/below/b.py": "", "code/__pycache__/a.pyc": ""}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Pipeline(tmp_path)


def test_what_a_variant_is_named_by_becomes_a_wildcard(pipeline):
    rule = pipeline.rule("distill")
    assert rule.output == ["data/tiny/r{ratio}/student.bin"]
    command = "python -m fcotvl distill --ratio 0.75"
    point = {"compressor": "cnn", "ratio": "0.75", "seed": "0", "recipe": "full"}
    assert rule.command(point) == f"{command} --student data/tiny/r0.75/student.bin"


def test_a_folder_of_sources_is_its_files_without_bytecode(pipeline):
    assert pipeline.rule("distill").input == ["code/a.py", "code/below/b.py"]


def test_a_folder_elsewhere_is_its_files_by_their_full_paths(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.json").touch()
    monkeypatch.chdir(tmp_path / "project")
    Path("dvc.yaml").write_text("stages: {curate: {cmd: touch out, deps: ['${data.raw}'], outs: [out]}}")
    Path("params.yaml").write_text(f"data: {{raw: {tmp_path / 'raw'}}}")
    assert Pipeline().rule("curate").input == [str(tmp_path / "raw/a.json")]


def test_a_name_that_snakemake_would_misread_is_one_line(pipeline):
    """It cannot be escaped, not even by a function of the wildcards."""
    (pipeline.root / "code/a}{b.py").touch()
    assert "code/a}{b.py" in Pipeline(pipeline.root).rule("distill").input
    (pipeline.root / "code/{x}.py").touch()
    with pytest.raises(EngineError, match=r"'code/\{x\}\.py': Snakemake takes .* rename it, or use DVC"):
        Pipeline(pipeline.root).jobs()


def test_no_free_text_of_params_is_in_a_command():
    """A shell reads it: only checked names and numbers may stand there."""
    names = {name for stage in Pipeline(ROOT).stages.values() for name in VARIABLE.findall(stage.cmd)}
    assert names == {"scale", "mix", "item", *WILDCARDS}


def test_numbers_are_read_as_dvc_reads_them(pipeline):
    params = pipeline.root / "params.yaml"
    params.write_text(params.read_text().replace("seed: 0", "seed: 010"))
    assert Pipeline(pipeline.root).values["seed"] == 10


def test_the_item_of_a_foreach_becomes_the_recipe(pipeline):
    rule = pipeline.rule("sft")
    assert rule.output == ["data/tiny/r{ratio}/sft-scores/{recipe}.bin"]
    assert rule.command({"recipe": "direct"}) == "python -m fcotvl sft --recipe direct"


def test_a_folder_of_several_outputs_is_those_outputs(pipeline):
    assert pipeline.rule("report").input == [
        "data/tiny/r0.5/sft-scores/direct.bin",
        "data/tiny/r0.5/sft-scores/full.bin",
    ]


def test_a_stage_that_does_not_vary_is_the_current_experiment(pipeline):
    assert pipeline.rule("report").command({}) == "python -m fcotvl report --ratio 0.5"


def test_params_follow_the_wildcards(pipeline):
    (cot,) = pipeline.rule("sft").params
    assert [cot({"recipe": recipe}) for recipe in ("direct", "full")] == [
        "recipes.direct.cot=0.0",
        "recipes.full.cot=0.5",
    ]


def test_params_come_from_the_scale_too_and_do_not_depend_on_the_order_of_keys(pipeline):
    assert [param({"ratio": "0.5"}) for param in pipeline.rule("distill").params] == [
        'distill={"a": 2, "b": 1}',
        'distill={"steps": 3}',
    ]


def test_a_whole_file_of_params_is_one_text_per_key(pipeline):
    texts = [param({}) for param in pipeline.rule("report").params]
    assert len(texts) == len(pipeline.values)
    assert "ratio=0.5" in texts


def test_a_new_chain_reads_the_files_anew(pipeline):
    params = pipeline.root / "params.yaml"
    params.write_text(params.read_text().replace("a: 2", "a: 3"))
    assert Pipeline(pipeline.root).jobs()["distill"].params[0] == 'distill={"a": 3, "b": 1}'


def test_jobs_are_named_as_dvc_names_them(pipeline):
    assert list(pipeline.jobs()) == ["distill", "sft@direct", "sft@full", "report"]


def test_a_point_replaces_params_and_trains_its_recipe(pipeline):
    jobs = pipeline.jobs(ratio=0.75, ablation_recipes=[], recipe="full")
    assert jobs["sft@full"].inputs == ["data/tiny/r0.75/student.bin"]
    assert "sft@direct" not in jobs


def test_the_grid_is_every_combination(pipeline):
    assert pipeline.grid() == [{"ratio": r, "seed": s} for r in (0.5, 0.75) for s in (0, 1)]


def test_each_stage_comes_after_those_it_reads_from():
    """The exchange between the engines walks the jobs in this order."""
    jobs = Pipeline(ROOT).jobs()
    made: set[str] = set()
    every = {out for job in jobs.values() for out in job.outs}
    for job in jobs.values():
        assert every.intersection(job.inputs) <= made
        made.update(job.outs)
    assert len(jobs) == 24
