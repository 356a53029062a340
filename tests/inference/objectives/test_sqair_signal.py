import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from whatwhere.inference.objectives import VIMCO, SQAIRSignal, TooFewParticlesError

LOGITS = (0.3, -0.7)
LOG_JOINT = (-2.0, 1.0, -4.0, 2.6)


def model(x):
    with pyro.plate("data", 1, dim=-1):
        z0 = pyro.sample("z0", dist.Bernoulli(0.5))
        z1 = pyro.sample("z1", dist.Bernoulli(0.5))
        table = torch.tensor(LOG_JOINT)[(2 * z0 + z1).long()]
        pyro.factor("x", table - 2 * torch.tensor(0.5).log())


def expectation(objective, with_values):
    """Expected gradient over all 4^3 draws of the three particles."""
    logits = [nn.Parameter(torch.tensor(value)) for value in LOGITS]

    def guide(x):
        with pyro.plate("data", 1, dim=-1):
            for i, logit in enumerate(logits):
                pyro.sample(f"z{i}", dist.Bernoulli(logits=logit))

    total = torch.zeros(2)
    for bits in itertools.product((0.0, 1.0), repeat=6):
        z = torch.tensor(bits).reshape(2, 3, 1)
        probability = torch.stack([torch.sigmoid(logit) for logit in logits]).detach()[:, None, None]
        probability = torch.where(z > 0, probability, 1 - probability).prod()
        loss, _ = objective.evaluate(model, with_values(guide, {"z0": z[0], "z1": z[1]}), None)
        total += probability * torch.stack(torch.autograd.grad(-loss, logits))
    return total


@pytest.mark.parametrize(
    ("objective", "published"),
    [
        (lambda: VIMCO(3), (0.0927, 1.1739)),
        (lambda: SQAIRSignal(3), (-0.2174, 0.9156)),
        (lambda: SQAIRSignal(3, reduce="sum"), (-0.7579, 3.4733)),
    ],
)
def test_expected_gradient_has_the_reference_value(objective, published, with_values):
    got = expectation(objective(), with_values)
    torch.testing.assert_close(got, torch.tensor(published), rtol=0, atol=5e-5)


def test_continuous_parameters_follow_the_bound(toy):
    num_guide = len(list(toy.guide.parameters()))
    got, exact = toy.expected_gradients(SQAIRSignal(2)), toy.exact_gradients(2)
    torch.testing.assert_close(got[num_guide:], exact[num_guide:], rtol=1e-9, atol=1e-9)
    assert not torch.isclose(got[0], exact[0], rtol=0.01).any()


def test_one_particle_is_refused():
    with pytest.raises(TooFewParticlesError, match="SQAIRSignal"):
        SQAIRSignal(1)


def test_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="`reduce` must be"):
        SQAIRSignal(2, reduce="max")
