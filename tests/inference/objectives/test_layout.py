import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from whatwhere.inference.objectives import Reinforce, SiteOutsidePlateError, SiteShapeError
from whatwhere.inference.objectives.layout import Layout


def normal(value, loc, scale):
    return -0.5 * ((value - loc) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)


@pytest.mark.parametrize("validate", [True, False])
def test_inner_plates_are_summed_and_the_batch_plate_may_be_anywhere(validate, with_values):
    """Batch plate at -2, slots at -1, views at -3: everything but particles and data is summed."""
    z, u = torch.randn(4, 3, 5), torch.randn(4, 2, 3, 1)

    def program(shift):
        with pyro.plate("images", 3, dim=-2):
            with pyro.plate("slots", 5, dim=-1):
                pyro.sample("z", dist.Normal(shift, 1.0))
            with pyro.plate("views", 2, dim=-3):
                pyro.sample("u", dist.Normal(0.0, 1.0 + shift))

    z = z[:, None]
    with pyro.validation_enabled(validate):
        weights = Reinforce(4, batch_plate="images", max_plate_nesting=3).log_weights(
            lambda: program(0.5), with_values(lambda: program(0.0), {"z": z, "u": u})
        )
    by_hand = (normal(z, 0.5, 1.0) - normal(z, 0.0, 1.0)).sum((1, 3))
    by_hand = by_hand + (normal(u, 0.0, 1.5) - normal(u, 0.0, 1.0)).sum((1, 3))
    torch.testing.assert_close(weights.log_weight, by_hand)


def test_sequential_plates_of_the_model_are_summed(with_values):
    def program(loc):
        with pyro.plate("data", 2, dim=-1):
            for i in pyro.plate("steps", 3):
                pyro.sample(f"z/{i}", dist.Normal(loc, 1.0))

    z = torch.randn(3, 4, 2)
    values = {f"z/{i}": z[i] for i in range(3)}
    weights = Reinforce(4).log_weights(lambda: program(1.0), with_values(lambda: program(0.0), values))
    torch.testing.assert_close(weights.log_weight, (normal(z, 1.0, 1.0) - normal(z, 0.0, 1.0)).sum(0))


@pytest.mark.parametrize("owner", ["model", "guide"])
def test_site_outside_the_batch_plate(owner):
    def inside():
        with pyro.plate("data", 2, dim=-1):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    def outside():
        inside()
        if owner == "model":
            pyro.sample("prior", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))
        else:
            pyro.factor("prior", torch.tensor(0.0), has_rsample=True)

    programs = (outside, inside) if owner == "model" else (inside, outside)
    with pytest.raises(
        SiteOutsidePlateError, match=rf"plate `data`, but {owner} site `prior` is in no plate"
    ):
        Reinforce().evaluate(*programs)


def test_batch_plate_under_another_name():
    def program():
        with pyro.plate("images", 2, dim=-1):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(
        SiteOutsidePlateError, match=r"model site `z` is in `images`|guide site `z` is in `images`"
    ):
        Reinforce().evaluate(program, program)
    Reinforce(batch_plate="images").evaluate(program, program)


def test_batch_plate_as_a_loop():
    def program():
        for i in pyro.plate("data", 2):
            pyro.sample(f"z/{i}", dist.Normal(0.0, 1.0))

    with pytest.raises(SiteOutsidePlateError, match="vectorised plate `data`"):
        Reinforce().evaluate(program, program)


@pytest.mark.parametrize("validate", [True, False])
def test_dimension_without_a_plate(validate):
    def program():
        with pyro.plate("images", 2, dim=-2):
            pyro.sample("z", dist.Normal(torch.zeros(4), 1.0))

    with (
        pyro.validation_enabled(validate),
        pytest.raises(
            SiteShapeError, match=r"site `z` to be broadcastable to \(3, 2, 1\).* got \(3, 2, 4\).*to_event"
        ),
    ):
        Reinforce(3, batch_plate="images", max_plate_nesting=2).evaluate(program, program)


def test_dimensions_left_of_the_particles():
    layout = Layout(num_particles=2, batch_plate="data", max_plate_nesting=1)
    site = {"name": "z", "cond_indep_stack": [frame("data", -1, 5), frame("particles", -2, 2)]}
    placement = layout.place(site, "model")
    with pytest.raises(SiteShapeError, match=r"got \(4, 2, 5\)"):
        layout.reduce(torch.zeros(4, 2, 5), site, placement)
    assert layout.reduce(torch.zeros(4, 2, 5), site, placement, leading=1).shape == (4, 2, 5)
    assert layout.reduce(torch.zeros(5), site, placement).shape == (2, 5)


def frame(name, dim, size):
    return type("Frame", (), {"name": name, "dim": dim, "size": size})()


def test_particles_are_left_of_the_plates_of_the_programs():
    assert Layout(2, "data", 3).particle_dim == -4
