"""Priors of what is discovered, by hand from their weights."""

import math

import pytest
import torch
import torch.nn.functional as F

from whatwhere.models.priors import (
    CategoricalCount,
    DiscoveryCountPrior,
    DiscoveryWherePrior,
    FixedCountPrior,
    FixedWherePrior,
    GeometricCount,
)
from whatwhere.models.priors.counts import log_probs_of_hazards


@pytest.mark.parametrize("first", [True, False])
def test_the_count_prior_by_hand(first: bool):
    prior = DiscoveryCountPrior(3, hidden=5).double()
    torch.nn.init.normal_(prior.bias)
    expectation, free = torch.rand(4, 1).double() - 0.5, torch.tensor([3.0, 2.0, 1.0, 0.0]).double()
    hidden = F.elu(expectation @ prior.network[0].weight.T + prior.network[0].bias)
    logits = hidden @ prior.network[2].weight.T + prior.network[2].bias + prior.bias
    logits = F.elu(logits if first else logits + torch.tensor([10.0, 0.0, 0.0, 0.0]).double())
    hazards = prior(expectation, free, first)
    for row, most in enumerate((3, 2, 1, 0)):
        expected = logits[row, : most + 1].softmax(0)
        got = log_probs_of_hazards(hazards[row]).exp()
        torch.testing.assert_close(got[: most + 1], expected)
        assert got[most + 1 :].sum() < 1e-20


def test_the_prior_of_places_by_hand():
    """`o = tanh(W1 s + b1 + W2 g + b2)`, with a floor of 0.01 under every standard deviation."""
    prior = DiscoveryWherePrior(6, hidden=5).double()
    torch.nn.init.normal_(prior.initial_state)
    context, previous = torch.randn(4, 6).double(), torch.randn(4, 4).double()
    features = torch.cat([prior.initial_state.expand(4, -1), context], -1)
    g = F.elu(features @ prior.from_context.weight.T + prior.from_context.bias)
    before = previous @ prior.from_sample.weight.T + prior.from_sample.bias
    o = (before + g @ prior.from_hidden.weight.T + prior.from_hidden.bias).tanh()
    loc, raw = (o @ prior.readout.weight.T + prior.readout.bias).chunk(2, -1)
    got = prior(prior.start(context), previous)
    torch.testing.assert_close(got.loc, loc)
    torch.testing.assert_close(got.scale, F.softplus(raw) + 0.01)


def test_places_are_small_and_anywhere_at_first():
    prior = DiscoveryWherePrior(6, hidden=5).double()
    torch.nn.init.zeros_(prior.readout.weight)
    got = prior(prior.start(torch.randn(6).double()), prior.first_sample)
    torch.testing.assert_close(got.loc.detach(), torch.tensor([-2.0, -2.0, 0.0, 0.0]).double())
    torch.testing.assert_close(got.scale.detach(), torch.full((4,), 1.3232617).double())


def test_the_fixed_prior_of_places_depends_on_nothing():
    prior = FixedWherePrior(scale_logit=-1.0, scale=0.5)
    got = prior(prior.start(torch.randn(3, 7)), torch.randn(3, 4))
    torch.testing.assert_close(got.loc, torch.tensor([-1.0, -1.0, 0.0, 0.0]))
    torch.testing.assert_close(got.scale, torch.full((4,), 0.5))


@pytest.mark.parametrize("free", [0, 1, 3])
def test_a_price_for_each_object_among_those_that_have_room(free: int):
    prior = FixedCountPrior(GeometricCount(3, math.exp(-0.7))).double()
    hazards = prior(torch.zeros(1).double(), torch.tensor(float(free)).double(), first=False)
    weights = torch.tensor([math.exp(-0.7 * n) if n <= free else 0.0 for n in range(4)]).double()
    torch.testing.assert_close(log_probs_of_hazards(hazards).exp(), weights / weights.sum())


@pytest.mark.parametrize(
    ("probabilities", "free", "expected"),
    [
        ([0.0, 0.5, 0.5], 0, [1.0, 0.0, 0.0]),
        ([0.0, 0.0, 1.0], 1, [0.5, 0.5, 0.0]),
        ([0.0, 0.2, 0.8], 1, [0.0, 1.0, 0.0]),
        ([0.0, 0.2, 0.8], 2, [0.0, 0.2, 0.8]),
    ],
)
def test_without_room_for_a_possible_number_there_are_as_many_as_fit_at_most(
    probabilities: list[float], free: int, expected: list[float]
):
    prior = FixedCountPrior(CategoricalCount(probabilities))
    found = prior.log_probs(torch.zeros(1), torch.tensor([free]), first=True)
    torch.testing.assert_close(found.exp(), torch.tensor([expected]))


def test_the_price_may_be_annealed_in_place():
    prior = FixedCountPrior(GeometricCount(2, 1.0))
    prior.counts.log_ratio.fill_(-80.0)
    log_probs = prior.log_probs(torch.zeros(1), torch.tensor(2.0), first=True)
    torch.testing.assert_close(log_probs, torch.tensor([0.0, -80.0, -160.0]))


def test_sizes_and_shifts_have_scales_of_their_own():
    prior = FixedWherePrior(-0.4, 0.1, 0.7)
    loc, scale = prior(prior.start(torch.zeros(3, 9)), prior.first_sample)
    torch.testing.assert_close(loc, torch.tensor([-0.4, -0.4, 0.0, 0.0]))
    torch.testing.assert_close(scale, torch.tensor([0.1, 0.1, 0.7, 0.7]))
    assert set(FixedWherePrior().state_dict()) == {"loc", "first_sample"}  # as in old checkpoints
    torch.testing.assert_close(FixedWherePrior().scale, torch.ones(4))


def test_learned_places_start_from_known_sizes():
    prior = DiscoveryWherePrior(4, 8, -0.4, 0.2, 0.7, gain=0.0)
    loc, scale = prior(prior.start(torch.randn(5, 4)), prior.first_sample)
    torch.testing.assert_close(loc, torch.tensor([-0.4, -0.4, 0.0, 0.0]).expand(5, 4))
    torch.testing.assert_close(scale, torch.tensor([0.2, 0.2, 0.7, 0.7]).expand(5, 4))
    published = DiscoveryWherePrior(4, 8).readout.bias[4:]
    torch.testing.assert_close(F.softplus(published) + 0.01, torch.full((4,), 1.323), rtol=1e-3, atol=0)
