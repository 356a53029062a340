import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import nn
from torch.nn.functional import logsigmoid, softplus

from whatwhere.inference.objectives import (
    MarginalELBO,
    MissingSiteError,
    NoGradientError,
    PresenceError,
    Reinforce,
    SiteShapeError,
)


class Guide(PyroModule):
    """Up to two objects; the second presence, place and size depend on the first place."""

    def __init__(self):
        super().__init__()
        self.v = nn.Parameter(0.5 * torch.randn(10))

    def forward(self, x):
        v = self.v
        with pyro.plate("data", len(x), dim=-1):
            u = pyro.sample("u", dist.Normal(v[8] * x, softplus(v[9])))
            first = pyro.sample("z_pres/0", dist.Bernoulli(logits=v[0] + x + 0.3 * u))
            with poutine.mask(mask=first > 0):
                z = pyro.sample("z_what/0", dist.Normal(v[1] + x, softplus(v[2])))
                second = pyro.sample("z_pres/1", dist.Bernoulli(logits=v[3] + v[4] * z))
            with poutine.mask(mask=first * second > 0):
                pyro.sample("z_what/1", dist.Normal(v[5] + v[6] * z * u, softplus(v[7])))


class Model(PyroModule):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(0.5 * torch.randn(4))

    def forward(self, x):
        w = self.w
        with pyro.plate("data", len(x), dim=-1):
            u = pyro.sample("u", dist.Normal(0.0, 1.0))
            first = pyro.sample("z_pres/0", dist.Bernoulli(logits=w[0]))
            with poutine.mask(mask=first > 0):
                z0 = pyro.sample("z_what/0", dist.Normal(0.0, 1.0))
                second = first * pyro.sample("z_pres/1", dist.Bernoulli(logits=w[1]))
            with poutine.mask(mask=second > 0):
                z1 = pyro.sample("z_what/1", dist.Normal(0.0, 1.0))
            canvas = first * torch.tanh(w[2] * z0) + second * torch.sin(w[3] * z1) + 0.2 * u
            pyro.sample("x", dist.Normal(canvas, 0.4), obs=x)


class Pair:
    """Model and guide, and all terms by hand for given noise of shape (3, K, B)."""

    def __init__(self, num_particles=3, num_data=2):
        self.guide, self.model = Guide(), Model()
        self.x = torch.linspace(-0.6, 0.9, num_data)
        self.noise = torch.randn(3, num_particles, num_data)

    @property
    def parameters(self):
        return [self.guide.v, self.model.w]

    def values(self):
        names = ("u", "z_what/0", "z_what/1")
        return {name: (lambda fn, i=i: fn.mean + fn.stddev * self.noise[i]) for i, name in enumerate(names)}

    def terms(self, detach_latents=False):
        """log q(n), log p(n, z, x) - log q(z) and log p(x | n, z); shape (3, K, B)."""
        v, w, x = self.guide.v, self.model.w, self.x
        fix = (lambda t: t.detach()) if detach_latents else (lambda t: t)
        normal, one = dist.Normal, torch.ones(())
        q_u = normal(v[8] * x, softplus(v[9]))
        u = fix(q_u.mean + q_u.stddev * self.noise[0])
        q0 = normal(v[1] + x, softplus(v[2]))
        z0 = fix(q0.mean + q0.stddev * self.noise[1])
        q1 = normal(v[5] + v[6] * z0 * u, softplus(v[7]))
        z1 = fix(q1.mean + q1.stddev * self.noise[2])
        l0, l1 = v[0] + x + 0.3 * u, v[3] + v[4] * z0
        log_q_count = torch.stack(
            [logsigmoid(-l0), logsigmoid(l0) + logsigmoid(-l1), logsigmoid(l0) + logsigmoid(l1)]
        )
        log_p_count = [
            logsigmoid(-w[0]),
            logsigmoid(w[0]) + logsigmoid(-w[1]),
            logsigmoid(w[0]) + logsigmoid(w[1]),
        ]
        canvas = [0.2 * u, 0.2 * u + torch.tanh(w[2] * z0)]
        canvas.append(canvas[1] + torch.sin(w[3] * z1))
        log_likelihood = torch.stack([normal(c, 0.4 * one).log_prob(x) for c in canvas])
        ratio_u = normal(0 * one, one).log_prob(u) - q_u.log_prob(u)
        ratio_0 = normal(0 * one, one).log_prob(z0) - q0.log_prob(z0)
        ratio_1 = normal(0 * one, one).log_prob(z1) - q1.log_prob(z1)
        ratios = torch.stack([ratio_u, ratio_u + ratio_0, ratio_u + ratio_0 + ratio_1])
        log_ratio = torch.stack([p + r for p, r in zip(log_p_count, ratios, strict=True)]) + log_likelihood
        return log_q_count, log_ratio, log_likelihood


