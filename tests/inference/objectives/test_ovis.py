"""OVIS against exact gradients by enumeration, and against its definition."""

import math

import pytest
import torch

from whatwhere.inference.objectives import OVIS, VIMCO, TooFewParticlesError


class Queue:
    """A guide that is run several times: each run is given the next values."""

    def __init__(self, guide, with_values, *values):
        self.runs = [with_values(guide, each) for each in values]

    def __call__(self, x):
        return self.runs.pop(0)(x)


@pytest.mark.parametrize("num_particles", [2, 3])
def test_expected_gradient_is_that_of_the_bound(toy, num_particles):
    torch.testing.assert_close(
        toy.expected_gradients(OVIS(num_particles)),
        toy.exact_gradients(num_particles),
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("num_particles", [2, 3])
def test_expected_gradient_with_continuous_variables(mixed_toy, num_particles):
    toy = mixed_toy(num_particles)
    expected = toy.expected_gradients(OVIS(num_particles))
    torch.testing.assert_close(expected, toy.exact_gradients("iwae"), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize("num_particles", [2, 3])
def test_bias_of_small_gamma_has_the_documented_value(toy, gamma, num_particles, gradients_of):
    log_q, log_prior, log_likelihood = toy.tables()
    log_w = (log_prior + log_likelihood - log_q).detach()
    missing = 0.0
    for probability, values in toy.enumerate(num_particles):
        index = (2 * values["z/0"] + values["z/1"]).long()
        weight = log_w.gather(0, index).softmax(0)
        missing = missing + (probability * (weight * log_q.gather(0, index)).sum(0)).sum()
    bias = gradients_of(missing, toy.parameters)
    assert bias[0].abs().min() > 1e-3
    expected = toy.expected_gradients(OVIS(num_particles, gamma=gamma))
    for got, exact, extra in zip(expected, toy.exact_gradients(num_particles), bias, strict=True):
        torch.testing.assert_close(got, exact + (1 - gamma) * extra, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("auxiliary", [[2], [1, 3, 3]])
def test_auxiliary_particles_leave_no_bias_whatever_they_are(toy, auxiliary, with_values, gradients_of):
    """For each of their values the expectation over the K particles is the gradient."""
    objective = OVIS(2, auxiliary_particles=len(auxiliary))
    bits = torch.tensor([toy.states[i] for i in auxiliary])[:, :, None].expand(-1, -1, 2)
    more = {"z/0": bits[:, 0], "z/1": bits[:, 1]}
    total = [torch.zeros_like(p) for p in toy.parameters]
    for probability, values in toy.enumerate(2):
        guide = Queue(toy.guide, with_values, values, more)
        loss, _ = objective.evaluate(toy.model, guide, toy.x)
        assert not guide.runs
        for sum_, gradient in zip(total, gradients_of(-loss, toy.parameters), strict=True):
            sum_ += probability * gradient
    torch.testing.assert_close(total, toy.exact_gradients(2), rtol=1e-9, atol=1e-9)


def test_signals_by_their_definition():
    log_weight, more = 3 * torch.randn(4, 3), 3 * torch.randn(2, 3)
    w, extra = log_weight.exp(), more.exp()
    bound, normalised = w.mean(0).log(), w / w.sum(0)
    for gamma in (0.0, 0.4, 1.0):
        got = OVIS(4, gamma=gamma)._signal(log_weight, None)
        for k in range(4):
            others = (w.sum(0) - w[k]) / 4
            prefactor = bound - others.log() - gamma * normalised[k] + (1 - gamma) * math.log(1 - 1 / 4)
            torch.testing.assert_close(got[k] - normalised[k], prefactor)
    got = OVIS(4, auxiliary_particles=2)._signal(log_weight, lambda number: more[:number])
    for k in range(4):
        total = extra + w.sum(0) - w[k]
        control = ((total / 4).log() - extra / total).mean(0)
        torch.testing.assert_close(got[k] - normalised[k], bound - normalised[k] - control)


def _variance(toy, objective):
    """Of the gradient in one parameter of the guide; every datum is a repetition."""
    loss, _ = objective.evaluate(toy.model, toy.guide, toy.x)
    (gradient,) = torch.autograd.grad(loss, [toy.guide.a])
    return gradient.var().item()


def test_variance_falls_far_below_that_of_vimco(toy):
    """Forty particles of a guide near the posterior: OVIS falls as 1/K^3, VIMCO as 1/K."""
    torch.manual_seed(0)
    toy = type(toy)(num_data=4000)
    toy.x = torch.full((4000,), 0.4)
    for parameter in toy.parameters:
        parameter.data.copy_(0.3 * torch.randn(*parameter.shape[:-1], 1).expand_as(parameter))
    vimco, asymptotic, monte_carlo = (
        _variance(toy, objective) for objective in (VIMCO(40), OVIS(40), OVIS(40, auxiliary_particles=4))
    )
    assert asymptotic < vimco / 10
    assert monte_carlo < vimco / 2


def test_auxiliary_particles_cost_no_backward_pass(toy):
    enabled = []

    def guide(x):
        enabled.append(torch.is_grad_enabled())
        toy.guide(x)

    OVIS(2, auxiliary_particles=1).evaluate(toy.model, guide, toy.x)
    assert enabled == [True, False]


def test_one_particle_is_refused():
    with pytest.raises(TooFewParticlesError, match=r"`OVIS` needs `num_particles` >= 2, got 1"):
        OVIS(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.5}, r"`gamma` must be in \[0, 1\], got 1.5"),
        ({"auxiliary_particles": -1}, "`auxiliary_particles` must be at least 0, got -1"),
        ({"continuous": "rebar"}, r"`continuous` must be one of .* got 'rebar'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OVIS(**options)
