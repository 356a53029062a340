import pyro
import pyro.distributions as dist
import pytest
import torch

from whatwhere.inference.objectives import TaughtELBO


def always_one(site):
    return torch.ones_like(site["fn"].mean) if site["name"] == "z" else None


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("imitation", [0.0, 2.5])
def test_value_and_gradient_by_hand(mixed_toy, with_values, gradients_of, imitation, validate):
    toy = mixed_toy(3)
    noise = {
        "u": lambda fn: fn.loc + fn.scale * toy.noise[0],
        "y": lambda fn: fn.loc + fn.scale * toy.noise[1],
    }
    objective = TaughtELBO(always_one, 3, imitation=imitation)
    with pyro.validation_enabled(validate):
        loss, diagnostics = objective.evaluate(toy.model, with_values(toy.guide, noise), toy.x)
    log_w, log_q_z = toy.terms(torch.ones_like(toy.noise[0]))
    bound = (log_w + log_q_z).mean(0)
    expected = -(bound + imitation * log_q_z.mean(0)).sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(diagnostics.bound, bound.mean())
    torch.testing.assert_close(gradients_of(loss, toy.parameters), gradients_of(expected, toy.parameters))


def test_it_bounds_the_evidence_and_is_the_elbo_of_the_taught_guide(single_toy, with_values):
    log_q, log_prior, log_likelihood = single_toy.tables()
    taught = torch.tensor([state[0] for state in single_toy.states]) > 0
    given = log_q[taught] - log_q[taught].logsumexp(0)  # log q(z_1 | z_0 = 1)
    exact = (given.exp() * ((log_prior + log_likelihood)[taught] - given)).sum()
    total = torch.zeros(())
    for probability, z1 in zip(given.exp(), (0.0, 1.0), strict=True):
        guide = with_values(single_toy.guide, {"z/1": lambda fn, z1=z1: torch.full_like(fn.mean, z1)})

        def teacher(site):
            return torch.ones_like(site["fn"].mean) if site["name"] == "z/0" else None

        total += (
            probability.squeeze()
            * TaughtELBO(teacher).evaluate(single_toy.model, guide, single_toy.x)[1].bound
        )
    torch.testing.assert_close(total, exact)
    assert total < single_toy.log_evidence()


def test_decisions_that_are_drawn_have_no_gradient(toy, gradients_of):
    loss, _ = TaughtELBO(lambda site: None).evaluate(toy.model, toy.guide, toy.x)
    found = gradients_of(loss, list(toy.guide.parameters()))
    assert not any(gradient.any() for gradient in found)


def test_with_nothing_to_teach_it_is_the_elbo_of_reparameterised_variables(
    mixed_toy, with_values, gradients_of
):
    toy = mixed_toy(1)
    model, z = toy.model, torch.ones_like(toy.noise[0])
    guide = with_values(
        toy.guide,
        {
            "u": lambda fn: fn.loc + fn.scale * toy.noise[0],
            "z": z,
            "y": lambda fn: fn.loc + fn.scale * toy.noise[1],
        },
    )
    loss, found = TaughtELBO(lambda site: None).evaluate(model, guide, toy.x)
    log_w, log_q_z = toy.terms(z)
    torch.testing.assert_close(found.bound, log_w.mean())
    expected = gradients_of(-(log_w + log_q_z).sum(), toy.parameters)
    torch.testing.assert_close(gradients_of(loss, toy.parameters), expected)


@pytest.mark.parametrize(("reduction", "divisor"), [("sum", 1), ("mean", 4)])
def test_imitation_is_scaled_under_subsampling_as_the_bound_is(reduction, divisor):
    """4 of 40 data stand for ten times as many, in the bound and in the cross-entropy."""
    logit, loc = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)

    def model(x):
        with pyro.plate("data", 40, subsample_size=4, dim=-1):
            pyro.sample("z", dist.Bernoulli(0.3))
            u = pyro.sample("u", dist.Normal(loc, 1.0))
            pyro.sample("x", dist.Normal(u, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", 40, subsample_size=4, dim=-1):
            pyro.sample("z", dist.Bernoulli(logits=logit))
            pyro.sample("u", dist.Normal(torch.full((4,), 2.0), 0.0001))

    objective = TaughtELBO(always_one, 2, imitation=1.5, reduction=reduction)
    loss, _ = objective.evaluate(model, guide, torch.zeros(4))
    of_logit, of_loc = torch.autograd.grad(loss, [logit, loc])
    # d log sigmoid(a) / da = 1/2 at 0, and d log N(2; m, 1) / dm = 2.
    assert of_logit.item() == pytest.approx(-40 * 1.5 * 0.5 / divisor)
    assert of_loc.item() == pytest.approx(-40 * 2 / divisor, rel=1e-3)


def test_negative_imitation_is_refused():
    with pytest.raises(ValueError, match="`imitation` must not be negative"):
        TaughtELBO(always_one, imitation=-1.0)
