"""Vectors of presence against all that there can be."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from whatwhere.models.components.presence_vectors import BudgetedBernoulli, ExchangeablePresence
from whatwhere.models.priors import CategoricalCount, DiscoveryCountPrior, FixedCountPrior

K, N = 5, 3
VECTORS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=K))).double()


def count_log_probs(free: int) -> Tensor:
    prior = FixedCountPrior(CategoricalCount([0.1, 0.4, 0.3, 0.2])).double()
    return prior.log_probs(torch.zeros(1), torch.tensor(float(free)), first=True)


@pytest.mark.parametrize("free", range(N + 1))
def test_any_cells_hold_a_number_with_the_prior_s_probability(free: int):
    """Every vector, and cell by cell by the conditional probabilities: `E[C - so far] / (K - j)`."""
    law = ExchangeablePresence(count_log_probs(free).expand(len(VECTORS), -1), K)
    probs = law.log_prob(VECTORS).exp()
    assert probs.sum() == pytest.approx(1)
    of_count = count_log_probs(free).exp().tolist()
    assert sum(of_count[free + 1 :]) == 0
    for vector, prob in zip(VECTORS.int().tolist(), probs.tolist(), strict=True):
        posterior, chain, so_far = dict(enumerate(of_count)), 1.0, 0
        for j, present in enumerate(vector):
            # Hypergeometric: of K - j cells that are left, C - so_far hold one.
            here = sum(p * (c - so_far) / (K - j) for c, p in posterior.items() if c >= so_far)
            chain *= here if present else 1 - here
            if not chain:
                break
            seen = {
                c: p * ((c - so_far) if present else (K - j - c + so_far)) / (K - j)
                for c, p in posterior.items()
            }
            posterior = {c: max(p, 0.0) / sum(max(q, 0.0) for q in seen.values()) for c, p in seen.items()}
            so_far += present
        assert prob == pytest.approx(chain, abs=1e-7)


def test_draws_have_these_probabilities():
    torch.manual_seed(0)
    law = ExchangeablePresence(count_log_probs(2).expand(30_000, -1), K)
    drawn = law.sample()
    index = (drawn * 2 ** torch.arange(K - 1, -1, -1)).sum(-1).long()
    shares = torch.bincount(index, minlength=2**K) / len(drawn)
    expected = ExchangeablePresence(count_log_probs(2), K).expand((2**K,)).log_prob(VECTORS).exp()
    assert (shares - expected).abs().max() < 5 * math.sqrt(0.15 / 30_000)
    assert not shares[expected == 0].any()


def test_the_number_may_be_learned():
    prior = DiscoveryCountPrior(N).double()
    free = torch.tensor([0.0, 2.0, 3.0]).double()
    law = ExchangeablePresence(prior.log_probs(torch.zeros(3, 1).double(), free, first=False), K)
    value = law.sample()
    assert (value.sum(-1) <= free).all()
    law.log_prob(value).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in prior.parameters())


@pytest.mark.parametrize("budget", range(N + 1))
def test_decisions_are_independent_as_long_as_there_is_room(budget: int):
    """Every vector by a loop; those of more than the budget cannot be."""
    logits = torch.tensor([0.3, -1.2, 2.0, 0.0, -0.4]).double()
    law = BudgetedBernoulli(logits, torch.tensor(float(budget))).expand((len(VECTORS),))
    probs = law.log_prob(VECTORS).exp()
    assert probs.sum() == pytest.approx(1)
    for vector, prob in zip(VECTORS.int().tolist(), probs.tolist(), strict=True):
        expected, used = 1.0, 0
        for present, logit in zip(vector, logits.tolist(), strict=True):
            here = 1 / (1 + math.exp(-logit)) if used < budget else 0.0
            expected *= here if present else 1 - here
            used += present
        assert prob == pytest.approx(expected, abs=1e-12)
    torch.manual_seed(0)
    drawn = BudgetedBernoulli(logits.expand(20_000, -1), torch.tensor(float(budget))).sample()
    index = (drawn * 2 ** torch.arange(K - 1, -1, -1)).sum(-1).long()
    shares = torch.bincount(index, minlength=2**K) / len(drawn)
    assert (shares - probs).abs().max() < 5 * math.sqrt(0.25 / 20_000)


def test_gradients_are_those_of_the_decisions_that_were_made():
    logits = torch.randn(4, K, dtype=torch.float64, requires_grad=True)
    value = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 0, 0, 1]]).double()
    BudgetedBernoulli(logits, torch.tensor(2.0)).log_prob(value).sum().backward()
    expected = value - logits.detach().sigmoid()
    expected[0, 3:], expected[2, 2:] = 0, 0  # there is no room left
    torch.testing.assert_close(logits.grad, expected)


def test_leading_axes_broadcast():
    law = BudgetedBernoulli(torch.zeros(3, K), torch.tensor([[1.0], [2.0]]))
    assert law.batch_shape == (2, 3)
    assert law.sample().shape == (2, 3, K)
    assert law.expand((4, 2, 3)).sample().sum(-1).amax((0, 2)).tolist() == [1, 2]
    exchangeable = ExchangeablePresence(torch.zeros(3, N + 1), K).expand((2, 3))
    assert exchangeable.sample().shape == (2, 3, K)
    assert exchangeable.log_prob(torch.zeros(K)).shape == (2, 3)
    with pytest.raises(ValueError, match="`cells` must be at least 3"):
        ExchangeablePresence(torch.zeros(N + 1), 2)
