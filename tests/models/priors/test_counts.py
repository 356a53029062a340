import math

import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro import poutine
from scipy import stats

from whatwhere.models.priors import CountPrior, GeometricCount, NormalPrior, slot_presence
from whatwhere.models.priors.counts import (
    ABSENT_LOGIT,
    CategoricalCount,
    hazard_logits,
    log_probs_of_hazards,
)


def test_truncated_geometric_and_its_hazards_are_those_of_the_closed_form():
    k, u = 0.01, (1 - 0.01) / (1 - 0.01**4)
    prior = GeometricCount(3, k).double()
    probabilities = torch.tensor([u * k**n for n in range(4)], dtype=torch.float64)
    torch.testing.assert_close(prior.log_probs().exp(), probabilities, rtol=1e-6, atol=0)
    h1 = 1 - u
    h2 = 1 - k * u / h1
    h3 = 1 - k**2 * u / (h1 * h2)
    expected = torch.tensor([h1, h2, h3], dtype=torch.float64)
    torch.testing.assert_close(prior.hazard_logits().sigmoid(), expected, rtol=1e-6, atol=0)


def test_ratio_one_is_uniform():
    torch.testing.assert_close(GeometricCount(4, 1.0).log_probs(), torch.full((5,), -math.log(5)))


@given(weights=st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=7))
def test_hazards_are_conditional_probabilities_and_invert(weights: list[float]):
    p = torch.tensor(weights, dtype=torch.float64)
    p = p / p.sum()
    hazards = hazard_logits(p.log()).sigmoid()
    for i in range(len(p) - 1):
        torch.testing.assert_close(hazards[i], p[i + 1 :].sum() / p[i:].sum(), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(log_probs_of_hazards(hazard_logits(p.log())).exp(), p, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("probabilities", [[0.5, 0.5, 0.0, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0], [1.0, 0.0]])
def test_impossible_counts_have_finite_hazards_and_right_probabilities(probabilities: list[float]):
    prior = CategoricalCount(probabilities)
    logits = prior.hazard_logits()
    assert logits.isfinite().all()
    torch.testing.assert_close(log_probs_of_hazards(logits).exp(), torch.tensor(probabilities))


def draw_count(prior: CountPrior, size: int) -> torch.Tensor:
    z_pres = torch.ones(size)
    total = torch.zeros(size)
    with pyro.plate("data", size):
        for i, logit in enumerate(prior.hazard_logits()):
            with poutine.mask(mask=z_pres > 0):
                z_pres = pyro.sample(f"z_pres/{i}", slot_presence(logit, z_pres))
            total = total + z_pres
    return total


@pytest.mark.parametrize("prior", [GeometricCount(3, 0.6), CategoricalCount([0.1, 0.5, 0.0, 0.4])])
def test_the_chain_of_statements_draws_the_counts_of_the_prior(prior: CountPrior):
    size = 100_000
    observed = torch.bincount(draw_count(prior, size).long(), minlength=4)
    expected = prior.double().log_probs().exp() * size
    possible = expected > 0
    assert observed[~possible].sum() == 0
    assert stats.chisquare(observed[possible], expected[possible]).pvalue > 1e-3


def test_the_chain_of_statements_has_the_log_probability_of_the_count():
    prior = CategoricalCount([0.2, 0.3, 0.1, 0.4])
    trace = poutine.trace(draw_count).get_trace(prior, 200)
    trace.compute_log_prob()
    log_prob = sum(trace.nodes[f"z_pres/{i}"]["log_prob"] for i in range(3))
    count = sum(trace.nodes[f"z_pres/{i}"]["value"] for i in range(3)).long()
    torch.testing.assert_close(log_prob, prior.log_probs()[count])


def test_a_slot_after_an_absent_one_is_absent_with_a_finite_gradient():
    logits = torch.tensor([3.0, 3.0], requires_grad=True)
    presence = slot_presence(logits, torch.tensor([1.0, 0.0]))
    assert presence.logits.tolist() == [3.0, ABSENT_LOGIT]
    assert presence.sample((1000,))[:, 1].sum() == 0
    (gradient,) = torch.autograd.grad(presence.log_prob(torch.zeros(2)).sum(), logits)
    assert gradient[1] == 0
    assert gradient.isfinite().all()


def test_normal_prior_is_a_diagonal_normal():
    prior = NormalPrior([3.0, 0.0], [0.2, 1.0])
    value = torch.tensor([[2.9, 0.4]])
    expected = stats.norm(3.0, 0.2).logpdf(2.9) + stats.norm(0, 1).logpdf(0.4)
    torch.testing.assert_close(prior().log_prob(value).item(), expected, rtol=1e-5, atol=1e-6)
    assert NormalPrior.standard(7).size == 7
    assert NormalPrior([-2, 0], [1, 3])().log_prob(torch.zeros(2)).item() == pytest.approx(
        stats.norm(-2, 1).logpdf(0) + stats.norm(0, 3).logpdf(0)
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GeometricCount(0), "`max_count` must be at least 1, but got 0"),
        (lambda: GeometricCount(3, 1.5), r"`ratio` must lie in \(0, 1\], but got 1.5"),
        (lambda: CategoricalCount([0.5, -0.5]), "`probabilities` must be non-negative"),
        (lambda: CategoricalCount([0.0, 0.0]), "not all zero"),
        (lambda: NormalPrior([0.0], [1.0, 2.0]), r"vectors of one length.*\(1,\).*\(2,\)"),
        (lambda: NormalPrior([0.0], [0.0]), "`scale` must be positive"),
    ],
)
def test_bad_parameters_are_refused(build, message: str):
    with pytest.raises(ValueError, match=message):
        build()


def test_what_cannot_be_present_never_is():
    """PyTorch draws 1 with a probability of 2^-24 wherever that of 1 is above 0, be it 1e-45."""
    logits = torch.linspace(-50, 50, 7, requires_grad=True)
    absent = slot_presence(logits, torch.zeros(7))
    assert torch.equal(absent.probs, torch.zeros(7))
    assert torch.equal(absent.log_prob(torch.zeros(7)), torch.zeros(7))
    assert absent.log_prob(torch.ones(7)).isfinite().all()
    absent.log_prob(torch.zeros(7)).sum().backward()
    assert torch.equal(logits.grad, torch.zeros(7))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.bernoulli(absent.probs[:1].detach().expand(2**26).contiguous(), generator=generator)
    assert not drawn.any()
