import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.testing.rejection_gamma import ShapeAugmentedGamma

from whatwhere.inference.objectives import (
    MissingSiteError,
    Reinforce,
    UnequalScaleError,
    UnsupportedSiteError,
)

NORMAL = dist.Normal(0.0, 1.0)


def program(*sites, observed=(), plate="data", **options):
    """A program that samples `(name, distribution)` in a plate of two data, and observes the sites named."""

    def run():
        with pyro.plate(plate, 2, dim=-1):
            for name, fn in sites:
                pyro.sample(name, fn, obs=torch.zeros(2) if name in observed else None, **options)

    return run


def evaluate(model, guide):
    return Reinforce(2).evaluate(model, guide)


def test_guide_site_that_the_model_does_not_have():
    with pytest.raises(
        MissingSiteError, match=r"the model has no site `u`; .* needs `infer=\{\"is_auxiliary\": True\}`"
    ):
        evaluate(program(("z", NORMAL)), program(("z", NORMAL), ("u", NORMAL)))


def test_latent_variable_of_the_model_that_the_guide_does_not_have():
    with pytest.raises(MissingSiteError, match=r"in the guide, but it has no site `u` \(and 1 more\)"):
        evaluate(program(("z", NORMAL), ("u", NORMAL), ("v", NORMAL)), program(("z", NORMAL)))


def test_guide_site_that_the_model_observes():
    with pytest.raises(MissingSiteError, match=r"the model observes site `x`"):
        evaluate(program(("x", NORMAL), observed=["x"]), program(("x", NORMAL)))


def test_observation_in_the_guide():
    with pytest.raises(UnsupportedSiteError, match=r"got observed site `y`: a value that is given"):
        evaluate(program(("z", NORMAL)), program(("z", NORMAL), ("y", NORMAL), observed=["y"]))


def test_factor_that_does_not_say_what_it_belongs_to():
    def guide():
        with pyro.plate("data", 2, dim=-1):
            pyro.sample("z", NORMAL)
            pyro.factor("extra", torch.zeros(2))

    with pytest.raises(UnsupportedSiteError, match=r"factor `extra` does not say whether"):
        evaluate(program(("z", NORMAL)), guide)


def test_partly_reparameterised_distribution():
    gamma = ShapeAugmentedGamma(torch.tensor(2.0), torch.tensor(1.0))
    with pytest.raises(UnsupportedSiteError, match=r"guide site `z` has a `ShapeAugmentedGamma`"):
        evaluate(program(("z", gamma)), program(("z", gamma)))


def test_unequal_scales():
    def model():
        with pyro.plate("data", 2, dim=-1):
            z = pyro.sample("z", NORMAL)
            with poutine.scale(scale=0.5):
                pyro.sample("x", dist.Normal(z, 1.0), obs=torch.zeros(2))

    with pytest.raises(UnequalScaleError, match=r"got 1.0 at site `z` and 0.5 at site `x`"):
        evaluate(model, program(("z", NORMAL)))


def test_scale_that_would_have_to_be_read_from_the_device():
    scale = torch.tensor(2.0)
    with pytest.raises(UnequalScaleError, match=r"Python number as scale of site `z`, got a tensor"):
        evaluate(poutine.scale(program(("z", NORMAL)), scale), poutine.scale(program(("z", NORMAL)), scale))


def test_auxiliary_variables_count_as_in_pyro():
    """A guide that draws e, and sets z = 2 e + 1: log q(z) = log N(e) - log 2."""

    def guide():
        with pyro.plate("data", 2, dim=-1):
            e = pyro.sample("e", NORMAL, infer={"is_auxiliary": True})
            density = -torch.log(torch.tensor(2.0)) - NORMAL.log_prob(e)
            pyro.sample("z", dist.Delta(2 * e + 1, log_density=density + NORMAL.log_prob(e)))

    weights = Reinforce(3).log_weights(program(("z", dist.Normal(1.0, 2.0))), guide)
    torch.testing.assert_close(weights.log_weight, torch.zeros(3, 2), check_dtype=False, atol=1e-6, rtol=0)


def test_deterministic_values_are_ignored():
    def both():
        with pyro.plate("data", 2, dim=-1):
            z = pyro.sample("z", NORMAL)
        pyro.deterministic("twice", 2 * z)

    weights = Reinforce(3).log_weights(both, both)
    torch.testing.assert_close(weights.log_weight, torch.zeros(3, 2), check_dtype=False, atol=1e-6, rtol=0)
