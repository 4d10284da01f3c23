"""The loop on a task of two numbers: its schedule, its record, and resuming to the byte."""

import csv
import errno
import shutil
import subprocess
import threading
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch import nn

from fcotvl.core.config import OptimParams
from fcotvl.core.errors import ParamsError
from fcotvl.inference.sharing import join
from fcotvl.train import loop
from fcotvl.train.loop import train

OPTIM = OptimParams(steps=9, batch_size=4, lr=0.05, warmup=0.2, weight_decay=0.01, workers=0)


class Line(nn.Module):
    """Fits y = 3 x; noise from torch's generator stands for dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(1, 1)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, batch):
        x = batch.x + batch.noise * torch.randn_like(batch.x)
        return {"loss": (self.line(x) - 3 * x).square().sum(1), "weight": torch.ones(len(x))}


class Points:
    def __init__(self, x, noise=0.01):
        self.x, self.noise = x, noise

    def to(self, device):
        return Points(self.x.to(device), self.noise)

    def select(self, items):
        return Points(self.x[items], self.noise)

    def micro_batches(self, max_tokens, count=1):
        size = min(max_tokens, -(-len(self.x) // count))
        return [list(range(start, min(start + size, len(self.x)))) for start in range(0, len(self.x), size)]


class Task:
    name = "line"

    def __init__(self, stop_at=None):
        self.objective = Line()
        self.stop_at = stop_at
        self.seen = []

    def horizon(self, step):
        return -(-step // 2) * 2

    def sample_items(self, steps, log):
        assert len(log) == steps.start - 1
        return [[0.5 * i + 0.01 * step for i in range(4)] for step in steps]

    def collate(self, items):
        if round(100 * items[0]) == self.stop_at:
            raise KeyboardInterrupt
        return Points(torch.tensor(items)[:, None])

    def record(self, step, items, sums, lr):
        assert len(sums["loss"]) == len(items)
        return [{"step": step, "loss": sum(sums["loss"]) / sum(sums["weight"]), "lr": lr}]

    def on_step_end(self, step):
        self.seen.append(step)


def state(task):
    return {name: value.tolist() for name, value in task.objective.state_dict().items()}


def test_the_loss_goes_down_and_only_what_may_learn_does(tmp_path):
    task = Task()
    log = train(task, OPTIM, seed=0, folder=tmp_path)
    assert log[-1]["loss"] < log[0]["loss"]
    assert task.objective.frozen.item() == 1
    assert task.seen == list(range(1, 10))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stop_at", [1, 2, 6, 9])
def test_a_run_that_was_stopped_ends_like_one_that_was_not(tmp_path, stop_at, optimizer, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    whole, optim = Task(), OPTIM.model_copy(update={"optimizer": optimizer})
    log = train(whole, optim, seed=3, folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(Task(stop_at), optim, seed=3, folder=tmp_path / "parts")
    rest = Task()
    assert train(rest, optim, seed=3, folder=tmp_path / "parts") == log
    assert state(rest) == state(whole)
    assert rest.seen == list(range(stop_at, 10))


def test_the_seed_matters(tmp_path):
    one, other = Task(), Task()
    train(one, OPTIM, seed=0, folder=tmp_path / "one")
    train(other, OPTIM, seed=1, folder=tmp_path / "other")
    assert state(one) != state(other)


def rates_of(optim, folder):
    return [row["lr"] for row in train(Task(), optim, seed=0, folder=folder)]


def test_the_learning_rate_rises_and_falls(tmp_path):
    rates = rates_of(OPTIM, tmp_path)
    assert rates[0] == pytest.approx(0.025)
    assert max(rates) == rates[1] == pytest.approx(0.05)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 0 < rates[-1] < 0.005


def test_a_constant_rate_rises_and_stays(tmp_path):
    rates = rates_of(OPTIM.model_copy(update={"schedule": "constant"}), tmp_path)
    assert rates == pytest.approx([0.025] + [0.05] * 8)


def test_without_warm_up_the_first_step_counts(tmp_path):
    plain = OPTIM.model_copy(update={"warmup": 0.0})
    assert rates_of(plain, tmp_path)[0] > 0.04


def test_an_objective_that_cannot_learn_is_an_error(tmp_path):
    task = Task()
    task.objective.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        train(task, OPTIM, seed=0, folder=tmp_path)


def test_processes_that_do_not_find_each_other_are_an_error(tmp_path, monkeypatch):
    """As with `accelerate launch --cpu --num_processes 2`, which runs two single processes."""
    PartialState()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ParamsError, match="1 processes work together, but WORLD_SIZE is 2"):
        train(Task(), OPTIM, seed=0, folder=tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_with_one_line(tmp_path):
    with pytest.raises(ParamsError, match=r"^line: the loss of step \d is (nan|inf); lower lr \(1e\+30\)"):
        train(Task(), OPTIM.model_copy(update={"lr": 1e30, "warmup": 0.0}), seed=0, folder=tmp_path)


def test_weights_that_are_not_finite_are_not_returned(tmp_path):
    class Overflowing(Task):
        def on_step_end(self, step):
            self.objective.line.weight.data.fill_(torch.inf)

    with pytest.raises(ParamsError, match="weights are not finite after step 1"):
        train(Overflowing(), OPTIM.model_copy(update={"steps": 1}), seed=0, folder=tmp_path)


def test_the_log_tells_the_loss(tmp_path, caplog):
    with caplog.at_level("INFO", logger="fcotvl"):
        train(Task(), OPTIM, seed=0, folder=tmp_path)
    lines = [record.message for record in caplog.records]
    assert [line.partition(",")[0] for line in lines] == ["line: step 1 of 9", "line: step 9 of 9"]
    assert all("loss" in line and "lr" in line for line in lines)


@pytest.mark.parametrize("save_seconds", [0.0, 1e9])  # goes on after step 5, begins anew
def test_a_curve_has_every_step_once_while_it_runs_and_after_a_stop(tmp_path, save_seconds, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", save_seconds)
    monkeypatch.chdir(tmp_path)
    live, curve = tmp_path / "live", tmp_path / "live/plots/metrics/loss.tsv"

    def points():
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(curve.open(), delimiter="\t")]

    class Watched(Task):
        def on_step_end(self, step):
            assert [number for number, _ in points()] == list(range(1, step + 1))

    with pytest.raises(KeyboardInterrupt):
        train(Watched(6), OPTIM, seed=0, folder=tmp_path / "state", live=live)
    log = train(Watched(), OPTIM, seed=0, folder=tmp_path / "state", live=live)
    assert points() == [(row["step"], row["loss"]) for row in log]
    assert train(Task(), OPTIM, seed=0, folder=tmp_path / "whole") == log  # and changes nothing


@pytest.mark.parametrize("trouble", ["no commit", "no space"])
def test_a_curve_is_no_reason_not_to_train(tmp_path, trouble, monkeypatch, caplog):
    """Where dvclive cannot start, and where it cannot go on."""
    monkeypatch.chdir(tmp_path)
    live = tmp_path / "live"
    if trouble == "no commit":
        subprocess.run(["git", "init", "--quiet", tmp_path], check=True)

    class Disturbed(Task):
        def on_step_end(self, step):
            super().on_step_end(step)
            if step == 3 and trouble == "no space":
                shutil.rmtree(live)
                live.touch()  # a file, below which nothing can be written

    task = Disturbed()
    train(task, OPTIM, seed=0, folder=tmp_path / "state", live=live)
    assert task.seen == list(range(1, 10))
    assert sum("no live curve: " in line for line in caplog.messages) == 1


@pytest.mark.parametrize(("cost", "saves"), [(0.1, [2, 4, 6, 8]), (12.0, [2])])
def test_saves_come_the_rarer_the_longer_one_takes(tmp_path, monkeypatch, cost, saves):
    """A step takes 20 seconds, of which saves may take a fiftieth."""
    clock, saved = [0.0], []

    class Slow(Task):
        def on_step_end(self, step):
            clock[0] += 20

    def save(writer, trained, optimizer, step, log):
        saved.append(step)
        clock[0] += cost

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(loop.StateWriter, "save", save)
    train(Slow(), OPTIM, seed=0, folder=tmp_path)
    assert saved == saves


def test_training_goes_on_while_a_state_is_written(tmp_path, monkeypatch):
    """Every step takes a minute; the state of step 1 is written until step 5 ends."""
    clock, saved, written = [0.0], [], threading.Event()
    real = loop.StateWriter.save

    class Slow(Task):
        def on_step_end(self, step):
            clock[0] += 60
            if step == 5:
                written.set()
                writer[0].wait()

    def save(writer_, trained, optimizer, step, log):
        writer[:] = [writer_]
        saved.append(step)
        real(writer_, trained, optimizer, step, log)

    def slow_write(*arguments, **named):
        written.wait(60)
        save_file(*arguments, **named)

    writer: list[loop.StateWriter] = []
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(loop.StateWriter, "save", save)
    monkeypatch.setattr("fcotvl.train.state.save_file", slow_write)
    train(Slow(), OPTIM, seed=0, folder=tmp_path)
    assert saved[:2] == [1, 5]


def test_a_state_that_cannot_be_written_ends_the_run(tmp_path, monkeypatch):
    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "no space left")

    task = Task()
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr("fcotvl.train.state.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        train(task, OPTIM, seed=0, folder=tmp_path)
    assert task.seen[-1] <= 2


def test_one_kernel_learns_what_many_operations_do(tmp_path, monkeypatch):
    """AdamW's fused kernel, which a CPU has too."""
    expected = train(Task(), OPTIM, seed=0, folder=tmp_path / "many")
    calls, kernel = [], torch._fused_adamw_
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *args, **named: calls.append(1) or kernel(*args, **named))
    monkeypatch.setattr(loop, "FUSED", {"cpu"})
    for optimizer in ("adamw", "muon"):
        calls.clear()
        optim = OPTIM.model_copy(update={"optimizer": optimizer})
        log = train(Task(), optim, seed=0, folder=tmp_path / optimizer)
        assert len(calls) >= len(log)
        if optimizer == "adamw":
            assert [row["loss"] for row in log] == pytest.approx([row["loss"] for row in expected], rel=1e-5)


@pytest.mark.parametrize("start", [lambda: loop.make_accelerator("float32"), join])
def test_convolutions_keep_all_of_float32(start, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    start()
    assert not torch.backends.cudnn.allow_tf32
