import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from whatwhere.inference.objectives import IWAE, NoGradientError


class LinearGaussian:
    """z ~ N(0, 1), x ~ N(2 z, 1/2), guide N(m x, s): p(x) = N(0, 17/4), posterior N(8 x / 17, 1/sqrt(17))."""

    def __init__(self, slope: float, scale: float) -> None:
        self.slope = nn.Parameter(torch.tensor(slope))
        self.scale = nn.Parameter(torch.tensor(scale))

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(2 * z, 0.5), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(self.slope * x, self.scale))

    def log_weight(self, x, noise):
        z = self.slope * x + self.scale * noise
        log_p = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(2 * z, 0.5).log_prob(x)
        return log_p - dist.Normal(self.slope * x, self.scale).log_prob(z)


X = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64)


def log_evidence(x):
    return dist.Normal(torch.zeros((), dtype=x.dtype), math.sqrt(17) / 2).log_prob(x)


@pytest.mark.parametrize("num_particles", [1, 5])
def test_bound_is_the_evidence_when_the_guide_is_the_posterior(num_particles):
    pair = LinearGaussian(8 / 17, 1 / math.sqrt(17))
    loss, diagnostics = IWAE(num_particles).evaluate(pair.model, pair.guide, X)
    torch.testing.assert_close(-loss, log_evidence(X).sum())
    torch.testing.assert_close(diagnostics.effective_sample_size, torch.tensor(float(num_particles)))


def test_bound_approaches_the_evidence():
    pair = LinearGaussian(0.4, 0.4)
    loss, _ = IWAE(20_000, reduction="mean").evaluate(pair.model, pair.guide, X)
    torch.testing.assert_close(-loss, log_evidence(X).mean(), rtol=0, atol=0.01)


def test_loss_and_gradient_against_the_formula(with_values, gradients_of):
    pair, noise = LinearGaussian(0.7, 0.8), torch.randn(4, 3)
    guide = with_values(pair.guide, {"z": lambda fn: fn.loc + fn.scale * noise})
    loss, _ = IWAE(4).evaluate(pair.model, guide, X)
    reference = -(pair.log_weight(X, noise).logsumexp(0) - math.log(4)).sum()
    torch.testing.assert_close(loss, reference)
    parameters = [pair.slope, pair.scale]
    torch.testing.assert_close(gradients_of(loss, parameters), gradients_of(reference, parameters))


def test_bounds_are_ordered(single_toy):
    elbo, two, five = (single_toy.exact_bound(k).item() for k in (1, 2, 5))
    assert elbo < two < five < single_toy.log_evidence().item()


def test_discrete_site_is_refused(toy):
    with pytest.raises(
        NoGradientError, match=r"`IWAE` gives no gradient to guide site `z/0` \(Bernoulli\): use `VIMCO`"
    ):
        IWAE(3).evaluate(toy.model, toy.guide, toy.x)


def test_weights_are_per_datum_not_per_batch(with_values):
    pair, noise = LinearGaussian(0.7, 0.8), torch.randn(4, 3)
    noise_of = lambda index: {"z": lambda fn: fn.loc + fn.scale * noise[:, index]}  # noqa: E731
    together, _ = IWAE(4).evaluate(pair.model, with_values(pair.guide, noise_of(slice(None))), X)
    alone = sum(
        IWAE(4).evaluate(pair.model, with_values(pair.guide, noise_of([b])), X[[b]])[0] for b in range(3)
    )
    torch.testing.assert_close(together, alone)
