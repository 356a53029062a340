import pytest
import torch

from whatwhere.inference.objectives.leave_one_out import others_logsumexp, others_sum


@pytest.mark.parametrize("num_particles", [2, 3, 9])
def test_against_the_definition(num_particles):
    values = 5 * torch.randn(num_particles, 4)
    for k in range(num_particles):
        others = values[[j for j in range(num_particles) if j != k]]
        torch.testing.assert_close(others_sum(values)[k], others.sum(0))
        torch.testing.assert_close(others_logsumexp(values)[k], others.logsumexp(0))


def test_a_dominant_particle_does_not_swallow_the_others():
    values = torch.tensor([[0.0], [-800.0], [-801.0]])
    torch.testing.assert_close(others_logsumexp(values)[0], values[1:].logsumexp(0))


def test_infinite_values():
    values = torch.tensor([[-torch.inf], [1.0], [2.0]])
    assert others_sum(values).flatten().tolist() == [3.0, -torch.inf, -torch.inf]
    torch.testing.assert_close(others_logsumexp(values).flatten()[1:], torch.tensor([2.0, 1.0]))


def test_memory_grows_with_the_particles_not_their_square():
    assert others_logsumexp(torch.randn(20_000, 2)).shape == (20_000, 2)
