import math

import torch

from whatwhere.inference.objectives.surrogates import log_mean_exp, pathwise, truncate, weighted


def test_log_mean_exp():
    log_weight = torch.randn(4, 3)
    torch.testing.assert_close(log_mean_exp(log_weight), log_weight.exp().mean(0).log())
    assert log_mean_exp(torch.full((7, 1), -4000.0)).item() == -4000.0


def test_derivative_of_the_surrogate_is_that_of_the_bound():
    log_weight = torch.randn(4, 3, requires_grad=True)
    (got,) = torch.autograd.grad(pathwise(log_weight, 1e-20).sum(), log_weight)
    (expected,) = torch.autograd.grad(log_mean_exp(log_weight).sum(), log_weight)
    torch.testing.assert_close(got, expected)


def test_truncation():
    signal = torch.tensor([1e-21, -1e-21, 1e-19, -1e-19, 0.0, 3.0, -math.inf])
    assert truncate(signal, 1e-20).tolist() == [0.0, 0.0, 1e-19, -1e-19, 0.0, 3.0, -math.inf]
    assert truncate(signal, 0.0) is signal


def test_hopeless_particles_get_exactly_no_gradient():
    log_weight = torch.tensor([[0.0], [-40.0], [-60.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(pathwise(log_weight, 1e-20).sum(), log_weight)
    assert (gradient.flatten() != 0).tolist() == [True, True, False]


def test_impossible_particles_are_left_out():
    log_weight = torch.tensor([[0.5], [-math.inf]], requires_grad=True)
    surrogate = pathwise(log_weight, 1e-20)
    (gradient,) = torch.autograd.grad(surrogate.sum(), log_weight)
    assert gradient.tolist() == [[1.0], [0.0]]
    assert torch.isfinite(surrogate).all()


def test_weighted_sum():
    weight, term = torch.tensor([[2.0, 0.0], [0.5, -1.0]]), torch.tensor([[3.0, math.inf], [4.0, 5.0]])
    assert weighted(weight, term).tolist() == [8.0, -5.0]
