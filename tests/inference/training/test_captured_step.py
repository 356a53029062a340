"""Recorded steps are the steps: on a CPU with a recording that is interpreted, on a GPU with its own."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from whatwhere.checks import FieldError
from whatwhere.inference.training import CapturedStep, CaptureError, Trainer, TrainingConfig, make_optimizer
from whatwhere.inference.training import captured_step as module
from whatwhere.inference.training.captured_step import Recording

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Said(NamedTuple):
    size: Tensor


class Noisy(nn.Module):
    """A regression with random numbers, a parameter without a gradient, and a mean that runs along."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(3, 2), nn.Parameter(torch.ones(2))
        self.register_buffer("mean", torch.zeros(()))
        self.factor, self.offset = 1.0, 0.0

    def forward(self, x: Tensor) -> tuple[Tensor, Said]:
        y = self.factor * self.layer(x + torch.randn_like(x))
        self.mean.mul_(0.9).add_(0.1 * y.detach().mean())
        loss = (y - self.mean).square().mean() + self.offset
        return loss, Said(y.detach().abs().mean())


class Interpreted(CapturedStep):
    """Records what Python has decided, and interprets it."""

    recorded = 0

    def _record(self) -> Recording:
        self.recorded += 1
        loss, said = self._step(self._inputs)
        gradients, factor = self._gradients(), getattr(self.objective, "factor", None)

        def replay() -> None:
            now, self.objective.factor = self.objective.factor, factor
            (new, new_said), found = self._step(self._inputs), self._gradients()
            self.objective.factor = now
            for old, each in zip((loss, *said, *gradients), (new, *new_said, *found), strict=True):
                if old is not None:
                    old.copy_(each)

        return Recording(replay, loss, said, gradients)

    @contextmanager
    def _beside(self) -> Iterator[None]:
        yield

    _on_device = _beside


def seeded(step: int) -> Callable[[], Any]:
    return partial(torch.manual_seed, step)


def take(objective: nn.Module, captured: CapturedStep | None, step: int, x: Tensor) -> list[Tensor | None]:
    """Loss, what was said, gradients and buffers of a step."""
    for parameter in objective.parameters():
        parameter.grad = None
    seeded(step)()
    if captured is None:
        loss, said = objective(x)
        loss.backward()
    else:
        loss, said = captured(seeded(step), x)
    gradients = [None if p.grad is None else p.grad.clone() for p in objective.parameters()]
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter += 0.01
    return [loss.detach(), said.size, *gradients, *(buffer.clone() for buffer in objective.buffers())]


def pair() -> tuple[Noisy, Noisy]:
    objectives = Noisy(), Noisy()
    objectives[1].load_state_dict(objectives[0].state_dict())
    return objectives


def test_recorded_steps_are_the_steps(monkeypatch: pytest.MonkeyPatch):
    """Shapes change, come again, and the recording is compared; every step is that of the objective."""
    monkeypatch.setattr(module, "_EVERY", 5)
    plain, recorded = pair()
    captured = Interpreted(recorded, list(recorded.parameters()))
    kept = []
    for step in range(24):
        x = torch.randn(4 if step < 12 or step > 17 else 6, 3)
        before = x.clone()
        expected, found = take(plain, None, step, x), take(recorded, captured, step, x)
        assert torch.equal(x, before)
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other)
        kept += [(value, value.item()) for value in found[:2]]
    assert captured.recorded == 3
    assert all(value.item() == said for value, said in kept)  # later replays leave them alone


def test_what_is_recorded_is_of_one_type():
    objective = Noisy()
    captured = Interpreted(objective, list(objective.parameters()))
    for step, dtype in enumerate([torch.float32] * 4 + [torch.float64] * 4):
        objective.to(dtype)
        assert take(objective, captured, step, torch.ones(4, 3, dtype=dtype))[0].dtype == dtype
    assert captured.recorded == 2


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_what_python_decides_later_is_noticed(offset: float, monkeypatch: pytest.MonkeyPatch):
    """However large the loss is beside its gradients."""
    monkeypatch.setattr(module, "_EVERY", 10)
    objective = Noisy()
    objective.offset = offset
    captured = Interpreted(objective, list(objective.parameters()))
    for step in range(9):
        objective.factor = 1.0 if step < 6 else 1.5
        take(objective, captured, step, torch.ones(4, 3))
    with pytest.raises(
        CaptureError, match=r"loss and gradients of its recording differ from its own by a share of \d"
    ):
        take(objective, captured, 9, torch.ones(4, 3))


