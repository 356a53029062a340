import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from whatwhere.inference.objectives import NVIL, BaselineError


class AnnotatedGuide(nn.Module):
    """A guide of the toy with baselines at its sites."""

    def __init__(self, guide, baselines):
        super().__init__()
        self.guide, self.baselines = guide, baselines

    def forward(self, x):
        g = self.guide
        with pyro.plate("data", len(x), dim=-1):
            z0 = pyro.sample("z/0", dist.Bernoulli(logits=g.a), infer={"baseline": self.baselines[0]})
            baseline = self.baselines[1](z0) if callable(self.baselines[1]) else self.baselines[1]
            pyro.sample("z/1", dist.Bernoulli(logits=g.c + g.d * z0), infer={"baseline": baseline})


def annotated(toy, *baselines):
    toy.guide.forward = AnnotatedGuide(toy.guide, baselines).forward
    return toy


@pytest.mark.parametrize(
    "baselines",
    [
        ({}, {}),
        ({"baseline_value": torch.tensor(3.0)}, {"baseline_value": torch.tensor([-2.0, 5.0])}),
        (
            {"baseline_value": torch.tensor([[0.5, 1.0], [2.0, -1.0]])},
            lambda z0: {"baseline_value": 4 * z0 - 1},
        ),
        (
            {"nn_baseline": lambda x: 2 * x, "nn_baseline_input": torch.tensor([1.0, 4.0])},
            lambda z0: {"nn_baseline": torch.tanh, "nn_baseline_input": z0},
        ),
    ],
    ids=["none", "constant", "per particle, given the past", "networks"],
)
def test_expected_gradient_does_not_depend_on_the_baseline(toy, baselines):
    exact = toy.exact_gradients(1, "elbo")
    expected = annotated(toy, *baselines).expected_gradients(NVIL(2))
    torch.testing.assert_close(expected, exact, rtol=1e-9, atol=1e-9)


def test_second_moment_of_the_gradient_and_its_best_baseline(single_toy, with_values):
    log_q, log_prior, log_likelihood = (table.detach()[:, 0] for table in single_toy.tables())
    cost, q = log_prior + log_likelihood - log_q, log_q.exp()
    score = torch.tensor([z0 for z0, _ in single_toy.states]) - torch.sigmoid(single_toy.guide.a.detach())
    best = (q * score**2 * cost).sum() / (q * score**2).sum()
    for baseline in (torch.tensor(0.0), best):
        annotated(single_toy, {"baseline_value": baseline}, {})
        moment = 0.0
        for probability, values in single_toy.enumerate(1):
            guide = with_values(single_toy.guide, values)
            loss, _ = NVIL().evaluate(single_toy.model, guide, single_toy.x)
            moment += (probability * torch.autograd.grad(loss, single_toy.guide.a)[0] ** 2).item()
        assert moment == pytest.approx((q * (score * (cost - baseline)) ** 2).sum().item(), rel=1e-9)


class OneVariable:
    """log p - log q = f(z) at the current parameters: d ELBO / d logit = (f(1) - f(0)) sigma'(logit)."""

    def __init__(self):
        self.logit = nn.Parameter(torch.tensor([0.4]))

    def guide(self):
        with pyro.plate("data", 1, dim=-1):
            infer = {"baseline": {"baseline_value": self.baseline}}
            pyro.sample("z", dist.Bernoulli(logits=self.logit), infer=infer)

    def model(self):
        with pyro.plate("data", 1, dim=-1):
            q = dist.Bernoulli(logits=self.logit.detach())
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.factor("x", 1 + 4 * z + q.log_prob(z) - torch.tensor(0.5).log())

    def expected(self, with_values, baselines):
        """Expected gradient when the baseline has the given value for z = 0 and for z = 1."""
        total = 0.0
        for z, self.baseline in zip((0.0, 1.0), map(torch.tensor, baselines), strict=True):
            guide = with_values(self.guide, {"z": torch.full((1, 1), z)})
            loss, _ = NVIL().evaluate(self.model, guide)
            probability = dist.Bernoulli(logits=self.logit.detach()).log_prob(torch.tensor(z)).exp()
            total += (probability * torch.autograd.grad(-loss, self.logit)[0]).item()
        return total


