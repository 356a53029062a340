"""A learned prior of appearances against the change of variables, and in the statements of a model."""

import math

import pyro
import pyro.poutine as poutine
import pytest
import torch
from torch import Tensor

from whatwhere.models import ChainDiscovery
from whatwhere.models.components.networks import LocScale
from whatwhere.models.priors import (
    FixedCountPrior,
    FixedWherePrior,
    Flow,
    FlowPrior,
    GeometricCount,
    present_or_standard,
)


def wild(size: int = 5, layers: int = 3) -> FlowPrior:
    torch.manual_seed(0)
    prior = FlowPrior(size, layers, hidden=4).double()
    for parameter in prior.parameters():
        parameter.data += 0.4 * torch.randn_like(parameter)
    return prior


def test_it_starts_as_a_standard_normal():
    prior, value = FlowPrior(7), torch.randn(3, 4, 7)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(value).sum(-1)
    torch.testing.assert_close(prior.log_prob(value), expected)
    assert torch.equal(prior.shape(value), value)


@pytest.mark.parametrize("size", [2, 5, 6])
def test_the_density_is_that_of_the_change_of_variables(size):
    prior = wild(size)
    for noise in torch.randn(4, size).double():
        jacobian = torch.autograd.functional.jacobian(prior.shape, noise)
        assert isinstance(jacobian, Tensor)
        normal = -0.5 * (noise.square().sum() + size * math.log(2 * math.pi))
        expected = normal - torch.linalg.slogdet(jacobian).logabsdet
        value = prior.shape(noise)
        torch.testing.assert_close(prior.log_prob(value), expected)
        torch.testing.assert_close(prior.noise(value)[0], noise)


def test_layers_change_the_halves_in_turns():
    """After one the second half depends on the first; after two the first on everything."""
    jacobian = torch.autograd.functional.jacobian(wild(5, 2).shape, torch.randn(5).double())
    assert isinstance(jacobian, Tensor)
    assert (jacobian[:2] != 0).all()
    assert torch.equal(jacobian[2:, 2:] != 0, torch.eye(3, dtype=torch.bool))
    assert (jacobian[2:, :2] != 0).all()


def test_it_integrates_to_one():
    prior = wild(2, 4)
    line = torch.linspace(-30, 30, 1201).double()
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1)
    total = prior.log_prob(grid).exp().sum() * (line[1] - line[0]) ** 2
    assert total.item() == pytest.approx(1, abs=1e-3)


def test_draws_have_its_density():
    """The mean of a function over draws is its integral under the density."""
    prior = wild(2, 4)
    torch.manual_seed(1)
    draws = Flow(prior, torch.Size([3])).sample(torch.Size([20_000]))
    assert draws.shape == (20_000, 3, 2)
    line = torch.linspace(-30, 30, 1201).double()
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1)
    weights = prior.log_prob(grid).exp() * (line[1] - line[0]) ** 2
    for of in (torch.tanh, torch.sin):
        expected = (weights.unsqueeze(-1) * of(grid)).sum((0, 1))
        torch.testing.assert_close(of(draws).mean((0, 1)), expected, atol=0.02, rtol=0)


def test_divergence_is_the_kl_on_average_and_exact_from_a_normal():
    prior, look = wild(2), LocScale(torch.tensor([0.3, -0.8]).double(), torch.tensor([0.2, 0.5]).double())
    q = torch.distributions.Normal(*look)
    line = torch.linspace(-6, 6, 1201).double()
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1)
    log_q = q.log_prob(grid).sum(-1)
    expected = (log_q.exp() * (log_q - prior.log_prob(grid))).sum() * (line[1] - line[0]) ** 2
    torch.manual_seed(2)
    estimate = prior.divergence(look, q.sample(torch.Size([40_000])))
    assert estimate.mean().item() == pytest.approx(expected.item(), abs=0.02)


def test_statements_of_new_objects_have_it_where_there_is_one():
    prior = wild(3)
    counts = FixedCountPrior(GeometricCount(2, 0.5))
    discovery = ChainDiscovery(counts, FixedWherePrior((0.0, 0.0), 1.0, 1.0), what_prior=prior).double()
    given = {
        "discovery/z_pres/0/0": torch.tensor([1.0, 1.0, 0.0]).double(),
        "discovery/z_pres/0/1": torch.tensor([1.0, 0.0, 0.0]).double(),
    }
    summary, ones = torch.zeros(3, 1).double(), torch.ones(3, 1).double()
    with pyro.plate("data", 3, dim=-1), poutine.trace() as tracer, poutine.condition(data=given):
        slots = discovery(0, summary, 0 * ones, 2 * ones[:, 0], True)
    tracer.trace.compute_log_prob()
    for j, present in enumerate(given.values()):
        site = tracer.trace.nodes[f"discovery/z_what/0/{j}"]
        torch.testing.assert_close(site["log_prob"], present * prior.log_prob(site["value"]))
        torch.testing.assert_close(slots.z_what[:, j], present.unsqueeze(-1) * site["value"])
    assert discovery.sizes == {"z_where": 4, "z_what": 3}
    assert present_or_standard(prior, ones).batch_shape == (3, 1)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="size"):
        FlowPrior(1)
    with pytest.raises(ValueError, match="layers"):
        FlowPrior(4, 0)
