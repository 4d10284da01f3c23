"""DVC and Snakemake on one chain, really run at scale smoke: the tests tell one story, in order.

What ran is counted from the engines' own logs. A stage that failed would make each later test fail too: read the first
one. They share one clone, so a distribution over processes keeps files whole.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dvc.repo import Repo

from fcotvl.dag.pipeline import read_stages
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(900)]

NAME_MODULES = """
import atexit, sys
ours = lambda: sorted(name for name in sys.modules if name.startswith("fcotvl."))
atexit.register(lambda: print("modules:", *ours(), file=sys.stderr))
"""
EMPTY = 200
"""Bytes up to which a package's ``__init__`` holds a docstring and no code."""
SHARED = ["curate", "predict_baselines", "rscot", "score_baselines", "teacher"]
STUDENT = ["distill", "predict_distilled", "score_distilled", "speed"]
RECIPE = ["harness", "merge", "predict_merged", "predict_sft", "score_merged", "score_sft", "sft"]
EVERY = sorted([*SHARED, *STUDENT, *RECIPE, "check", "report"])
AFTER_A_COMPRESSOR = sorted([*STUDENT, *RECIPE, "check", "report"])
VARIANT = "data/smoke/cnn-r0.5-s0"


def changed_in_git(clone: Workspace) -> list[str]:
    """What ``git status`` lists, in its short form."""
    return clone.ok("git", "status", "--porcelain").text.splitlines()


def names(stages: list[str]) -> list[str]:
    """DVC's ``sft@full`` as Snakemake's ``sft``."""
    return sorted(stage.partition("@")[0] for stage in stages)


def test_one_file_alone_does_not_lock_snakemake_out(clone: Workspace):
    """DVC takes no stage before `check` has written its output."""
    ran = clone.ok("snakemake", "--cores", "1", "data/smoke/teacher")
    assert ran.stages == ["teacher"]
    assert "score_merged" in clone.ok("snakemake", "--dry-run").stages


def test_pictures_are_decoded_before_curate_in_as_many_jobs_as_wanted(clone: Workspace):
    ran = clone.ok("snakemake", "--cores", "2", "prefetch", "--set-scatter", "prefetch=2")
    assert ran.stages == ["prefetch_part", "prefetch_part"]


def test_snakemake_runs_every_stage_once(clone: Workspace):
    # Each log then ends with the modules that its stage has imported, for the next test.
    hook = clone.folder.parent / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(NAME_MODULES)
    ran = clone.ok("snakemake", "--cores", "2", PYTHONPATH=str(hook))
    assert ran.stages == sorted(set(EVERY) - {"teacher"})
    assert "prefetched" in (clone.folder / "logs/snakemake/smoke/curate.log").read_text()
    assert not (clone.folder / "data/smoke/prefetch").exists()
    assert changed_in_git(clone) == ["?? dvc.lock"]
    clone.commit()


@pytest.mark.parametrize("stage", sorted(set(EVERY) - {"teacher"}))
def test_a_stage_imports_only_code_that_it_declares(clone: Workspace, stage: str):
    """Registries import by name at run time, which no reading of the source can tell."""
    deps = read_stages(clone.folder / "dvc.yaml")[stage].deps
    (log,) = (clone.folder / "logs/snakemake").rglob(f"{stage}.log")
    (modules,) = re.findall(r"^modules: (.*)$", log.read_text(), re.MULTILINE)
    imported = {name.replace(".", "/") for name in modules.split()}
    files = {
        path
        for name in imported
        for path in (f"{name}.py", f"{name}/__init__.py")
        if (clone.folder / path).is_file() and (clone.folder / path).stat().st_size > EMPTY
    }
    assert f"fcotvl/stages/{deps[-1].rpartition('/')[2]}" in files
    undeclared = {file for file in files if not any(Path(file).is_relative_to(dep) for dep in deps)}
    # Every `import fcotvl` passes the first, and the command line the second.
    assert undeclared <= {"fcotvl/compress/auto.py", "fcotvl/launcher.py"}