@pytest.fixture(params=[True, False], ids=["validated", "bulk"])
def pair(request):
    with pyro.validation_enabled(request.param):
        yield Pair()


def test_value_and_gradient_of_the_elbo(pair, with_values, gradients_of):
    guide = with_values(pair.guide, pair.values())
    loss, diagnostics = MarginalELBO(num_particles=3).evaluate(pair.model, guide, pair.x)
    log_q, log_ratio, log_likelihood = pair.terms()
    reference = (log_q.exp() * (log_ratio - log_q)).sum(0).mean(0).sum()
    torch.testing.assert_close(-loss, reference)
    torch.testing.assert_close(gradients_of(-loss, pair.parameters), gradients_of(reference, pair.parameters))
    likelihood = (log_q.exp() * log_likelihood).sum(0).mean()
    torch.testing.assert_close(diagnostics.bound, reference / 2)
    torch.testing.assert_close(diagnostics.log_likelihood, likelihood)
    torch.testing.assert_close(diagnostics.kl, likelihood - reference / 2)


def test_it_is_the_expectation_of_the_sequentially_sampled_elbo(with_values, gradients_of):
    pair = Pair(num_particles=1, num_data=1)
    marginal, _ = MarginalELBO().evaluate(pair.model, with_values(pair.guide, pair.values()), pair.x)
    loss, total = 0.0, [torch.zeros_like(p) for p in pair.parameters]
    for count, probability in enumerate(pair.terms()[0].detach().exp().flatten()):
        presence = {f"z_pres/{i}": torch.full((1, 1), float(i < count)) for i in range(2)}
        guide = with_values(pair.guide, pair.values() | presence)
        sampled, _ = Reinforce().evaluate(pair.model, guide, pair.x)
        loss += probability * sampled.detach()
        for sum_, gradient in zip(total, gradients_of(sampled, pair.parameters), strict=True):
            sum_ += probability * gradient
    torch.testing.assert_close(marginal, loss)
    torch.testing.assert_close(gradients_of(marginal, pair.parameters), total)


def test_weights_sum_the_number_of_objects_out(pair, with_values):
    guide = with_values(pair.guide, pair.values())
    weights = MarginalELBO(num_particles=3).log_weights(pair.model, guide, pair.x)
    _, log_ratio, log_likelihood = pair.terms()
    torch.testing.assert_close(weights.log_weight, log_ratio.logsumexp(0))
    torch.testing.assert_close(weights.log_likelihood, (log_ratio.softmax(0) * log_likelihood).sum(0))
    assert not weights.log_score.any()


