"""The plain-torch losses are the objectives' arithmetic: values, and every gradient."""

import math
from itertools import product

import pyro
import pytest
import torch
from torch import Tensor

from whatwhere.benchmarks import air_reference
from whatwhere.guides import AIRGuide
from whatwhere.inference.objectives import VIMCO, MarginalELBO
from whatwhere.models import AIR
from whatwhere.models.components.networks import GlimpseDecoder
from whatwhere.models.priors.counts import CountPrior

LOSSES = {
    "marginal": (air_reference.marginal_elbo_loss, MarginalELBO(reduction="mean")),
    "vimco": (air_reference.vimco_loss, VIMCO(5, reduction="mean")),
}


class LearnedCount(CountPrior):
    """Has parameters, so that its gradient is compared, too."""

    def __init__(self, probabilities: list[float]) -> None:
        super().__init__(len(probabilities) - 1)
        self.logits = torch.nn.Parameter(torch.tensor(probabilities).log())

    def log_probs(self) -> Tensor:
        return self.logits.log_softmax(-1)


def small_pair(dtype: torch.dtype) -> tuple[AIR, AIRGuide]:
    count = LearnedCount([0.2, 0.3, 0.4, 0.1])
    decoder = GlimpseDecoder(4, (1, 6, 6), (8,), output_bias=0.0)
    model = AIR(count, decoder=decoder, what_size=4, image_shape=(1, 12, 12), likelihood_scale=2.0)
    guide = AIRGuide(
        glimpse_size=(6, 6), what_size=4, image_shape=(1, 12, 12), hidden_size=8, head_hidden=(8,)
    )
    with torch.no_grad():
        guide.head[-1].bias[0] = 1.0  # all numbers of objects occur
    return model.to(dtype), guide.to(dtype)


def value_and_gradients(loss: Tensor, *programs: torch.nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    named = {f"{i}.{name}": p for i, program in enumerate(programs) for name, p in program.named_parameters()}
    gradients = torch.autograd.grad(loss, list(named.values()))
    return loss.detach(), dict(zip(named, gradients, strict=True))


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_reference_equals_the_objective_through_pyro(name: str, dtype: torch.dtype, validate: bool):
    reference, objective = LOSSES[name]
    model, guide = small_pair(dtype)
    images = torch.rand(7, 1, 12, 12, dtype=dtype)
    torch.manual_seed(1)
    expected = value_and_gradients(reference(model, guide, images), model, guide)
    torch.manual_seed(1)
    with pyro.validation_enabled(validate):
        got = value_and_gradients(objective(model, guide)(images)[0], model, guide)
    rtol, atol = (1e-11, 1e-12) if dtype == torch.float64 else (1e-4, 1e-5)
    torch.testing.assert_close(got, expected, rtol=rtol, atol=atol)
    assert all(gradient.abs().max() > 0 for gradient in expected[1].values())


def test_vimco_objective_equals_the_published_formulas():
    """One particle and datum after the other: equations 7 to 10 of the paper."""
    particles, data = 4, 3
    log_weight = torch.randn(particles, data, dtype=torch.float64).mul(3).requires_grad_()
    log_score = torch.randn(particles, data, dtype=torch.float64).requires_grad_()
    value = air_reference.vimco_objective(log_weight, log_score)
    by_weight, by_score = torch.autograd.grad(value.sum(), [log_weight, log_score])
    for k, b in product(range(particles), range(data)):
        column = [w.item() for w in log_weight[:, b]]
        weights = [math.exp(w) for w in column]
        bound = math.log(sum(weights) / particles)
        others = [j for j in range(particles) if j != k]
        geometric = math.exp(sum(column[j] for j in others) / len(others))
        without = math.log((sum(weights[j] for j in others) + geometric) / particles)
        assert value[b].item() == pytest.approx(bound)
        assert by_weight[k, b].item() == pytest.approx(weights[k] / sum(weights))
        assert by_score[k, b].item() == pytest.approx(bound - without)


def test_vimco_objective_drops_what_would_be_denormal():
    log_weight = torch.tensor([[0.0], [-60.0], [-80.0]], requires_grad=True)
    log_score = torch.zeros(3, 1, requires_grad=True)
    air_reference.vimco_objective(log_weight, log_score).sum().backward()
    assert log_weight.grad is not None
    assert log_weight.grad[:, 0].tolist() == [1.0, 0.0, 0.0]
