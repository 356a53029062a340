import math

import pytest
import torch
from torch import nn

from whatwhere.inference.training import make_optimizer
from whatwhere.inference.training.nonfinite import (
    StepGuard,
    clip_gradients,
    gradient_norm,
    nonfinite_gradients,
    nonfinite_state,
)
from whatwhere.inference.training.optimizers import RMSPropTF

CPU = torch.device("cpu")


def test_norm_is_that_of_all_gradients_together():
    assert gradient_norm([torch.full((2, 2), 2.0), torch.tensor(3.0)]).item() == pytest.approx(5.0)
    assert math.isnan(gradient_norm([torch.ones(3), torch.tensor([1.0, math.nan])]).item())
    assert math.isinf(gradient_norm([torch.ones(3), torch.tensor([1.0, -math.inf])]).item())


@pytest.mark.parametrize("limit", [1.0, 10.0])
def test_clipping_keeps_the_direction(limit):
    grads = [torch.full((2, 2), 2.0), torch.tensor(3.0)]
    clip_gradients(grads, gradient_norm(grads), limit)
    factor = min(1.0, limit / 5.0)
    torch.testing.assert_close(grads, [torch.full((2, 2), 2.0 * factor), torch.tensor(3.0 * factor)])


def test_parameters_are_named_where_they_or_their_gradients_are_not_finite():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert nonfinite_state(module) == []
    assert nonfinite_gradients(module) == []
    with torch.no_grad():
        module[1].bias[0] = math.inf
    module[0].weight.grad = torch.full((2, 2), math.nan)
    assert nonfinite_state(module) == ["1.bias"]
    assert nonfinite_gradients(module) == ["0.weight"]


def test_finite_parameters_with_an_overflowing_sum_are_finite():
    module = nn.ParameterList([torch.full((4,), 3e38)])
    assert nonfinite_state(module) == []


def test_infinities_of_both_signs_are_found():
    module = nn.ParameterList([torch.tensor([math.inf, -math.inf])])
    assert nonfinite_state(module) == ["0"]


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop"])
def test_guard_skips_as_if_the_step_had_not_been(name, on_device):
    def run(gradients: list[float]) -> tuple[torch.Tensor, dict[str, torch.Tensor], StepGuard]:
        parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
        optimizer = make_optimizer(name, [parameter], lr=0.1)
        guard = StepGuard(optimizer, CPU, on_device)
        for gradient in gradients:
            parameter.grad = torch.tensor([gradient, 1.0])
            guard.step(torch.tensor(float(not math.isfinite(gradient))))
        assert not hasattr(optimizer, "found_inf")
        return parameter.detach(), optimizer.state[parameter], guard

    nan = math.nan
    skipped, skipped_state, guard = run([nan, 0.5, nan, nan, 0.25, nan])
    taken, taken_state, _ = run([0.5, 0.25])
    assert torch.equal(skipped, taken)
    assert all(torch.equal(skipped_state[key], value) for key, value in taken_state.items())
    assert guard.read() == (2, 4)


def test_guard_counts_rows_across_reads_and_checkpoints():
    parameter = nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    guard = StepGuard(torch.optim.SGD([parameter], lr=0.1), CPU)
    bad, good = torch.tensor(1.0), torch.tensor(0.0)
    for flag in (bad, bad, bad, good, bad):
        guard.step(flag)
    assert guard.read() == (3, 4)
    guard.step(bad)
    assert guard.read() == (2, 5)
    other = StepGuard(torch.optim.SGD([parameter], lr=0.1), CPU)
    other.load(guard.state())
    other.step(bad)
    assert other.read() == (3, 6)
    other.step(good)
    assert other.read() == (3, 6)
    assert other.read() == (0, 6)


def test_flag_stays_on_the_device_only_for_optimizers_that_take_it():
    parameter = nn.Parameter(torch.ones(1))
    meta = torch.device("meta")
    takes = {
        "fused": torch.optim.Adam([parameter], fused=True),
        "unfused": torch.optim.Adam([parameter]),
        "rmsprop": RMSPropTF([parameter]),
        "sgd": torch.optim.SGD([parameter], lr=0.1, momentum=0.9, fused=True),
    }
    assert [name for name, optimizer in takes.items() if StepGuard(optimizer, meta).on_device] == [
        "fused",
        "rmsprop",
    ]
    assert not StepGuard(takes["fused"], CPU).on_device