@pytest.mark.parametrize(
    ("edited", "reruns"),
    [
        (["export/export.py", "stages/export.py", "stages/card.py"], []),
        (["compress/compressors/cnn.py"], AFTER_A_COMPRESSOR),
    ],
)
def test_an_edit_reruns_what_depends_on_it_in_either_engine(clone: Workspace, edited: list[str], reruns: list[str]):
    before = {clone.folder / "fcotvl" / name: (clone.folder / "fcotvl" / name).read_text() for name in edited}
    for path, text in before.items():
        path.write_text(text + "\n# edited\n")
    try:
        wanted = names(re.findall(r"^(\S+):$", clone.ok("dvc", "status").text, re.MULTILINE))
        planned = clone.ok("snakemake", "--dry-run").stages
    finally:
        for path, text in before.items():
            path.write_text(text)
    direct = {
        "check",
        "distill",
        "harness",
        "merge",
        "predict_distilled",
        "predict_merged",
        "predict_sft",
        "sft",
        "speed",
    }
    assert set(wanted) == (direct if reruns else set())
    assert planned == reruns
    clone.is_idle()


def test_both_engines_describe_the_same_work(clone: Workspace):
    with Repo(clone.folder) as repo:
        dvc = {
            stage.cmd: (
                {dep.def_path for dep in stage.deps if "yaml" not in dep.def_path},
                {out.def_path for out in stage.outs},
            )
            for stage in repo.index.stages
        }
    table = clone.ok("snakemake", "--detailed-summary").text
    lines = table[table.index("output_file\t") :].splitlines()
    inputs: dict[str, set[str]] = {}
    outputs: dict[str, set[str]] = {}
    for row in csv.DictReader(lines, delimiter="\t"):
        command = (row["shellcmd"] or "").partition(" > logs/")[0]
        outputs.setdefault(command, set()).add(row["output_file"])
        inputs[command] = set(row["input-file(s)"].split(","))
    assert {command: outs for command, (_, outs) in dvc.items()} == outputs
    for command, (deps, _) in dvc.items():
        read = {path for path in inputs[command] if path != "-"}
        uncovered = {p for p in read if not any(Path(p).is_relative_to(dep) for dep in deps)}
        unread = {dep for dep in deps if not any(Path(p).is_relative_to(dep) for p in read)}
        assert (uncovered, unread - {"data/check.txt"}) == (set(), set()), command


def test_dvc_has_nothing_left_to_do(clone: Workspace):
    assert "up to date" in clone.ok("dvc", "status").text
    assert clone.ok("dvc", "repro").stages == []
    clone.is_idle()


def test_folders_share_their_files_with_the_cache(clone: Workspace):
    """Single files are Snakemake's to make anew, which a read-only one is not."""
    cached = {path.stat().st_ino for path in files_below(clone.folder / ".dvc/cache/files/md5")}
    outs = [Path(out) for stage in read_stages(clone.folder / "dvc.yaml").values() for out in stage.outs]
    folders = [path for path in (clone.folder / "data").rglob("*/") if path.name in {out.name for out in outs}]
    assert {path.name for path in folders} == {"benchmarks", "checkpoints", "corpus", "merged", "teacher"}
    files = [path for folder in folders for path in files_below(folder) if path.name != ".snakemake_timestamp"]
    linked = [path for path in files if path.stat().st_ino in cached]
    assert {md5(path) for path in linked} == {md5(path) for path in files}  # of equal files DVC links one
    assert all((clone.folder / VARIANT / name).stat().st_mode & 0o200 for name in ("student.safetensors", "speed.csv"))


def files_below(folder: Path) -> list[Path]:
    """Every file in a folder and those below it."""
    return [path for path in folder.rglob("*") if path.is_file()]