def test_a_step_that_replaces_a_buffer_is_refused():
    class Replacing(Noisy):
        def forward(self, x: Tensor) -> tuple[Tensor, Said]:
            result = super().forward(x)
            self.mean = self.mean + 1
            return result

    objective = Replacing()
    captured = Interpreted(objective, list(objective.parameters()))
    for step in range(3):
        take(objective, captured, step, torch.ones(4, 3))
    with pytest.raises(CaptureError, match=r"in the place of buffer `mean`; train without `capture`"):
        take(objective, captured, 3, torch.ones(4, 3))


def test_it_is_for_a_gpu():
    objective = Noisy()
    optimizer = make_optimizer("adam", objective.parameters(), 1e-3)
    with pytest.raises(FieldError, match=r"`training\.capture` is for one GPU, not for cpu, got True"):
        Trainer(objective, optimizer, lambda step: (torch.ones(4, 3),), TrainingConfig(capture=True))


@pytest.mark.parametrize("spoil", ["loss", "gradient", "parameters", "nan"])
def test_a_recording_of_something_else_is_noticed(spoil: str):
    class Spoiled(Interpreted):
        def _record(self) -> Recording:
            replay, loss, said, gradients = super()._record()

            def spoiled() -> None:
                replay()
                if spoil == "loss":
                    loss.add_(0.05 * loss.abs())
                else:
                    gradients[1].add_(math.nan if spoil == "nan" else 0.05 * gradients[1].norm())

            if spoil == "parameters":
                return Recording(replay, loss, said, [gradients[0], None, *gradients[2:]])
            return Recording(spoiled, loss, said, gradients)

    objective = Noisy()
    captured = Spoiled(objective, list(objective.parameters()))
    for step in range(3):
        take(objective, captured, step, torch.ones(4, 3))
    with pytest.raises(CaptureError, match="of other parameters" if spoil == "parameters" else "differ from"):
        take(objective, captured, 3, torch.ones(4, 3))


def test_a_step_that_is_not_finite_is_recorded_too():
    """The trainer skips it, as it would without a recording."""
    objective = Noisy()
    captured = Interpreted(objective, list(objective.parameters()))
    for step in range(6):
        found = take(objective, captured, step, torch.full((4, 3), math.nan if step == 3 else 1.0))
        objective.mean.zero_()
        assert found[0].isfinite() == (step != 3)


def test_arguments_are_tensors():
    objective = Noisy()
    with pytest.raises(CaptureError, match="its arguments must be tensors or None, got Tensor, int"):
        Interpreted(objective, list(objective.parameters()))(seeded(0), torch.ones(4, 3), 2)


def test_the_trainer_takes_recorded_steps(monkeypatch: pytest.MonkeyPatch):
    """Clipping in place, an evaluation and a checkpoint between them; a reason is not taken for another."""
    trained = []
    for capture in (False, True):
        torch.manual_seed(0)
        objective = Noisy()
        optimizer = make_optimizer("adam", objective.parameters(), 1e-2)
        config = TrainingConfig(steps=12, clip_norm=0.1, evaluate_every=5, progress=False)

        def batches(step: int) -> tuple[Tensor]:
            return (torch.full((4, 3), 0.1 * step),)

        def evaluate(step: int, objective: Noisy = objective) -> dict[str, float]:
            return {"loss": objective(torch.ones(4, 3))[0].item()}

        trainer = Trainer(objective, optimizer, batches, config, evaluate=evaluate)
        if capture:
            trainer._captured = Interpreted(objective, trainer._parameters)
        trainer.run()
        trained.append(objective.state_dict())
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value)
    objective.layer = nn.Sequential(nn.Linear(3, 2), Impossible())
    trainer = Trainer(objective, make_optimizer("adam", objective.parameters(), 1e-2), batches, config)

    def refuse(*_: Any) -> None:
        raise CaptureError("not so")

    monkeypatch.setattr(trainer, "_captured", refuse)
    with pytest.raises(CaptureError, match="not so"):
        trainer.run()


class Impossible(nn.Module):
    """Logits of which one is impossible."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], torch.full_like(x[:, 1:], -math.inf)], dim=1)


@needs_gpu
def test_a_gpu_trains_as_without_recordings():
    trained = []
    for capture in (False, True):
        torch.manual_seed(0)
        objective = Noisy().cuda()
        optimizer = make_optimizer("adam", objective.parameters(), 1e-2)

        def batches(step: int) -> tuple[Tensor]:
            return (torch.full((4 if step < 10 else 6, 3), 0.1 * step, device="cuda"),)

        config = TrainingConfig(steps=20, capture=capture, progress=False)
        Trainer(objective, optimizer, batches, config).run()
        trained.append([value.cpu() for value in objective.state_dict().values()])
    for one, other in zip(*trained, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
