import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whatwhere.inference.training import (
    Annealed,
    CheckpointError,
    ExponentialDecay,
    FolderLockedError,
    NonFiniteError,
    PiecewiseConstant,
    Process,
    Trainer,
    TrainingConfig,
    load_checkpoint,
    make_optimizer,
    parameter_groups,
    read_log,
    save_checkpoint,
)
from whatwhere.inference.training.nonfinite import StepGuard
from whatwhere.inference.training.optimizers import RMSPropTF

TARGETS = torch.linspace(-1.0, 2.0, 24).reshape(12, 2)


class Distance(NamedTuple):
    bound: Tensor
    largest: Tensor


class Quadratic(nn.Module):
    """Half the mean squared distance of `weight` to the batch; its gradient is `weight - batch.mean()`."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.weight = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Tensor) -> tuple[Tensor, Distance]:
        loss = 0.5 * (self.model.weight - batch).square().mean()
        return loss, Distance(-loss.detach(), batch.max())


class Noisy(nn.Module):
    """A small network with dropout and sampled noise, so that random numbers matter."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.guide = nn.Linear(2, 1)
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters()):
                parameter.copy_(torch.sin(torch.arange(parameter.numel()) + float(i)).view_as(parameter))

    def forward(self, batch: Tensor) -> tuple[Tensor, Distance]:
        noise = torch.randn(batch.shape)
        error = self.model(batch + noise) - self.guide(batch)
        loss = error.square().mean()
        return loss, Distance(-loss, noise.max())


def batches(step: int) -> tuple[Tensor]:
    return (TARGETS[step % len(TARGETS)],)


def config(steps: int = 10, **options: Any) -> TrainingConfig:
    return TrainingConfig(**{"steps": steps, "log_every": 2, "progress": False, **options})


def sgd(module: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=lr)


def adam(module: nn.Module) -> torch.optim.Optimizer:
    return make_optimizer("adam", module.parameters(), lr=0.01)


def quadratic_descent(steps: int, rate: Callable[[int], float], skipped: tuple[int, ...] = ()) -> float:
    weight = 0.0
    for step in range(steps):
        if step not in skipped:
            weight -= rate(step) * (weight - float(TARGETS[step % len(TARGETS)].mean()))
    return weight


def without_seconds(path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in read_log(path)]


def test_steps_are_those_of_gradient_descent_with_the_schedule():
    objective = Quadratic()
    schedule = PiecewiseConstant((3, 7), (1.0, 0.5, 0.1))
    result = Trainer(objective, sgd(objective), batches, config(), schedule=schedule).run()
    expected = quadratic_descent(10, lambda step: 0.1 * schedule(step))
    assert result[:4] == (10, "completed", None, None)
    assert result.exit_code == 0
    assert objective.model.weight.item() == pytest.approx(expected, rel=1e-6)


def test_schedule_scales_the_rate_of_every_group_and_the_log_shows_them(tmp_path):
    objective = Noisy()
    groups = parameter_groups(objective, 0.1, {"guide": 0.4})
    optimizer = make_optimizer("sgd", groups, lr=0.1)
    Trainer(
        objective, optimizer, batches, config(3, log_every=1), folder=tmp_path, schedule=ExponentialDecay(0.5)
    ).run()
    lines = read_log(tmp_path / "log.jsonl")
    assert [line["learning_rate"] for line in lines] == pytest.approx([0.1, 0.05, 0.025])
    assert [line["learning_rate/guide"] for line in lines] == pytest.approx([0.4, 0.2, 0.1])


@pytest.mark.parametrize("limit", [0.01, 100.0])
def test_clipping_limits_the_length_of_a_step(limit):
    objective = Quadratic()
    Trainer(
        objective, sgd(objective), lambda step: (torch.tensor([3.0, 4.0]),), config(1, clip_norm=limit)
    ).run()
    assert objective.model.weight.item() == pytest.approx(0.1 * min(3.5, limit), rel=1e-3)


def test_hooks_come_before_each_step_and_can_anneal_a_buffer():
    class Annealing(Quadratic):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("target", torch.zeros(()))

        def forward(self, batch: Tensor) -> tuple[Tensor, Distance]:
            return super().forward(self.target)

    objective = Annealing()
    hook = Annealed(objective.target, lambda step: float(TARGETS[step].mean()))
    Trainer(objective, sgd(objective), batches, config(), on_step=[hook]).run()
    assert objective.model.weight.item() == pytest.approx(quadratic_descent(10, lambda _: 0.1), rel=1e-6)


