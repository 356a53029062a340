import math

import numpy as np
import pytest
import torch
from torch import nn

from whatwhere.inference.training import make_optimizer, parameter_groups, rms_clip_norm
from whatwhere.inference.training.nonfinite import clip_gradients, gradient_norm
from whatwhere.inference.training.optimizers import RMSPropTF


def recurrence(start, gradients, rates, decay=0.9, momentum=0.9, eps=1e-10, centered=False):
    """TensorFlow's kernel, written with its own variables: ms, mg, mom."""
    var, ms, mg, mom = start.copy(), np.ones_like(start), np.zeros_like(start), np.zeros_like(start)
    for gradient, rate in zip(gradients, rates, strict=True):
        ms = ms + (gradient * gradient - ms) * (1 - decay)
        if centered:
            mg = mg + (gradient - mg) * (1 - decay)
        mom = momentum * mom + rate * gradient / np.sqrt(ms - mg * mg + eps)
        var = var - mom
    return var


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("with_flag", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rmsprop_follows_tensorflow_for_five_steps(centered, with_flag, dtype):
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=(3, 2)), rng.normal(size=4)]
    gradients = [[rng.normal(size=start.shape) * 3 for start in starts] for _ in range(5)]
    rates = [0.1, 0.1, 0.05, 0.05, 0.01]  # a change of the rate must not rescale the momentum
    parameters = [nn.Parameter(torch.tensor(start, dtype=dtype)) for start in starts]
    optimizer = RMSPropTF(parameters, centered=centered)
    if with_flag:
        optimizer.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    for step, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = torch.tensor(gradient, dtype=dtype)
        optimizer.step()
    for i, (parameter, start) in enumerate(zip(parameters, starts, strict=True)):
        expected = recurrence(start, [step[i] for step in gradients], rates, centered=centered)
        # The flag brings decay rates in float32.
        tolerance = 1e-12 if dtype == torch.float64 and not with_flag else 3e-6
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=tolerance, atol=tolerance)
        assert parameter.dtype == dtype


def test_first_steps_of_rmsprop_are_proportional_to_small_gradients():
    steps = []
    for gradient in (1e-4, 1e-3):
        parameter = nn.Parameter(torch.zeros(()))
        optimizer = RMSPropTF([parameter], lr=1.0)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        steps.append(-parameter.item())
    assert steps[1] / steps[0] == pytest.approx(10.0, rel=1e-4)
    assert steps[0] == pytest.approx(1e-4 / np.sqrt(0.9), rel=1e-4)


@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop_skips_a_step_by_a_flag_on_the_device(centered):
    def run(*gradients: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
        optimizer = RMSPropTF([parameter], lr=0.1, centered=centered)
        for gradient in gradients:
            parameter.grad = torch.tensor([gradient, 1.0])
            optimizer.found_inf = torch.tensor(float(not np.isfinite(gradient)))  # type: ignore[attr-defined]
            optimizer.step()
        return parameter.detach(), optimizer.state[parameter]

    skipped, skipped_state = run(float("inf"), 0.5, float("nan"), 0.25)
    taken, taken_state = run(0.5, 0.25)
    assert torch.equal(skipped, taken)
    assert all(torch.equal(skipped_state[name], value) for name, value in taken_state.items())


def test_rmsprop_leaves_parameters_without_gradient_and_calls_the_closure():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = RMSPropTF([used, unused], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = used.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 2.0
    assert torch.all(used < 1)
    assert torch.equal(unused, torch.ones(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "`lr`"),
        ({"decay": 1.0}, "`decay`"),
        ({"momentum": 1.5}, "`momentum`"),
        ({"eps": 0.0}, "`eps`"),
    ],
)
def test_rmsprop_validates_its_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        RMSPropTF([nn.Parameter(torch.ones(1))], **options)


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("rmsprop", RMSPropTF),
        ("sgd", torch.optim.SGD),
    ],
)
def test_factory_makes_optimizers_by_name(name, cls):
    module = nn.Linear(2, 2)
    optimizer = make_optimizer(name, module.parameters(), 0.25)
    assert type(optimizer) is cls
    assert optimizer.param_groups[0]["lr"] == 0.25
    if name.startswith("adam"):
        assert optimizer.param_groups[0]["fused"]
    grouped = make_optimizer(name, parameter_groups(module, 0.1, {"bias": 0.2}), 0.25)
    assert [group["lr"] for group in grouped.param_groups] == [0.1, 0.2]