@pytest.mark.parametrize("value", [0.0, 2.0, -7.0])
def test_constant_baselines_leave_the_true_gradient(value, with_values):
    assert OneVariable().expected(with_values, (value, value)) == pytest.approx(0.961, abs=5e-4)


def test_baseline_that_sees_the_action_is_biased(with_values):
    assert OneVariable().expected(with_values, (0.9, 4.8)) == pytest.approx(0.024, abs=5e-4)


def test_regression_loss_is_masked_and_not_part_of_the_bound(with_values):
    mask = torch.tensor([[True, False, True], [True, True, False]])
    z = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    baseline = nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
    logit = torch.tensor([0.2, -0.4, 1.0])

    def model():
        with pyro.plate("data", 3, dim=-1), poutine.mask(mask=mask):
            z = pyro.sample("z", dist.Bernoulli(0.3))
            pyro.factor("x", 2 * z)

    def guide():
        with pyro.plate("data", 3, dim=-1), poutine.mask(mask=mask):
            pyro.sample("z", dist.Bernoulli(logits=logit), infer={"baseline": {"baseline_value": baseline}})

    loss, diagnostics = NVIL(2).evaluate(model, with_values(guide, {"z": z}))
    cost = dist.Bernoulli(torch.tensor(0.3)).log_prob(z) + 2 * z - dist.Bernoulli(logits=logit).log_prob(z)
    cost = torch.where(mask, cost, 0.0)
    regression = torch.where(mask, (cost - baseline) ** 2, 0.0).mean(0)
    torch.testing.assert_close(diagnostics.bound, cost.mean())
    torch.testing.assert_close(loss, (regression - cost.mean(0)).sum())
    (gradient,) = torch.autograd.grad(loss, baseline)
    torch.testing.assert_close(gradient, torch.where(mask, 2 * (baseline - cost), 0.0).mean(0))


def test_regression_loss_is_not_scaled_by_subsampling(with_values):
    baseline = nn.Parameter(torch.tensor(0.5))
    losses = []
    for size in (2, 20):

        def model(size=size):
            with pyro.plate("data", size, subsample_size=2, dim=-1):
                pyro.sample("z", dist.Bernoulli(0.3))

        def guide(size=size):
            with pyro.plate("data", size, subsample_size=2, dim=-1):
                pyro.sample("z", dist.Bernoulli(0.6), infer={"baseline": {"baseline_value": baseline}})

        values = {"z": torch.tensor([[1.0, 0.0]])}
        loss, diagnostics = NVIL().evaluate(model, with_values(guide, values))
        losses.append(loss + size * diagnostics.bound)
    torch.testing.assert_close(losses[0], losses[1])


def test_annotation_of_a_site_in_an_inner_plate_is_refused():
    def program(infer):
        with pyro.plate("data", 3, dim=-1), pyro.plate("slots", 2, dim=-2):
            pyro.sample("z", dist.Bernoulli(0.3), infer=infer)

    annotation = {"baseline": {"baseline_value": torch.zeros(3)}}
    with pytest.raises(
        BaselineError, match=r"site `z`, which has a baseline, in no plate but `data`, got `slots`"
    ):
        NVIL(max_plate_nesting=2).evaluate(lambda: program({}), lambda: program(annotation))


def test_expected_gradient_with_continuous_variables(mixed_toy):
    toy = mixed_toy(2)
    torch.testing.assert_close(
        toy.expected_gradients(NVIL(2)), toy.exact_gradients("elbo"), rtol=1e-9, atol=1e-9
    )