def test_log_holds_means_of_diagnostics_over_the_interval(tmp_path):
    objective = Quadratic()
    Trainer(objective, sgd(objective), batches, config(5), folder=tmp_path).run()
    weights = [quadratic_descent(step, lambda _: 0.1) for step in range(5)]
    losses = [
        0.5 * float(np.mean((w - batch.numpy()) ** 2)) for w, batch in zip(weights, TARGETS, strict=False)
    ]
    norms = [abs(w - float(batch.mean())) for w, batch in zip(weights, TARGETS, strict=False)]
    lines = read_log(tmp_path / "log.jsonl", "train")
    assert [line["step"] for line in lines] == [2, 4]
    for index, line in enumerate(lines):
        both = slice(2 * index, 2 * index + 2)
        assert line["loss"] == pytest.approx(np.mean(losses[both]), rel=1e-5)
        assert line["bound"] == pytest.approx(-np.mean(losses[both]), rel=1e-5)
        assert line["gradient_norm"] == pytest.approx(np.mean(norms[both]), rel=1e-5)
        assert line["largest"] == pytest.approx(float(TARGETS[both].amax(1).mean()))
        assert line["skipped"] == 0


def evaluation(objective: nn.Module) -> Callable[[int], dict[str, float]]:
    def evaluate(step: int) -> dict[str, float]:
        assert not objective.training
        assert not torch.is_grad_enabled()
        return {"accuracy": float(torch.rand(())) + step}

    return evaluate


