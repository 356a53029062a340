import pytest
import torch

from whatwhere.inference.objectives import Reinforce


@pytest.mark.parametrize("num_particles", [1, 2])
def test_expected_gradient_of_the_elbo(toy, num_particles):
    expected = toy.expected_gradients(Reinforce(num_particles))
    torch.testing.assert_close(expected, toy.exact_gradients(1, "elbo"), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_particles", [1, 2])
def test_expected_gradient_of_the_elbo_when_the_model_has_another_order(backward_toy, num_particles):
    expected = backward_toy.expected_gradients(Reinforce(num_particles))
    torch.testing.assert_close(expected, backward_toy.exact_gradients(1, "elbo"), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_particles", [1, 2, 3])
def test_expected_gradient_of_the_importance_weighted_bound(toy, num_particles):
    expected = toy.expected_gradients(Reinforce(num_particles, bound="iwae"))
    torch.testing.assert_close(expected, toy.exact_gradients(num_particles), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_expected_gradient_with_continuous_variables(mixed_toy, bound):
    toy = mixed_toy(2)
    expected = toy.expected_gradients(Reinforce(2, bound=bound))
    torch.testing.assert_close(expected, toy.exact_gradients(bound), rtol=1e-9, atol=1e-9)


def test_expected_elbo(single_toy):
    bound = single_toy.expected_bound(Reinforce(2))
    torch.testing.assert_close(bound, single_toy.exact_bound(1, "elbo")[0], rtol=1e-10, atol=1e-10)


def test_unknown_bound_is_refused():
    with pytest.raises(ValueError, match=r"`bound` must be .* got 'tight'"):
        Reinforce(bound="tight")