def test_mean_weight_is_the_evidence(with_values):
    """Gauss-Hermite quadrature over the noise of the guide on one side, over the prior on the other."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    grid = torch.tensor(list(itertools.product(nodes, repeat=3))).T[:, :, None]
    weight = torch.tensor(weights / math.sqrt(2 * math.pi))
    weight = torch.einsum("i,j,k->ijk", weight, weight, weight).reshape(-1, 1)
    pair = Pair(num_particles=len(weight), num_data=1)
    with torch.no_grad():
        # Wide enough for the ratio of densities to be smooth on the nodes.
        pair.guide.v.copy_(torch.tensor([0.3, 0.1, 0.6, -0.2, 0.5, 0.1, 0.05, 0.7, 0.1, 0.55]))
        pair.model.w.copy_(torch.tensor([0.4, -0.3, 0.5, 0.6]))
        pair.noise = grid
        guide = with_values(pair.guide, pair.values())
        objective = MarginalELBO(num_particles=len(weight))
        estimate = (weight * objective.log_weights(pair.model, guide, pair.x).log_weight.exp()).sum()
        w, (u, z0, z1) = pair.model.w, grid
        canvas = torch.stack([0.2 * u, 0.2 * u + torch.tanh(w[2] * z0)])
        canvas = torch.cat([canvas, canvas[1:] + torch.sin(w[3] * z1)])
        one = torch.sigmoid(w[:2])
        prior = torch.stack([1 - one[0], one[0] * (1 - one[1]), one[0] * one[1]])
        evidence = (prior[:, None, None] * weight * dist.Normal(canvas, 0.4).log_prob(pair.x).exp()).sum()
    torch.testing.assert_close(estimate, evidence, rtol=1e-5, atol=0)


def test_importance_weighted_bound_and_its_gradient(pair, with_values, gradients_of):
    guide = with_values(pair.guide, pair.values())
    loss, diagnostics = MarginalELBO(num_particles=3, bound="iwae").evaluate(pair.model, guide, pair.x)
    _, log_ratio, _ = pair.terms()
    bound = (log_ratio.logsumexp(0).logsumexp(0) - math.log(3)).sum()
    share = log_ratio.flatten(0, 1).softmax(0).detach()
    regression = -(share * pair.terms(detach_latents=True)[0].flatten(0, 1)).sum()
    torch.testing.assert_close(diagnostics.bound, bound / 2)
    torch.testing.assert_close(loss, regression - bound)
    reference = gradients_of(regression - bound, pair.parameters)
    torch.testing.assert_close(gradients_of(loss, pair.parameters), reference)


def test_bounds_are_ordered(pair, with_values):
    guide = with_values(pair.guide, pair.values())
    values = [
        MarginalELBO(num_particles=3, bound=bound).evaluate(pair.model, guide, pair.x)[1].bound
        for bound in ("elbo", "iwae")
    ]
    assert values[0] < values[1]


def test_unlikely_counts_have_finite_gradients(with_values, gradients_of):
    pair = Pair()
    with torch.no_grad():
        pair.guide.v[0], pair.guide.v[3] = -800.0, 800.0
    guide = with_values(pair.guide, pair.values())
    loss, _ = MarginalELBO(num_particles=3).evaluate(pair.model, guide, pair.x)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in gradients_of(loss, pair.parameters))


def test_any_number_of_steps_and_plate_nesting(with_values):
    """Three steps, a constant likelihood: ELBO = -KL(q(n) || p(n)) by enumeration."""
    p_logit, q_logit = torch.tensor([0.3, -0.5, 0.8]), torch.tensor([-0.2, 0.9, 0.1])

    def program(logits):
        with pyro.plate("images", 2, dim=-2):
            mask = torch.ones((), dtype=torch.bool)
            for i in range(3):
                with poutine.mask(mask=mask):
                    mask = mask & (pyro.sample(f"there/{i}", dist.Bernoulli(logits=logits[i])) > 0)

    objective = MarginalELBO("there", 2, batch_plate="images", max_plate_nesting=2, reduction="mean")
    loss, _ = objective.evaluate(lambda: program(p_logit), lambda: program(q_logit))

    def count(logits):
        yes = torch.sigmoid(logits).cumprod(0)
        survive = torch.cat([torch.ones(1), yes])
        return survive - torch.cat([yes, torch.zeros(1)])

    p, q = count(p_logit), count(q_logit)
    torch.testing.assert_close(loss, (q * (q / p).log()).sum())


def sampled(*sites):
    """A program that samples sites `(name, distribution)` in this order."""

    def program():
        with pyro.plate("data", 2, dim=-1):
            for name, fn in sites:
                pyro.sample(name, fn)

    return program


PRESENT, NORMAL = dist.Bernoulli(0.5), dist.Normal(0.0, 1.0)


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ([("z/0", NORMAL)], r"expected guide sites `z_pres/0`, `z_pres/1`, ..., got none"),
        ([("z_pres/0", NORMAL)], r"presence site `z_pres/0` to be a Bernoulli .*, got Normal"),
        ([("z_pres/1", PRESENT)], r"next presence site to be `z_pres/0`, got `z_pres/1`"),
        (
            [("z_pres/0", PRESENT), ("z_pres/2", PRESENT)],
            r"next presence site to be `z_pres/1`, got `z_pres/2`",
        ),
        (
            [("z_pres/0", PRESENT), ("z_pres/1", PRESENT), ("z/0", NORMAL)],
            r"steps in order, got site `z/0` after sites of step 1",
        ),
        (
            [("z_pres/0", PRESENT), ("style", NORMAL)],
            r"without index before `z_pres/0`, got `style` after it",
        ),
        ([("z_pres/0", PRESENT), ("z/1", NORMAL)], r"expected 1 steps .*, got a site of step 1"),
    ],
)
def test_guides_out_of_order_are_refused(sites, message):
    with pytest.raises(PresenceError, match=message):
        MarginalELBO().evaluate(sampled(*sites), sampled(*sites))


def test_other_discrete_sites_are_refused():
    program = sampled(("z_pres/0", PRESENT), ("kind/0", dist.Categorical(torch.ones(3))))
    with pytest.raises(NoGradientError, match=r"`kind/0` is not, and summing out .*: use `VIMCO`"):
        MarginalELBO().evaluate(program, program)


def test_model_that_does_not_mask_is_refused():
    program = sampled(("z_pres/0", PRESENT), ("z/0", NORMAL))
    with pytest.raises(PresenceError, match=r"model site `z/0` masked by the presence of its step"):
        MarginalELBO().evaluate(program, program)


def test_model_with_more_dimensions_than_the_patterns_is_refused():
    def model():
        with pyro.plate("data", 2, dim=-1):
            present = pyro.sample("z_pres/0", PRESENT)
            pyro.sample("x", dist.Normal(present + torch.zeros(7, 1, 1, 1), 1.0), obs=torch.zeros(2))

    with pytest.raises(SiteShapeError, match=r"site `x` .* got \(7, 2, 1, 2\)"):
        MarginalELBO().evaluate(model, sampled(("z_pres/0", PRESENT)))


def test_missing_sites_are_reported():
    with pytest.raises(MissingSiteError, match=r"model has no site `z/0`"):
        MarginalELBO().evaluate(
            sampled(("z_pres/0", PRESENT)), sampled(("z_pres/0", PRESENT), ("z/0", NORMAL))
        )


def test_unknown_bound_is_refused():
    with pytest.raises(ValueError, match=r"`bound` must be .*, got 'both'"):
        MarginalELBO(bound="both")


def test_presences_that_are_independent_of_each_other_are_refused():
    """As of cells of a grid: there are 2^N patterns, and not the N + 1 that are summed over."""

    def program(x, chain):
        with pyro.plate("data", 2, dim=-1):
            present = torch.ones(2)
            for i in range(2):
                with poutine.mask(mask=present > 0 if chain else True):
                    each = pyro.sample(f"z_pres/{i}", dist.Bernoulli(0.4))
                with poutine.mask(mask=each > 0):
                    z = pyro.sample(f"z/{i}", dist.Normal(0.0, 1.0))
                present = each
            if x is not None:
                pyro.sample("x", dist.Normal(each * z, 1.0), obs=x)

    x = torch.zeros(2)
    guide = lambda x: program(None, True)  # noqa: E731
    assert MarginalELBO().loss(lambda x: program(x, True), guide, x) > 0
    with pytest.raises(PresenceError, match=r"`z_pres/1` masked by the presence before it.*use `VIMCO`"):
        MarginalELBO().loss(lambda x: program(x, False), guide, x)