@pytest.mark.parametrize("make", [adam, lambda m: make_optimizer("rmsprop", m.parameters(), lr=1e-3)])
def test_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path, make):
    # The interruption is within an interval of the log and of the evaluations, and the caller's seeds differ.
    options = {"evaluate_every": 3, "clip_norm": 1.0}

    def train(name: str, steps: int, resume: bool) -> tuple[Noisy, torch.optim.Optimizer]:
        torch.manual_seed(len(name) + steps)
        objective = Noisy()
        optimizer = make(objective)
        trainer = Trainer(
            objective,
            optimizer,
            batches,
            config(steps, **options),
            folder=tmp_path / name,
            evaluate=evaluation(objective),
            schedule=ExponentialDecay(0.9),
        )
        if resume:
            assert trainer.resume() == 5
        assert trainer.run().step == steps
        return objective, optimizer

    objective, optimizer = train("straight", 10, False)
    train("parts", 5, False)
    resumed, resumed_optimizer = train("parts", 10, True)
    for a, b in zip(objective.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    states = (optimizer.state_dict(), resumed_optimizer.state_dict())
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for index, state in states[0]["state"].items():
        assert all(torch.equal(value, states[1]["state"][index][name]) for name, value in state.items())
    lines = without_seconds(tmp_path / "straight/log.jsonl")
    assert lines == without_seconds(tmp_path / "parts/log.jsonl")
    assert [(line["step"], line["event"]) for line in lines if line["step"] > 5] == [
        (6, "train"),
        (6, "evaluation"),
        (8, "train"),
        (9, "evaluation"),
        (10, "train"),
    ]
    checkpoint = load_checkpoint(tmp_path / "parts/checkpoint.pt")
    assert checkpoint.metrics == {"accuracy": lines[-2]["accuracy"]}


def test_evaluation_disturbs_nothing():
    def train(**options: Any) -> Noisy:
        objective = Noisy()
        objective.guide.eval()
        evaluate = evaluation(objective)
        Trainer(objective, adam(objective), batches, config(**options), evaluate=evaluate).run()
        assert objective.model[1].training
        assert not objective.guide.training
        return objective

    for a, b in zip(train().parameters(), train(evaluate_every=1).parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("every", "expected"), [(3, [3, 6]), (7, [7]), (8, [7]), (None, [])])
def test_a_run_of_few_steps_is_evaluated_at_its_end(
    tmp_path: Path, every: int | None, expected: list[int]
) -> None:
    objective = Quadratic()
    asked: list[int] = []

    def evaluate(step: int) -> dict[str, float]:
        asked.append(step)
        return {"score": float(step)}

    options = config(7, evaluate_every=every)
    Trainer(objective, adam(objective), batches, options, folder=tmp_path, evaluate=evaluate).run()
    assert asked == expected
    assert load_checkpoint(tmp_path / "checkpoint.pt").metrics == (
        {"score": float(expected[-1])} if expected else {}
    )
    again = Trainer(objective, adam(objective), batches, options, folder=tmp_path, evaluate=evaluate)
    again.resume()
    again.run()
    assert asked == expected


def test_best_parameters_are_kept_across_a_resumption(tmp_path):
    quality = {1: 1.0, 2: 5.0, 3: math.nan, 4: 5.0, 5: 7.0}
    for steps, best in ((1, 1), (3, 2), (4, 2), (5, 5)):
        module = Quadratic()
        trainer = Trainer(
            module,
            sgd(module),
            batches,
            config(steps, evaluate_every=1),
            folder=tmp_path,
            evaluate=lambda step: {"quality": quality[step]},
            keep_best="quality",
        )
        if steps > 1:
            trainer.resume()
        trainer.run()
        saved = load_checkpoint(tmp_path / "best.pt")
        assert (saved.step, saved.metrics, saved.optimizer) == (best, {"quality": quality[best]}, None)
        if best == steps:
            assert torch.equal(saved.modules["model"]["weight"], module.model.weight)


def test_a_run_goes_on_where_there_is_one(tmp_path):
    module = Quadratic()
    first = Trainer(module, sgd(module), batches, config(3), folder=tmp_path)
    assert not first.resume_existing()
    first.run()
    again = Trainer(module, sgd(module), batches, config(3), folder=tmp_path)
    assert again.resume_existing()
    assert again.step == 3
    assert not Trainer(module, sgd(module), batches, config(3)).resume_existing()


def test_best_of_an_unknown_number_is_refused(tmp_path):
    module = Quadratic()
    options = {"evaluate": lambda step: {"quality": 1.0}, "keep_best": "iou"}
    with pytest.raises(ValueError, match=r"keep_best.*quality.*iou"):
        Trainer(module, sgd(module), batches, config(evaluate_every=1), **options).run()


def test_seed_decides_and_the_callers_random_state_is_kept():
    def train(seed: int) -> Tensor:
        objective = Noisy()
        before = torch.get_rng_state()
        Trainer(objective, adam(objective), batches, config(seed=seed)).run()
        assert torch.equal(before, torch.get_rng_state())
        return objective.guide.weight.detach()

    first = train(1)
    torch.rand(3)
    assert torch.equal(first, train(1))
    assert not torch.equal(first, train(2))


def test_processes_draw_different_random_numbers():
    def train(rank: int) -> Tensor:
        objective = Noisy()
        process = Process(torch.device("cpu"), rank, world_size=1)
        Trainer(objective, sgd(objective), batches, config(1), process=process).run()
        return objective.guide.weight.detach()

    assert not torch.equal(train(0), train(1))


def test_every_step_has_its_own_random_numbers(tmp_path):
    class Draw(Quadratic):
        def forward(self, batch: Tensor) -> tuple[Tensor, Distance]:
            loss, _ = super().forward(batch)
            return loss, Distance(torch.rand(()), torch.rand(()))

    objective = Draw()
    Trainer(objective, sgd(objective), batches, config(8, log_every=1), folder=tmp_path).run()
    assert len({line["bound"] for line in read_log(tmp_path / "log.jsonl")}) == 8


def bad_batches(*bad: int) -> Callable[[int], tuple[Tensor]]:
    return lambda step: (batches(step)[0] * (float("nan") if step in bad else 1.0),)


@pytest.mark.parametrize("on_device", [False, True])
def test_nonfinite_steps_are_skipped_and_counted(tmp_path, on_device):
    objective = Quadratic()
    optimizer = RMSPropTF(objective.parameters(), lr=0.1, momentum=0.0)
    trainer = Trainer(
        objective, optimizer, bad_batches(2, 3, 5), config(max_nonfinite_steps=3), folder=tmp_path
    )
    trainer._guard = StepGuard(optimizer, torch.device("cpu"), on_device)
    trainer.run()
    weight, square = 0.0, 1.0
    for step in (0, 1, 4, 6, 7, 8, 9):
        gradient = weight - float(TARGETS[step].mean())
        square = 0.9 * square + 0.1 * gradient**2
        weight -= 0.1 * gradient / (square + 1e-10) ** 0.5
    assert objective.model.weight.item() == pytest.approx(weight, rel=1e-5)
    lines = read_log(tmp_path / "log.jsonl")
    assert [line["skipped"] for line in lines] == [0, 2, 3, 3, 3]
    assert lines[1]["loss"] is None  # both steps were skipped
    assert lines[2]["largest"] == pytest.approx(float(TARGETS[4].max()))


def test_infinite_gradient_of_a_finite_loss_is_skipped():
    class Root(Quadratic):
        def forward(self, batch: Tensor) -> tuple[Tensor, Distance]:
            loss = self.model.weight.sqrt()  # 0 at 0, where its derivative is infinite
            return loss, Distance(loss, loss)

    objective = Root()
    Trainer(objective, adam(objective), batches, config(2)).run()
    assert objective.model.weight.item() == 0.0


@pytest.mark.parametrize("on_device", [False, True])
def test_nonfinite_steps_in_a_row_end_the_run_and_name_the_last_good_checkpoint(tmp_path, on_device):
    objective = Quadratic()
    optimizer = adam(objective)
    trainer = Trainer(
        objective,
        optimizer,
        bad_batches(1, 4, 5, 6),
        config(max_nonfinite_steps=3, checkpoint_every=2),
        folder=tmp_path,
    )
    trainer._guard = StepGuard(optimizer, torch.device("cpu"), on_device)
    with pytest.raises(NonFiniteError, match=r"3 steps in a row, up to step 7 .*`model.weight`") as error:
        trainer.run()
    assert f"`{tmp_path / 'checkpoint.pt'}`, after step 6" in str(error.value)
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert saved.step == 6
    assert torch.isfinite(saved.modules["model"]["weight"])


def test_steps_skipped_in_a_row_are_counted_across_a_resumption(tmp_path):
    def trainer(steps: int) -> Trainer:
        objective = Quadratic()
        return Trainer(
            objective,
            sgd(objective),
            bad_batches(3, 4, 5),
            config(steps, max_nonfinite_steps=3),
            folder=tmp_path,
        )

    trainer(5).run()
    resumed = trainer(10)
    resumed.resume()
    with pytest.raises(NonFiniteError, match="3 steps in a row, up to step 6"):
        resumed.run()


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
    class Steep(Quadratic):
        def forward(self, batch: Tensor) -> tuple[Tensor, Distance]:
            loss = self.model.weight * (1e18 if batch.isnan().any() else 1e-12)
            return loss, Distance(loss, loss)

    objective = Steep()
    trainer = Trainer(
        objective,
        sgd(objective, lr=1e22),
        bad_batches(3),
        config(checkpoint_every=1),
        folder=tmp_path,
    )
    with pytest.raises(NonFiniteError, match=r"not finite after step 4 \(`model.weight`\); .* after step 3"):
        trainer.run()
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 3


class _CountReads(TorchFunctionMode):
    names = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in self.names:
            self.reads.append(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_steps_between_two_log_lines_read_nothing_from_a_device(name):
    objective = Noisy()
    optimizer = make_optimizer(name, objective.parameters(), lr=0.01)
    trainer = Trainer(objective, optimizer, batches, config(3, log_every=100, clip_norm=1.0))
    # What the trainer does where the device is not the CPU.
    trainer._guard = StepGuard(optimizer, torch.device("cpu"), on_device=True)
    trainer._reads_every_step = False
    with _CountReads() as count:
        assert trainer.run().step == 3
        assert count.reads == []
        assert bool(torch.ones(()))  # what would have been seen
    assert count.reads == ["__bool__"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_finishes_the_step_and_writes_a_checkpoint(tmp_path, number, code):
    objective = Quadratic()
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]

    def interrupt(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), number)

    trainer = Trainer(objective, sgd(objective), batches, config(), folder=tmp_path, on_step=[interrupt])
    result = trainer.run()
    assert result[:4] == (4, "interrupted", number, tmp_path / "checkpoint.pt")
    assert result.exit_code == code
    assert (
        result.message == f"interrupted by {number.name} after step 4; checkpoint: {tmp_path}/checkpoint.pt"
    )
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 4
    assert handlers == [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]


def test_second_interrupt_does_not_wait():
    objective = Quadratic()

    def interrupt(step: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        Trainer(objective, sgd(objective), batches, config(), on_step=[interrupt]).run()


def test_time_budget_stops_with_a_checkpoint_and_the_run_can_go_on(tmp_path):
    def trainer(**options: Any) -> Trainer:
        objective = Quadratic()
        return Trainer(objective, sgd(objective), batches, config(**options), folder=tmp_path)

    result = trainer(max_minutes=1e-9).run()
    assert result[:3] == (1, "out of time", None)
    resumed = trainer()
    resumed.resume()
    assert resumed.run().reason == "completed"
    assert resumed.objective.model.weight.item() == pytest.approx(
        quadratic_descent(10, lambda _: 0.1), rel=1e-6
    )


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ({"checkpoint_every": 3}, [None, None, None, 3, 3, 3, 6]),
        ({"checkpoint_every": None}, [None] * 7),
        ({"checkpoint_every": None, "checkpoint_minutes": 1e-9}, [None, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_checkpoints_are_written_when_due_and_at_the_end(tmp_path, options, saved):
    seen: list[int | None] = []
    path = tmp_path / "checkpoint.pt"

    def look(step: int) -> None:
        seen.append(load_checkpoint(path).step if path.exists() else None)

    objective = Quadratic()
    Trainer(objective, sgd(objective), batches, config(7, **options), folder=tmp_path, on_step=[look]).run()
    assert seen == saved
    assert load_checkpoint(path).step == 7


def test_checkpoint_holds_submodules_by_name_or_an_objective_with_state_of_its_own(tmp_path):
    objective = Noisy()
    Trainer(objective, adam(objective), batches, config(1), folder=tmp_path / "parts").run()
    checkpoint = load_checkpoint(tmp_path / "parts/checkpoint.pt")
    assert set(checkpoint.modules) == {"model", "guide"}
    guide = nn.Linear(2, 1)
    checkpoint.restore_modules({"guide": guide}, subset=True)
    assert torch.equal(guide.weight, objective.guide.weight)

    objective.register_buffer("own", torch.ones(()))
    Trainer(objective, adam(objective), batches, config(1), folder=tmp_path / "whole").run()
    assert set(load_checkpoint(tmp_path / "whole/checkpoint.pt").modules) == {"objective"}


def test_existing_run_is_not_overwritten(tmp_path):
    def trainer() -> Trainer:
        objective = Quadratic()
        return Trainer(objective, sgd(objective), batches, config(1), folder=tmp_path)

    trainer().run()
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="earlier run; go on with it"):
        trainer().run()
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_resuming_refuses_another_experiment_but_not_another_way_to_run_it(tmp_path):
    def trainer(**options: Any) -> Trainer:
        objective = Quadratic()
        return Trainer(objective, sgd(objective), batches, config(1, **options), folder=tmp_path)

    trainer().run()
    assert trainer(log_every=7, max_minutes=5.0).resume() == 1
    with pytest.raises(
        CheckpointError, match=r"`seed` was 0 and is now 3; `clip_norm` was None and is now 1\.0"
    ):
        trainer(seed=3, clip_norm=1.0, log_every=7).resume()


def test_logged_time_includes_that_before_the_resumption(tmp_path):
    def trainer(steps: int) -> Trainer:
        objective = Quadratic()
        return Trainer(objective, sgd(objective), batches, config(steps), folder=tmp_path)

    trainer(2).run()
    first = load_checkpoint(tmp_path / "checkpoint.pt")
    assert 0 < first.progress["seconds"] < 60
    progress = {**first.progress, "seconds": 1000.0}
    save_checkpoint(tmp_path / "checkpoint.pt", dataclasses.replace(first, progress=progress))
    resumed = trainer(4)
    resumed.resume()
    resumed.run()
    save_checkpoint(tmp_path / "bare.pt", dataclasses.replace(first, progress={}))
    with pytest.raises(CheckpointError, match="holds no state of a trainer"):
        trainer(4).resume(tmp_path / "bare.pt")
    assert 1000.0 < read_log(tmp_path / "log.jsonl")[-1]["seconds"] < 1060.0


def test_trainer_can_start_from_another_runs_checkpoint(tmp_path):
    objective = Quadratic()
    Trainer(objective, sgd(objective), batches, config(4), folder=tmp_path / "a").run()
    objective = Quadratic()
    trainer = Trainer(objective, sgd(objective), batches, config(10), folder=tmp_path / "b")
    trainer.resume(tmp_path / "a/checkpoint.pt")
    trainer.run()
    assert objective.model.weight.item() == pytest.approx(quadratic_descent(10, lambda _: 0.1), rel=1e-6)
    assert load_checkpoint(tmp_path / "a/checkpoint.pt").step == 4


def test_tensorboard_has_the_same_curves(tmp_path):
    pytest.importorskip("tensorboard")
    objective = Quadratic()
    Trainer(objective, sgd(objective), batches, config(4, tensorboard=True), folder=tmp_path).run()
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_progress_bar_shows_the_bound_and_the_metrics(capsys):
    objective = Quadratic()
    Trainer(
        objective,
        sgd(objective),
        bad_batches(1),
        config(progress=True, evaluate_every=2),
        evaluate=lambda step: {"accuracy": 0.25},
    ).run()
    shown = capsys.readouterr().err
    assert "10/10" in shown
    assert "accuracy=0.25" in shown
    assert "bound=" in shown
    assert "skipped=1" in shown


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda w: (w.expand(2), Distance(w, w)), r"scalar tensor, the loss, got shape \(2,\)"),
        (lambda w: (1.0, Distance(w, w)), "the loss, got float"),
        (lambda w: (w * 1, {"bound": w}), "must be a NamedTuple, got dict"),
        (lambda w: (w * 1, Distance(w, w.expand(2))), r"\['largest'\] must be scalar"),
    ],
)
def test_objective_of_another_form_is_refused(result, message):
    class Wrong(Quadratic):
        def forward(self, batch: Tensor) -> Any:
            return result(self.model.weight)

    objective = Wrong()
    with pytest.raises(ValueError, match=message):
        Trainer(objective, sgd(objective), batches, config()).run()


