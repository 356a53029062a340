"""Mixtures of normals against torch's, their moments, and the gradient of an expectation."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from whatwhere.models.components.networks import LocScale
from whatwhere.models.components.normal_mixture import Mixture, NormalMixture


def mixture(*leading: int, components: int = 3, size: int = 4) -> Mixture:
    return Mixture(
        torch.randn(*leading, components, size).double(),
        torch.rand(*leading, components, size).double() + 0.2,
        torch.randn(*leading, components).double(),
    )


def reference(parameters: Mixture) -> MixtureSameFamily:
    components = Independent(Normal(parameters.loc, parameters.scale), 1)
    return MixtureSameFamily(Categorical(logits=parameters.logits), components)


def test_the_density_is_that_of_torchs_mixture():
    parameters, value = mixture(2, 5), torch.randn(2, 5, 4).double()
    ours = NormalMixture(*parameters)
    assert (ours.batch_shape, ours.event_shape) == ((2, 5), (4,))
    torch.testing.assert_close(ours.log_prob(value), reference(parameters).log_prob(value))
    shared = NormalMixture(*mixture(5)).expand(torch.Size((2, 5)))
    assert shared.log_prob(value).shape == (2, 5)


def test_draws_have_the_moments_of_the_mixture():
    torch.manual_seed(0)
    parameters = mixture(size=2)
    ours, theirs = NormalMixture(*parameters), reference(parameters)
    draws = ours.sample(torch.Size((200_000,)))
    torch.testing.assert_close(draws.mean(0), theirs.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(draws.var(0), theirs.variance, rtol=0.02, atol=0)
    below = (draws[:, 0] < 0.3).double().mean()
    cdf = Normal(parameters.loc[:, 0], parameters.scale[:, 0]).cdf(torch.tensor(0.3).double())
    torch.testing.assert_close(below, parameters.logits.softmax(0) @ cdf, rtol=0, atol=0.005)


def test_gradients_of_expectations_are_pathwise_given_the_weights():
    """d E[z^2] / d loc_k = 2 w_k loc_k, and d / d scale_k = 2 w_k scale_k."""
    torch.manual_seed(0)
    loc, scale, logits = mixture(size=1)
    loc.requires_grad_(), scale.requires_grad_()
    ours = NormalMixture(loc, scale, logits)
    assert ours.has_rsample
    ours.rsample(torch.Size((400_000,))).square().mean().backward()
    weights = logits.softmax(0).unsqueeze(-1)
    torch.testing.assert_close(loc.grad, 2 * weights * loc.detach(), rtol=0.05, atol=0.01)
    torch.testing.assert_close(scale.grad, 2 * weights * scale.detach(), rtol=0.05, atol=0.01)


def test_draws_are_not_reparameterised_if_the_weights_are_learned():
    parameters = mixture()
    assert not NormalMixture(parameters.loc, parameters.scale, parameters.logits.requires_grad_()).has_rsample


def test_parameters_as_one_vector_and_back():
    parameters = mixture(2, 5)
    back = Mixture.unflat(parameters.flat(), 4)
    assert all(torch.equal(x, y) for x, y in zip(parameters, back, strict=True))


def test_slots_and_components_are_picked():
    parameters = mixture(2, 5)
    assert torch.equal(parameters.slot(3).loc, parameters.loc[:, 3])
    index = torch.tensor([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0]])
    picked = parameters.component(index)
    for b in range(2):
        for n in range(5):
            assert torch.equal(picked.loc[b, n], parameters.loc[b, n, index[b, n]])
            assert torch.equal(picked.scale[b, n], parameters.scale[b, n, index[b, n]])


@pytest.mark.parametrize("leading", [(), (6,)])
def test_a_single_normal_is_a_mixture_of_one(leading: tuple[int, ...]):
    loc, scale = torch.randn(*leading, 4).double(), torch.rand(*leading, 4).double() + 0.1
    value = torch.randn(*leading, 4).double()
    expected = Normal(loc, scale).log_prob(value).sum(-1)
    torch.testing.assert_close(NormalMixture(*Mixture.of(LocScale(loc, scale))).log_prob(value), expected)