def test_factory_passes_options_and_names_what_it_knows():
    optimizer = make_optimizer("rmsprop", [nn.Parameter(torch.ones(1))], 0.1, momentum=0.5, centered=True)
    assert optimizer.param_groups[0]["momentum"] == 0.5
    with pytest.raises(ValueError, match="adam, adamw, rmsprop, sgd, got 'lbfgs'"):
        make_optimizer("lbfgs", [nn.Parameter(torch.ones(1))], 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf])
def test_learning_rates_are_finite_and_not_negative(rate: float):
    module = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=f"`lr` must not be negative.*, got {rate}"):
        make_optimizer("adam", module.parameters(), rate)
    with pytest.raises(ValueError, match=f"`lr` must not be negative.*, got {rate}"):
        RMSPropTF(module.parameters(), rate)
    with pytest.raises(ValueError, match=f"`bias` must not be negative.*, got {rate}"):
        parameter_groups(module, 0.1, {"bias": rate})


def test_groups_hold_every_parameter_once():
    module = nn.ModuleDict(
        {"model": nn.Linear(2, 2), "baseline": nn.Linear(2, 1), "baseline2": nn.Linear(2, 1)}
    )
    main, baseline, bias = parameter_groups(module, 0.1, {"baseline": 0.2, "model.bias": 0.3})
    assert [group["name"] for group in (main, baseline, bias)] == ["main", "baseline", "model.bias"]
    assert [group["lr"] for group in (main, baseline, bias)] == [0.1, 0.2, 0.3]
    identities = [{id(p) for p in group["params"]} for group in (main, baseline, bias)]
    assert identities[1] == {id(p) for p in module["baseline"].parameters()}
    assert identities[2] == {id(module["model"].bias)}
    assert identities[0] == {id(p) for p in module.parameters()} - identities[1] - identities[2]


def test_groups_without_a_parameter_or_with_a_shared_one_are_refused():
    module = nn.ModuleDict({"model": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match="no parameter of `ModuleDict` is named 'guide'"):
        parameter_groups(module, 0.1, {"guide": 0.2})
    with pytest.raises(ValueError, match=r"`model\.bias` has several learning rates"):
        parameter_groups(module, 0.1, {"model": 0.2, "model.bias": 0.2})
    assert [group["name"] for group in parameter_groups(module, 0.1, {"model": 0.2})] == ["model"]


@pytest.mark.parametrize(("scale", "expected"), [(10.0, 0.3), (0.01, None)])
def test_a_root_mean_square_is_limited_by_a_norm(scale, expected):
    rng = np.random.default_rng(0)
    grads = [torch.tensor(scale * rng.normal(size=shape)) for shape in ((50, 3), (7,), (2, 2, 2))]
    before = [grad.clone() for grad in grads]
    limit = rms_clip_norm([torch.zeros_like(grad) for grad in grads], 0.3)
    clip_gradients(grads, gradient_norm(grads), limit)
    elements = np.concatenate([grad.numpy().ravel() for grad in grads])
    if expected is None:
        assert all(torch.equal(a, b) for a, b in zip(grads, before, strict=True))
    else:
        assert np.sqrt((elements**2).mean()) == pytest.approx(expected, rel=1e-6)
        ratios = np.concatenate([(a / b).numpy().ravel() for a, b in zip(grads, before, strict=True)])
        np.testing.assert_allclose(ratios, ratios[0])


def test_limits_of_nothing_are_refused():
    assert rms_clip_norm([torch.zeros(1_701_712)]) == pytest.approx(391.35, abs=0.01)
    with pytest.raises(ValueError, match="`limit` must be positive, got 0"):
        rms_clip_norm([torch.zeros(3)], 0.0)
    with pytest.raises(ValueError, match="`parameters` must be some, got none"):
        rms_clip_norm([], 0.3)