def test_optimizer_of_other_parameters_is_refused():
    objective = Quadratic()
    with pytest.raises(ValueError, match="no parameter of `optimizer` has a gradient"):
        Trainer(objective, sgd(Quadratic()), batches, config()).run()


class Clock:
    """Seconds by both clocks; every batch takes some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wall: float, cpu: float) -> None:
        self.rates = wall, cpu
        self.steps = 0
        monkeypatch.setattr(time, "monotonic", lambda: 1000 + self.steps * wall)
        monkeypatch.setattr(time, "process_time", lambda: 50 + self.steps * cpu)

    def batches(self, step: int) -> tuple[Tensor]:
        self.steps += 1
        return batches(step)


@pytest.mark.parametrize(("clock", "steps"), [("wall", 6), ("cpu", 30)])
def test_a_run_of_a_given_time_takes_the_steps_it_has_time_for(clock, steps, monkeypatch):
    time_passes = Clock(monkeypatch, wall=10.0, cpu=2.0)
    objective = Quadratic()
    seen: list[int] = []
    trainer = Trainer(
        objective,
        sgd(objective),
        time_passes.batches,
        config(600, minutes=1.0, clock=clock),
        schedule=PiecewiseConstant((300,), (1.0, 0.5)),
        on_step=[seen.append],
    )
    rates: list[float] = []
    trainer.optimizer.register_step_post_hook(
        lambda *_: rates.append(trainer.optimizer.param_groups[0]["lr"])
    )
    result = trainer.run()
    assert result[:2] == (steps, "completed")
    # The share of the time, not the steps.
    assert seen == pytest.approx([600 / steps * step for step in range(steps)], abs=1.0)
    assert rates == pytest.approx([0.1] * (steps // 2) + [0.05] * (steps // 2))
    assert trainer.position == seen[-1]
    assert trainer.run().step == steps


def test_a_given_time_includes_that_before_the_resumption(tmp_path, monkeypatch):
    time_passes = Clock(monkeypatch, wall=10.0, cpu=1.0)

    def trainer(**options: Any) -> Trainer:
        objective = Quadratic()
        trainer = Trainer(
            objective, sgd(objective), time_passes.batches, config(60, **options), folder=tmp_path
        )
        trainer.resume_existing()
        return trainer

    assert trainer(minutes=1.0, max_minutes=0.5).run()[:2] == (3, "out of time")
    assert trainer(minutes=1.0).run()[:2] == (6, "completed")
    assert trainer(minutes=1.0).run()[:2] == (6, "completed")
    longer = trainer(minutes=2.0, clock="cpu")
    assert longer.run()[:2] == (120, "completed")
    assert time_passes.steps == 120


def test_a_run_without_a_time_goes_by_the_step():
    objective = Quadratic()
    seen: list[int] = []
    trainer = Trainer(objective, sgd(objective), batches, config(4), on_step=[seen.append])
    assert trainer.run().step == 4
    assert (seen, trainer.position) == ([0, 1, 2, 3], 3)


def test_several_processes_are_given_no_time():
    objective = Quadratic()
    process = Process(torch.device("cpu"), rank=0, world_size=2)
    with pytest.raises(ValueError, match="`minutes` are for one process"):
        Trainer(objective, sgd(objective), batches, config(minutes=1.0), process=process)


@pytest.mark.parametrize(
    "name",
    [
        *("steps", "minutes", "clip_norm", "max_nonfinite_steps", "log_every", "evaluate_every"),
        *("checkpoint_every", "checkpoint_minutes", "max_minutes"),
    ],
)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_what_must_be_positive(name: str, value: float):
    with pytest.raises(ValueError, match=f"`{name}` must be positive.*, got {value}"):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize("seed", [-1, 2**63, 2**70])
def test_seeds_that_no_generator_takes(seed: int):
    with pytest.raises(ValueError, match=f"`seed` must be at least 0 and less than .*, got {seed}"):
        TrainingConfig(seed=seed)


def test_a_run_keeps_its_folder_to_itself(tmp_path):
    objective = Quadratic()
    second = Trainer(Quadratic(), sgd(Quadratic()), batches, config(), folder=tmp_path)
    refusals = []

    def start_another(step: int) -> None:
        with pytest.raises(FolderLockedError) as caught:
            second.run()
        refusals.append(str(caught.value))

    first = Trainer(objective, sgd(objective), batches, config(2), folder=tmp_path, on_step=[start_another])
    with first.locked():
        first.run()
        start_another(2)  # the pictures of the first are still to come
    assert len(refusals) == 3
    assert not (tmp_path / ".lock").exists()
    with pytest.raises(CheckpointError, match=r"is the checkpoint of an earlier run.*`--overwrite`"):
        second.run()
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [2]


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_folder_that_is_taken_away_during_a_run_is_made_anew(tmp_path, how):
    folder = tmp_path / "run"

    def take_away(step: int) -> None:
        if step == 5:
            shutil.rmtree(folder) if how == "removed" else folder.rename(tmp_path / "elsewhere")

    objective = Quadratic()
    options: dict[str, Any] = {"folder": folder, "on_step": [take_away]}
    with pytest.warns(RuntimeWarning, match=r"log\.jsonl` was removed, renamed or replaced"):
        result = Trainer(objective, sgd(objective), batches, config(checkpoint_every=5), **options).run()
    assert result.reason == "completed"
    assert [line["step"] for line in read_log(folder / "log.jsonl")] == [2, 4, 6, 8, 10]
    assert load_checkpoint(folder / "checkpoint.pt").step == 10


def test_best_parameters_that_are_taken_away_are_reported(tmp_path):
    objective = Quadratic()

    def evaluate(step: int) -> dict[str, float]:
        (tmp_path / "best.pt").unlink(missing_ok=True)
        return {"score": -step}

    options: dict[str, Any] = {"folder": tmp_path, "evaluate": evaluate, "keep_best": "score"}
    trainer = Trainer(objective, sgd(objective), batches, config(4, evaluate_every=2), **options)
    with pytest.raises(FileNotFoundError, match=r"best\.pt` was removed: .* after step 4"):
        trainer.run()


class Refusing(nn.Module):
    """Its guide's parameters overflow after some steps, and a distribution refuses what comes of them."""

    def __init__(self, last: int, refuse: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1)
        self.calls, self.last, self.refuse = 0, last, refuse

    def forward(self, batch: Tensor) -> tuple[Tensor, Distance]:
        self.calls += 1
        output = self.model(batch[:1, None] * (1e30 * 1e30 if self.calls > self.last else 1.0))
        self.refuse(output)
        loss = output.square().mean()
        return loss, Distance(loss, loss)


