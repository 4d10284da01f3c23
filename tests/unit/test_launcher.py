"""Accelerators of jobs that run side by side, and what is told of processes that fail."""

import signal
from types import SimpleNamespace

import pytest
import torch

from fcotvl import launcher
from fcotvl.core.errors import ParamsError


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with accelerators, whose jobs each hold their own locks."""

    def build(count, kind="cuda"):
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: SimpleNamespace(type=kind))

    for variable in launcher.VISIBLE.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(launcher.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(launcher, "_claimed", [])
    yield build
    for file in launcher._claimed:
        file.close()


def claimed(monkeypatch, number, jobs=1, kind="cuda"):
    """What a job of ``number`` accelerators then sees, which it shares with others that ``jobs`` counts with it."""
    with monkeypatch.context() as job:
        variable = launcher.VISIBLE[kind]
        job.setenv(variable, "")
        job.delenv(variable)
        launcher.claim(number, jobs)
        return launcher.os.environ.get(variable)


def test_jobs_side_by_side_take_different_accelerators(machine, monkeypatch):
    machine(4)
    assert [claimed(monkeypatch, number) for number in (1, 2, 1)] == ["0", "1,2", "3"]


def test_a_job_waits_until_enough_are_free_and_holds_none_meanwhile(machine, monkeypatch):
    machine(2)
    assert claimed(monkeypatch, 1) == "0"

    def end_the_first_job(_seconds):
        assert claimed(monkeypatch, 1) == "1"  # the job that waits does not hold it
        while launcher._claimed:
            launcher._claimed.pop().close()

    monkeypatch.setattr(launcher.time, "sleep", end_the_first_job)
    assert claimed(monkeypatch, 2) == "0,1"


def test_jobs_that_may_share_accelerators_spread_over_them_and_then_wait(machine, monkeypatch):
    machine(2)
    assert [claimed(monkeypatch, number, jobs=3) for number in (1, 1, 2, 1)] == ["0", "1", "0,1", "0"]

    def end_the_second_job(_seconds):
        for lock in launcher._claimed[2:4]:  # its part of an accelerator, and its place there
            lock.close()
        del launcher._claimed[2:4]

    assert claimed(monkeypatch, 1, jobs=3) == "1"  # all six places are taken
    monkeypatch.setattr(launcher.time, "sleep", end_the_second_job)
    assert claimed(monkeypatch, 1, jobs=3) == "1"


@pytest.mark.parametrize(("first", "second"), [(3, 1), (1, 3)])
def test_a_job_that_shares_none_has_an_accelerator_to_itself(machine, monkeypatch, first, second):
    machine(2)
    assert [claimed(monkeypatch, 1, jobs=jobs) for jobs in (first, second)] == ["0", "1"]


def test_a_job_keeps_to_the_accelerators_that_it_was_given(machine, monkeypatch):
    machine(2, "npu")
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "5,7")
    launcher.claim(1)
    assert launcher.os.environ["ASCEND_RT_VISIBLE_DEVICES"] == "5"


def test_nothing_is_claimed_without_accelerators(machine, tmp_path):
    machine(0)
    launcher.claim(8)
    assert not list(tmp_path.iterdir())


def test_fewer_accelerators_than_processes_is_one_line(machine):
    machine(1)
    with pytest.raises(ParamsError, match=r"launch\.processes is 8, but of accelerators there are 1; state that"):
        launcher.claim(8)
    with pytest.raises(ParamsError, match=r"launch\.processes is 8"):
        launcher.launch(["distill"], 8)


def test_stages_that_run_a_model_use_accelerators():
    stages = ("distill", "rscot", "sft", "merge", "predict", "speed", "teacher", "curate", "report")
    assert [launcher.wanted(stage, 8) for stage in stages] == [8, 8, 8, 8, 8, 1, 0, 0, 0]


def test_the_first_cause_is_told_not_what_follows_from_it():
    codes = [1, -signal.SIGTERM, 2, -signal.SIGKILL]
    assert sorted(codes, key=launcher._order) == [2, -signal.SIGKILL, 1, -signal.SIGTERM]
    assert launcher._explain(0, 2, 2, "rscot: no") == (2, "rscot: no")
    assert launcher._explain(1, 2, 3, "") == (3, "process 2 of 2 ended with exit code 3")