def md5(path: Path) -> str:
    """The name under which DVC keeps a file."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_the_lock_names_no_place_of_this_machine(clone: Workspace):
    lock = (clone.folder / "dvc.lock").read_text()
    assert str(clone.folder) not in lock
    assert "path: /" not in lock


def test_after_a_checkout_neither_engine_has_anything_to_do(clone: Workspace):
    shutil.rmtree(clone.folder / "data/smoke")
    clone.ok("dvc", "checkout")
    clone.is_idle()


def test_another_ratio_keeps_what_variants_share(clone: Workspace):
    before = yaml.safe_load((clone.folder / "reports/metrics.json").read_text())
    ran = clone.ok("dvc", "exp", "run", "--name", "three-quarters", "--set-param", "ratio=0.75")
    assert names(ran.stages) == sorted([*STUDENT, *RECIPE, "check", "report"])
    clone.is_idle()
    after = yaml.safe_load((clone.folder / "reports/metrics.json").read_text())
    assert set(after) == set(before)
    assert "0.75" in (clone.folder / "reports/index.html").read_text()
    assert changed_in_git(clone) == [" M dvc.lock", " M params.yaml"]
    compared = clone.ok("dvc", "metrics", "diff", "--all", "--json")
    assert set(json.loads(compared.text)["reports/metrics.json"]) == set(after)
    assert "file://" in clone.ok("dvc", "plots", "show").text
    shown = json.loads(clone.ok("dvc", "plots", "diff", "--json", "HEAD", "three-quarters").text)
    assert "errors" not in shown
    (scores,) = shown["data"]["score by visual tokens"]
    points = {(row["rev"], row["series"]): row["tokens"] for row in scores["content"]["data"]["values"]}
    merged = {rev: tokens for (rev, series), tokens in points.items() if series.startswith("Merged, shapley")}
    assert merged == {"HEAD": "32", "three-quarters": "16"}


def test_trainings_leave_curves_that_only_dvc_plots_knows(clone: Workspace):
    curve = f"dvclive/{VARIANT.removeprefix('data/')}/full/sft/plots/metrics/loss.tsv"
    steps = [int(row["step"]) for row in csv.DictReader((clone.folder / curve).open(), delimiter="\t")]
    assert steps == list(range(1, len(steps) + 1))
    shown = json.loads(clone.ok("dvc", "plots", "show", "--json").text)
    assert "errors" not in shown
    assert curve in shown["data"]
    assert not [name for name in shown["data"] if name.endswith((".json", ".md"))]


def test_the_documented_table_of_experiments_is_narrow(clone: Workspace):
    (command,) = re.findall(r"`(dvc exp show --only.*?)`", (clone.folder / "README.md").read_text())
    shown = clone.ok(*shlex.split(command.replace("\\|", "|")), "--csv").text
    header, *rows = csv.reader(shown.splitlines())
    assert [row[header.index("Experiment")] for row in rows][-1] == "three-quarters"
    told = set(header) - {"Experiment", "rev", "typ", "Created", "parent", "State", "Executor"}
    metrics = set(json.loads((clone.folder / "reports/metrics.json").read_text()))
    assert told - metrics == {"ratio"}
    compared = json.loads(clone.ok("dvc", "metrics", "diff", "--all", "--json", "HEAD", "three-quarters").text)
    values = compared["reports/metrics.json"]
    assert set(values) == metrics
    # A metric that happens to be equal in all is left out, and no other.
    assert told & metrics == {name for name, value in values.items() if value["old"] != value["new"]}
    assert told & {"docvqa_cot", "chartqa_cot", "infovqa_cot"}
    assert "speedup" in metrics


def test_going_back_runs_nothing(clone: Workspace):
    clone.ok("git", "checkout", "--quiet", ".")
    clone.ok("dvc", "checkout")
    clone.is_idle()


def test_another_clone_gets_results_experiments_and_models_and_runs_nothing(clone: Workspace):
    home = clone.folder.parent
    clone.ok("git", "init", "--quiet", "--bare", "--initial-branch=main", str(home / "origin.git"))
    clone.ok("git", "remote", "add", "origin", str(home / "origin.git"))
    clone.ok("dvc", "remote", "add", "--local", "--default", "storage", str(home / "storage"))
    clone.ok("gto", "register", "merged-student", "--version", "v0.1.0")
    clone.ok("git", "push", "--quiet", "--tags", "origin", "main")
    clone.ok("dvc", "push")
    clone.ok("dvc", "exp", "push", "origin", "three-quarters")

    clone.ok("git", "clone", "--quiet", str(home / "origin.git"), str(home / "other"))
    other = Workspace(home / "other")
    other.name_user()
    other.ok("dvc", "remote", "add", "--local", "--default", "storage", str(home / "storage"))
    other.ok("dvc", "pull")
    other.is_idle()
    assert changed_in_git(other) == []
    other.ok("dvc", "artifacts", "get", ".", "merged-student", "--rev", "v0.1.0", "--out", "got.safetensors")
    merged = f"{VARIANT}/full/merged/merged.safetensors"
    assert (other.folder / "got.safetensors").read_bytes() == (clone.folder / merged).read_bytes()
    other.ok("dvc", "exp", "pull", "origin", "three-quarters")
    other.ok("dvc", "exp", "apply", "three-quarters")
    assert (other.folder / VARIANT.replace("0.5", "0.75") / "student.safetensors").is_file()
    other.is_idle()


def test_another_merge_rule_runs_what_follows_the_merge(clone: Workspace):
    clone.edit("params.yaml", r"^  headline: \w+", "  headline: uniform")
    ran = clone.ok("snakemake")
    assert ran.stages == ["check", "harness", "merge", "predict_merged", "report", "score_merged"]
    clone.is_idle()


def test_a_metrics_code_runs_scores_and_report_but_no_prediction(clone: Workspace):
    path = clone.folder / "fcotvl/evaluate/metrics/anls.py"
    path.write_text(path.read_text() + "\n# touched\n")
    scores = [stage for stage in EVERY if stage.startswith("score_")]
    # lm-eval scores while it asks: its comparison is made again.
    assert clone.ok("snakemake").stages == sorted([*scores, "harness", "report"])
    clone.is_idle()


def test_reverting_both_runs_nothing_in_either_engine(clone: Workspace):
    clone.ok("git", "checkout", "--quiet", ".")
    assert clone.ok("dvc", "repro").stages == []
    clone.is_idle()


def test_the_ablation_computes_what_variants_share_once(clone: Workspace):
    ran = clone.ok("snakemake", "--cores", "2", "ablation", "variants")
    assert ran.stages == sorted([*STUDENT, *RECIPE, "ablation"])
    table = (clone.folder / "reports/ablation/index.html").read_text()
    assert "pool" in table
    assert "Nothing to be done" in clone.ok("snakemake", "--dry-run", "ablation").text
    clone.is_idle()


def test_a_study_runs_its_grids_beside_the_experiment(clone: Workspace):
    for kind in ("scales", "mixes"):
        shutil.copy(clone.folder / f"workflow/{kind}/smoke.yaml", clone.folder / f"workflow/{kind}/study.yaml")
    grids = {
        "nested": {"title": "All", "compressor": ["nested"], "ratio": [0.5], "seed": [0], "serve": [0.75]},
        "recipes": {"title": "Recipes", "compressor": ["cnn"], "ratio": [0.5], "seed": [0], "recipe": ["quarter"]}
        | {"attention": True},
    }
    recipes = {"quarter": {"cot": 0.25, "rationales": "all", "ce_weight": 1.0, "resampling": "static"}}
    pool = {"quarter": [-1], "full": [0, -1]}
    grids["runs"] = {"title": "Runs", "compressor": ["cnn"], "ratio": [0.5], "seed": [0], "pool": pool}
    merge = {"prompts": ["direct", "cot"], "singles": True, "methods": ["best", "search", "shapley"]}
    study = {"scale": "study", "mix": "study", "recipes": recipes, "merge": merge, "grids": grids}
    (clone.folder / "workflow/study.yaml").write_text(yaml.safe_dump(study))
    command = ("snakemake", "--snakefile", "workflow/study.smk", "--cores", "2")
    ran = clone.ok(*command)
    student = ["distill", "predict_distilled", "score_distilled"]
    once = [*SHARED, "predict_sft", "score_sft", "sft"]
    merged = ["merge", "predict_merged", "score_merged", "sft"]
    looked = ["attention_distilled", "attention_sft", "attention_teacher"]
    alone = [*looked, "runs_checkpoints", "served_predict", "served_score", "study"]
    assert ran.stages == sorted([*alone, *(f"study_{stage}" for stage in (*student, *student, *once, *merged))])
    page = (clone.folder / "reports/study/index.html").read_text()
    assert "Recipes: compressor cnn; ratio 0.5; seed 0; recipe quarter." in page
    scores = pd.read_csv(clone.folder / "reports/study/tables/scores-direct.csv")
    assert set(scores.loc[scores["kind"] == "nested", "ratio"]) == {0.5, 0.75}
    members = {"quarter", "full-step-00002", "full-step-00004"}
    assert {f"runs/{name}" for name in (*members, *merge["methods"])} <= set(scores["stage"])
    values = pd.read_csv(clone.folder / "reports/study/tables/values.csv")
    assert set(values["checkpoint"]) == members
    attention = pd.read_csv(clone.folder / "reports/study/tables/attention-direct.csv")
    assert set(attention["stage"].fillna("")) == {"", "distilled", "sft-quarter"}
    assert '<h2 id="attention">' in page
    assert "Nothing to be done" in clone.ok(*command, "--dry-run").text
    for code, made in (("report/study/claims", ["study"]), ("evaluate/metrics/anls", ["served_score", "study"])):
        path = clone.folder / f"fcotvl/{code}.py"
        path.write_text(path.read_text() + "\n# touched\n")
        found = clone.ok(*command, "--dry-run").stages
        assert sorted(name for name in found if not name.startswith("study_score")) == made
    clone.ok("git", "checkout", "--quiet", ".")
    assert clone.ok("dvc", "repro").stages == []
    clone.is_idle()


def test_pages_get_into_git_only_when_they_are_asked_for(clone: Workspace):
    assert changed_in_git(clone) == []
    clone.ok("make", "results")
    for name in ("index.html", "metrics.json", "tables/results-cot.csv", "ablation/tables/ablation-cot.csv"):
        assert (clone.folder / "docs/results" / name).read_bytes() == (clone.folder / "reports" / name).read_bytes()
    assert {line[3:].split("/")[:2] == ["docs", "results"] for line in changed_in_git(clone)} == {True}
    assert not list((clone.folder / "docs/results").rglob(".snakemake_timestamp"))
    clone.ok("git", "checkout", "--quiet", ".")
    clone.ok("git", "clean", "--quiet", "--force", "docs/results")
    clone.is_idle()


def test_finished_variants_become_experiments_with_the_params_that_they_were_built_with(clone: Workspace):
    clone.edit("params.yaml", r"^  fastv_layer: 2", "  fastv_layer: 1")  # and not committed
    clone.ok("snakemake", "--cores", "2", "variants")
    points = ["cnn-r0.5-s0-full", "pool-r0.5-s0-full"]
    assert clone.ok("python", "-m", "fcotvl", "publish").text.split() == points
    assert "pool-r0.5-s0-full" in clone.ok("dvc", "exp", "list").text
    refs = clone.ok("git", "for-each-ref", "--format=%(refname)", "refs/exps").text.split()
    published = [ref for ref in refs if ref.endswith(tuple(points))]
    assert len(published) == len(points)
    for ref in published:
        lock = yaml.safe_load(clone.ok("git", "show", f"{ref}:dvc.lock").text)
        params = yaml.safe_load(clone.ok("git", "show", f"{ref}:params.yaml").text)
        locked = lock["stages"]["predict_baselines"]["params"]["params.yaml"]["baselines"]
        assert params["baselines"]["fastv_layer"] == locked["fastv_layer"] == 1


def test_a_queue_of_published_variants_runs_no_stage(clone: Workspace):
    clone.ok("dvc", "exp", "run", "--queue", "--name", "again", "-S", "compressor=cnn,pool", "-S", "seed=0")
    clone.ok("dvc", "queue", "start", "--jobs", "1")
    deadline = time.monotonic() + 300
    while {"Queued", "Running"} & set(clone.ok("dvc", "queue", "status").text.split()):
        assert time.monotonic() < deadline, clone.run("dvc", "queue", "status").text
        time.sleep(2)
    for name in ("again-1", "again-2"):
        assert clone.ok("dvc", "queue", "logs", name).stages == []
    clone.ok("git", "checkout", "--quiet", ".")
    assert clone.ok("dvc", "repro").stages == []
    clone.is_idle()


def test_a_killed_stage_leaves_nothing_half_written_and_the_other_engine_goes_on(clone: Workspace):
    clone.edit("params.yaml", r"^  ce_weight: [\d.]+", "  ce_weight: 0.25")
    log = clone.folder / f"logs/snakemake/smoke/{Path(VARIANT).name}/distill.log"
    log.unlink()
    engine = subprocess.Popen(
        ["snakemake"],
        cwd=clone.folder,
        env=clone.environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(engine.pid, signal.SIGKILL)
    engine.wait()
    assert not (clone.folder / VARIANT / "student.safetensors").exists()
    assert clone.run("snakemake").code == 1  # locked
    clone.ok("snakemake", "--unlock")
    assert clone.ok("dvc", "repro", "distill").stages[-1:] == ["distill"]
    planned = clone.ok("snakemake", "--dry-run").stages
    assert "distill" not in planned
    assert "sft" in planned
    clone.ok("git", "checkout", "--quiet", ".")
    assert clone.ok("dvc", "repro").stages == []
    clone.is_idle()


@pytest.mark.parametrize("name", ["curate", "rscot", "sft@full", "merge", "predict_sft@full"])
def test_a_killed_command_leaves_outputs_whole_or_absent(clone: Workspace, name: str):
    with Repo(clone.folder) as repo:
        stage = next(stage for stage in repo.index.stages if stage.name == name)
    outs = [out.def_path for out in stage.outs]
    home, resume = clone.folder / "killed", clone.folder / ".scratch"
    before = below(resume)
    words = [f"killed/{word}" if word in outs else word for word in shlex.split(stage.cmd)]
    command = subprocess.Popen(
        words,
        cwd=clone.folder,
        env=clone.environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not any("." in name for name in below(home) | below(resume) - before):  # not yet writing
        assert command.poll() is None
        time.sleep(0.001)
    os.killpg(command.pid, signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL
    for out in outs:
        if (home / out).exists():
            assert contents(home / out) == contents(clone.folder / out)
    shutil.rmtree(home, ignore_errors=True)


def below(folder: Path) -> set[str]:
    """Names of all that is in a folder, which may change while it is looked at."""
    return {name for _, folders, files in os.walk(folder) for name in (*folders, *files)}


def contents(path: Path) -> dict[str, bytes]:
    """Bytes of a file, or of all files of a folder but Snakemake's own mark."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.name != ".snakemake_timestamp"}