@pytest.mark.parametrize(
    "refuse",
    [
        lambda output: torch.distributions.Normal(output * 0, 1.0, validate_args=True),
        lambda output: torch.bernoulli(output.detach() * 0 + 0.5),
    ],
)
def test_divergence_is_told_whatever_fails_first(tmp_path, refuse):
    objective = Refusing(7, refuse)
    trainer = Trainer(
        objective, sgd(objective, 0.0), batches, config(20, checkpoint_every=5), folder=tmp_path
    )
    with pytest.raises(NonFiniteError) as caught:
        trainer.run()
    message = str(caught.value)
    assert message.startswith("training has diverged at step 7: the output of `model` is not finite; ")
    assert f"the last good checkpoint is `{tmp_path}/checkpoint.pt`, after step 5" in message
    assert "\n" not in message


def test_an_error_of_another_cause_stays_as_it_is():
    def refuse(output: Tensor) -> None:
        raise ValueError("a fault of the program")

    objective = Refusing(10, refuse)
    with pytest.raises(ValueError, match="a fault of the program"):
        Trainer(objective, sgd(objective), batches, config()).run()


def test_divergence_in_an_evaluation_is_told():
    objective = Quadratic()

    def evaluate(step: int) -> dict[str, float]:
        return {"value": float(torch.bernoulli(torch.tensor(torch.nan)))}

    with pytest.raises(NonFiniteError, match=r"diverged at step 2: .*there is no checkpoint from before"):
        Trainer(objective, sgd(objective), batches, config(evaluate_every=2), evaluate=evaluate).run()


