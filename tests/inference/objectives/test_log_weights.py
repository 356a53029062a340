import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from whatwhere.inference.objectives import VIMCO, Reinforce


def normal(value, loc, scale):
    return dist.Normal(torch.as_tensor(loc), torch.as_tensor(scale)).log_prob(value)


def bernoulli(value, logit):
    return dist.Bernoulli(logits=torch.as_tensor(logit)).log_prob(value)


def test_weights_by_hand(toy):
    log_q, log_prior, log_likelihood = toy.tables()
    for (_, values), indices in zip(toy.enumerate(1), range(4), strict=True):
        trace = poutine.trace(toy.guide).get_trace(toy.x)
        for name, value in values.items():
            trace.nodes[name]["value"] = value
        got = VIMCO(2).log_weights(toy.model, poutine.replay(toy.guide, trace=trace), toy.x, num_particles=1)
        torch.testing.assert_close(got.log_weight[0], (log_prior + log_likelihood - log_q)[indices])
        torch.testing.assert_close(got.log_likelihood[0], log_likelihood[indices])
        torch.testing.assert_close(got.log_score[0], log_q[indices])
        assert got.scale == 1.0


class DrawnBeforePresence:
    """A guide in the order where, presence; the mask of where is known only after it was drawn.

    What was drawn for an absent object is an auxiliary variable; the factor takes its log-probability out.
    """

    def __init__(self):
        self.loc, self.logit = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor([0.2, -0.5]))

    def guide(self):
        with pyro.plate("data", 2, dim=-1):
            fn = dist.Normal(self.loc, 0.8)
            where = pyro.sample("where", fn)
            present = pyro.sample("present", dist.Bernoulli(logits=self.logit + where))
            unused = torch.where(present > 0, 0.0, -fn.log_prob(where))
            pyro.factor("where_unused", unused, has_rsample=True)

    def model(self):
        with pyro.plate("data", 2, dim=-1):
            present = pyro.sample("present", dist.Bernoulli(0.4))
            with poutine.mask(mask=present > 0):
                where = pyro.sample("where", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(present * where, 0.5), obs=torch.tensor([0.7, -0.1]))


def test_factor_in_the_guide_takes_unused_draws_out(with_values):
    pair = DrawnBeforePresence()
    where, present = torch.randn(3, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    guide = with_values(pair.guide, {"where": where, "present": present})
    got = VIMCO(3).log_weights(pair.model, guide)
    likelihood = normal(torch.tensor([0.7, -0.1]), present * where, 0.5)
    log_p = (
        bernoulli(present, torch.logit(torch.tensor(0.4))) + present * normal(where, 0.0, 1.0) + likelihood
    )
    score = bernoulli(present, pair.logit + where)
    log_q = score + present * normal(where, pair.loc, 0.8)
    torch.testing.assert_close(got.log_weight, log_p - log_q)
    torch.testing.assert_close(got.log_score, score)
    torch.testing.assert_close(got.log_likelihood, likelihood)


def test_marginal_likelihood_with_unused_draws_is_unbiased(with_values):
    """Quadrature over where, enumeration of presence: E_q[w] = p(x)."""
    pair = DrawnBeforePresence()
    where = torch.linspace(-9, 9, 4001)[:, None].expand(-1, 2)
    step, x = 18 / 4000, torch.tensor([0.7, -0.1])
    mean = torch.zeros(2)
    for value in (0.0, 1.0):
        present = torch.full_like(where, value)
        guide = with_values(pair.guide, {"where": where, "present": present})
        log_weight = Reinforce().log_weights(pair.model, guide, num_particles=len(where)).log_weight
        density = normal(where, pair.loc, 0.8) + bernoulli(present, pair.logit + where)
        mean = mean + (density + log_weight).exp().sum(0) * step
    evidence = 0.6 * normal(x, 0.0, 0.5).exp() + 0.4 * normal(x, 0.0, 1.25**0.5).exp()
    torch.testing.assert_close(mean, evidence, rtol=1e-7, atol=0)


def test_factor_of_discrete_draws_enters_the_score(with_values):
    logit = nn.Parameter(torch.tensor([0.5, -1.0]))

    def guide():
        with pyro.plate("data", 2, dim=-1):
            pyro.factor("choice", dist.Bernoulli(logits=logit).log_prob(torch.ones(3, 2)), has_rsample=False)

    def model():
        with pyro.plate("data", 2, dim=-1):
            pyro.factor("x", torch.zeros(2))

    got = VIMCO(3).log_weights(model, guide)
    torch.testing.assert_close(got.log_score, dist.Bernoulli(logits=logit).log_prob(torch.ones(3, 2)))
    torch.testing.assert_close(got.log_weight, -got.log_score)


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("mask_score", [True, False])
def test_masks(mask_score, validate, with_values):
    """A masked site has no log-probability; the score is masked too, or not, as in Pyro."""
    mask = torch.tensor([[True, False], [False, False], [True, True]])
    z, u = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.randn(3, 2)

    def program(logit, loc):
        with pyro.plate("data", 2, dim=-1), poutine.mask(mask=mask):
            pyro.sample("z", dist.Bernoulli(logits=torch.tensor(logit)))
            pyro.sample("y", dist.Bernoulli(logits=torch.tensor(-logit)))
            pyro.sample("u", dist.Normal(loc, 1.0))
            pyro.sample("v", dist.Normal(loc, 1.0).mask(False))

    with pyro.validation_enabled(validate):
        guide = with_values(lambda: program(0.7, 0.2), {"z": z, "y": z, "u": u, "v": u})
        got = VIMCO(3, mask_score=mask_score).log_weights(lambda: program(-0.1, 0.0), guide)
    score = bernoulli(z, 0.7) + bernoulli(z, -0.7)
    log_weight = bernoulli(z, -0.1) + bernoulli(z, 0.1) - score + normal(u, 0.0, 1.0) - normal(u, 0.2, 1.0)
    torch.testing.assert_close(got.log_weight, torch.where(mask, log_weight, 0.0))
    torch.testing.assert_close(got.log_score, torch.where(mask, score, 0.0) if mask_score else score)


def test_replayed_subsample_is_the_guides():
    """Model and guide see the same data of a subsampled plate."""
    seen = []

    def program():
        with pyro.plate("data", 100, subsample_size=5, dim=-1) as index:
            seen.append(index)
            pyro.sample("z", dist.Normal(0.0, 1.0))

    weights = Reinforce(2).log_weights(program, program)
    assert torch.equal(*seen)
    assert weights.scale == 20.0


def test_model_without_statements_is_refused():
    with pytest.raises(ValueError, match="at least one sample statement in the model"):
        Reinforce().evaluate(lambda: None, lambda: None)