@pytest.fixture
def restored(clone: Workspace) -> Iterator[Workspace]:
    """The clone; its params are as committed again afterwards."""
    yield clone
    clone.ok("git", "checkout", "--quiet", ".")


@pytest.mark.parametrize(
    ("pattern", "wrong", "message"),
    [
        (r"^ratio: 0.5", "ratio: 0.6", "0.6"),
        (r"^seed: 0", "seed: 0\nsead: 0", "sead"),
        (r"^  raw: .*", "  raw: data/nowhere", "data/nowhere"),
    ],
)
def test_a_wrong_value_stops_both_engines_with_one_line(restored: Workspace, pattern: str, wrong: str, message: str):
    artifacts = sorted((restored.folder / "data/smoke").rglob("*"))
    restored.edit("params.yaml", pattern, wrong)
    for engine in (["snakemake"], ["dvc", "repro"]):
        ran = restored.run(*engine)
        assert ran.code != 0
        assert set(ran.stages) <= {"check"}
        assert message in ran.text
        assert "Traceback" not in ran.text
    assert sorted((restored.folder / "data/smoke").rglob("*")) == artifacts


def test_the_right_value_again_runs_nothing(clone: Workspace):
    assert clone.ok("dvc", "repro").stages == []
    clone.is_idle()