def test_a_buffer_that_is_not_a_number_stops_the_run_as_a_parameter_does(tmp_path):
    objective = Quadratic()
    objective.model.register_buffer("ratio", torch.tensor(math.nan))
    with pytest.raises(NonFiniteError, match=r"not finite after step 10 \(`model\.ratio`\)"):
        Trainer(objective, sgd(objective), batches, config(), folder=tmp_path).run()
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skipped": torch.zeros(2, dtype=torch.int64)}, "damaged state of a trainer"),
        ({"skipped": None}, "`progress.skipped` is None, not a dense Tensor"),
        ({"seconds": math.nan}, "damaged state of a trainer"),
        ({"means": {"names": ["loss"]}}, "damaged state of a trainer"),
        ({"means": {"names": ["loss"], "sums": torch.zeros(1)}}, "damaged state of a trainer"),
        ({"means": {"names": "loss", "sums": torch.zeros(5)}}, "`progress.means.names` is a str, not a list"),
        ({"best": "none"}, "`progress.best` is a str, not a float"),
    ],
)
def test_a_damaged_state_is_refused_before_anything_is_restored(tmp_path, changes, message):
    path = tmp_path / "checkpoint.pt"
    objective = Quadratic()
    Trainer(objective, sgd(objective), batches, config(), folder=tmp_path).run()
    saved = load_checkpoint(path)
    save_checkpoint(path, dataclasses.replace(saved, progress={**saved.progress, **changes}))
    fresh = Quadratic()
    trainer = Trainer(fresh, sgd(fresh), batches, config(), folder=tmp_path)
    with pytest.raises(CheckpointError, match=message):
        trainer.resume()
    assert fresh.model.weight.item() == Quadratic().model.weight.item()
    assert trainer.step == 0


