import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import nn

from whatwhere.inference.evaluation import log_marginal
from whatwhere.inference.objectives import MarginalELBO, Reinforce

X = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64)


class Model(PyroModule):
    """z ~ N(0, 1), x ~ N(2 z, 1/2): p(x) = N(0, 17/4)."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0))
            pyro.sample("x", dist.Normal(self.slope * z, 0.5), obs=x)


class Guide(PyroModule):
    """Draws from prepared noise, if there is any left."""

    def __init__(self, slope=0.4, scale=0.4, noise=None):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))
        self.scale = scale
        self.noise = noise
        self.drawn = []

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            fn = dist.Normal(self.slope * x, self.scale)
            if self.noise is None:
                self.drawn.append(len(pyro.sample("z", fn)))
                return
            count = len(pyro.sample("count", dist.Delta(torch.zeros(())), infer={"is_auxiliary": True}))
            noise, self.noise = self.noise[:count], self.noise[count:]
            value = fn.loc + fn.scale * noise
            pyro.sample("z", dist.Delta(value, log_density=fn.log_prob(value)))


def log_evidence(x):
    return dist.Normal(torch.zeros_like(x), math.sqrt(17) / 2).log_prob(x)


@pytest.mark.parametrize("chunk_size", [1, 7, 100])
def test_chunks_give_the_log_mean_weight_of_all_particles(chunk_size):
    noise = torch.randn(40, 3, dtype=torch.float64)
    guide = Guide(noise=noise)
    got = log_marginal(Model(), guide, X, num_particles=40, chunk_size=chunk_size)
    assert len(guide.noise) == 0
    z = 0.4 * X + 0.4 * noise
    log_weight = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(2 * z, 0.5).log_prob(X)
    log_weight = log_weight - dist.Normal(0.4 * X, 0.4).log_prob(z)
    torch.testing.assert_close(got, log_weight.exp().mean(0).log(), rtol=1e-12, atol=1e-12)


def test_closed_form_when_the_guide_is_the_posterior():
    guide = Guide(8 / 17, 1 / math.sqrt(17))
    got = log_marginal(Model(), guide, X, num_particles=5, chunk_size=2)
    torch.testing.assert_close(got, log_evidence(X))


def test_closed_form_for_many_particles():
    got = log_marginal(Model(), Guide(), X, num_particles=20_000, chunk_size=6000)
    torch.testing.assert_close(got, log_evidence(X), rtol=0, atol=0.02)


def test_at_most_one_chunk_is_drawn_at_once():
    guide = Guide()
    log_marginal(Model(), guide, X, num_particles=17, chunk_size=5)
    assert guide.drawn == [5, 5, 5, 2]


def test_default_chunks_bound_memory():
    guide = Guide()
    log_marginal(Model(), guide, X, num_particles=120)
    assert max(guide.drawn) == 50


def test_nothing_is_kept_for_gradients_and_no_parameter_is_registered():
    got = log_marginal(Model(), Guide(), X, num_particles=4)
    assert got.is_inference()
    assert not pyro.get_param_store().keys()


def test_subsampling_scale_is_ignored():
    def program(observed):
        with pyro.plate("data", 30, subsample_size=3, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0))
            if observed:
                pyro.sample("x", dist.Normal(z, 1.0), obs=X)

    got = log_marginal(lambda: program(True), lambda: program(False), num_particles=20_000, chunk_size=20_000)
    expected = dist.Normal(torch.zeros_like(X), math.sqrt(2)).log_prob(X)
    torch.testing.assert_close(got, expected, rtol=0, atol=0.1)


def test_objective_gives_plates_and_sums_the_number_of_objects_out():
    """One optional object without appearance: every particle gives log p(x) exactly."""

    def model(x):
        with pyro.plate("images", len(x), dim=-1):
            present = pyro.sample("there/0", dist.Bernoulli(torch.tensor(0.3, dtype=x.dtype)))
            pyro.sample("x", dist.Normal(present, 0.5), obs=x)

    def guide(x):
        with pyro.plate("images", len(x), dim=-1):
            pyro.sample("there/0", dist.Bernoulli(torch.full_like(x, 0.9)))

    objective = MarginalELBO("there", batch_plate="images")
    got = log_marginal(model, guide, X, num_particles=3, chunk_size=2, objective=objective)
    density = dist.Normal(torch.tensor([[0.0], [1.0]], dtype=X.dtype), 0.5).log_prob(X).exp()
    torch.testing.assert_close(got, (0.7 * density[0] + 0.3 * density[1]).log())
    sampled = log_marginal(model, guide, X, num_particles=3, objective=Reinforce(batch_plate="images"))
    assert not torch.isclose(sampled, got).any()


@pytest.mark.parametrize("options", [{"num_particles": 0}, {"chunk_size": 0}])
def test_impossible_numbers_are_refused(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be at least 1, got 0"):
        log_marginal(Model(), Guide(), X, **options)