def test_values_on_snakemakes_command_line_are_refused(clone: Workspace):
    ran = clone.run("snakemake", "--dry-run", "--config", "ratio=0.75")
    assert ran.code == 1
    assert "change params.yaml" in ran.text


@pytest.mark.parametrize(("options", "wakes"), [((), 0), (("--max-jobs-per-timespan", "50/1s"), 1)])
def test_snakemakes_scheduler_sleeps_between_jobs(clone: Workspace, tmp_path: Path, options: tuple[str], wakes: int):
    """Unless the user asks for a rate: then it looks again after each interval."""
    rules = tmp_path / "Snakefile"
    rules.write_text(
        "from snakemake.scheduling.job_scheduler import JobScheduler\n"
        "JobScheduler._schedule_reevalutation = lambda self, delay: print('wakes')\n"
        f"include: '{clone.folder}/Snakefile'\n"
        f"rule probe:\n    output: '{tmp_path}/probe'\n    shell: 'touch {{output}}'\n"
    )
    ran = clone.ok("snakemake", "--snakefile", str(rules), "--cores", "1", "probe", *options)
    assert (tmp_path / "probe").is_file()
    assert ran.text.count("wakes") == wakes


def test_nothing_wrote_through_a_link_into_the_cache(clone: Workspace):
    files = files_below(clone.folder / ".dvc/cache/files/md5")
    assert len(files) > 100
    assert [path for path in files if path.parent.name + path.stem != md5(path)] == []


