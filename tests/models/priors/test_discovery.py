"""Priors of what is discovered, by hand from their weights."""

import pytest
import torch
import torch.nn.functional as F

from whatwhere.models.priors import DiscoveryCountPrior, DiscoveryWherePrior, FixedWherePrior
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