@pytest.mark.parametrize(("progress", "lines"), [(None, 2), (False, 0)])
def test_without_a_terminal_there_is_a_line_for_each_evaluation(capsys, progress, lines):
    objective = Quadratic()
    options = config(evaluate_every=5, progress=progress)
    Trainer(objective, sgd(objective), batches, options, evaluate=lambda step: {"score": step / 10}).run()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == lines
    if lines:
        assert printed[1].startswith("step 10, ")
        assert printed[1].endswith(" s: score 1")


KILLED = textwrap.dedent(
    """
    import json, os, random, signal, sys, time, warnings
    from typing import NamedTuple
    import torch
    from whatwhere.inference.training import load_checkpoint
    from whatwhere.inference.training.run_log import read_log
    from whatwhere.inference.training import Trainer, TrainingConfig

    torch.set_num_threads(1)
    folder, steps = sys.argv[1], 45
    path = os.path.join(folder, "killed", "checkpoint.pt")

    class Diagnostics(NamedTuple):
        bound: torch.Tensor

    class Objective(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = torch.nn.Linear(300, 100)  # large enough for writing to take a while
            torch.nn.init.constant_(self.model.weight, 0.5)
            torch.nn.init.zeros_(self.model.bias)

        def forward(self):
            loss = self.model(torch.randn(4, 300)).square().mean()
            return loss, Diagnostics(loss.detach())

    def batches(step):
        time.sleep(0.01)  # or the run is over before it is killed
        return ()

    def train(name):
        objective = Objective()
        optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
        config = TrainingConfig(steps=steps, log_every=3, checkpoint_every=1, progress=False)
        trainer = Trainer(objective, optimizer, batches, config, folder=os.path.join(folder, name))
        if os.path.exists(os.path.join(folder, name, "checkpoint.pt")):
            trainer.resume()
        trainer.run()

    # A first step imports much; forked processes share it.
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    torch.optim.Adam([parameter]).step()

    rng, kills, seen = random.Random(0), 0, []
    while True:
        child = os.fork()
        if child == 0:
            train("killed")
            os._exit(0)
        time.sleep(rng.uniform(0.02, 0.2) * (1 + kills / 20))  # a busy disk takes longer for a step
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.path.exists(path):
            seen.append(load_checkpoint(path).step)  # raises where it is not whole
        if os.WIFEXITED(status) or seen and seen[-1] == steps:
            break
        kills += 1
    train("straight")
    a, b = (load_checkpoint(os.path.join(folder, name, "checkpoint.pt")) for name in ("killed", "straight"))
    logs = [read_log(os.path.join(folder, name, "log.jsonl")) for name in ("killed", "straight")]
    for line in logs[0] + logs[1]:
        del line["seconds"]
    print(json.dumps({
        "kills": kills,
        "seen": seen,
        "equal": all(torch.equal(a.modules["model"][k], b.modules["model"][k]) for k in a.modules["model"]),
        "logs": logs[0] == logs[1],
    }))
    """
)


def test_run_killed_again_and_again_ends_like_one_that_was_not(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kills"] >= 1, result
    assert result["seen"] == sorted(result["seen"])
    assert result["equal"]
    assert result["logs"]