def test_a_job_names_its_log_and_not_its_code(clone: Workspace):
    ran = clone.ok("snakemake", "--dry-run", "--forcerun", "report")
    assert ran.stages == ["report"]
    assert "report, log in logs/snakemake/report.log\nReason:" in ran.text
    assert "fcotvl/core" not in ran.text


def test_the_picture_of_the_rules_is_current(clone: Workspace):
    svg = (clone.folder / "docs/rulegraph.svg").read_text()
    labels = dict(re.findall(r"<title>(\d+)</title>\n<path.*\n<text.*>(\w+)</text>", svg))
    drawn = {(labels[a], labels[b]) for a, b in re.findall(r"<title>(\d+)&#45;&gt;(\d+)</title>", svg)}
    text = clone.ok("snakemake", "reports/index.html", "--rulegraph").text
    names_now = dict(re.findall(r'(\d+)\[label = "(\w+)"', text))
    edges = {(names_now[a], names_now[b]) for a, b in re.findall(r"(\d+) -> (\d+)", text)}
    assert drawn <= edges  # tred draws no edge that a longer way implies
    assert reachable(drawn) == reachable(edges)
    assert set(names_now.values()) == set(EVERY) - {"check"}


def reachable(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Every pair of which the second is reached from the first."""
    longer = edges | {(a, d) for a, b in edges for c, d in edges if b == c}
    return edges if longer == edges else reachable(longer)


def test_the_snakemake_report_and_lint(clone: Workspace):
    clone.ok("snakemake", "--report", "report.html")
    text = (clone.folder / "report.html").read_text()
    assert all(f'"{name}"' in text for name in ("Experiment", "Figures", "Tables", "Page", "chain of thought"))
    assert "Congratulations" in clone.ok("snakemake", "--lint").text


def test_tools_that_look_below_workflow_find_the_same_rules(clone: Workspace):
    assert "Nothing to be done" in clone.ok("snakemake", "--dry-run", "--snakefile", "workflow/Snakefile").text
