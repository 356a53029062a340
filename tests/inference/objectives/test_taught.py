import pyro
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


def test_negative_imitation_is_refused():
    with pytest.raises(ValueError, match="`imitation` must not be negative"):
        TaughtELBO(always_one, imitation=-1.0)
