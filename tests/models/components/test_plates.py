import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample

from whatwhere.models.components.plates import Plate

DISTRIBUTIONS = [
    dist.Normal(0.0, 1.0),
    dist.Normal(torch.zeros(5), 1.0),
    dist.Normal(torch.zeros(3, 1), 1.0),
    dist.Normal(torch.zeros(4, 1, 1), 1.0),
    dist.Normal(torch.zeros(4, 3, 5), 1.0),
    dist.Normal(torch.zeros(3, 1, 2), 1.0).to_event(1),
    dist.Bernoulli(0.5).mask(torch.rand(5) < 0.5),
]


def program(plate, fn: dist.Distribution) -> poutine.Trace:
    def model():
        with plate("particles", 3, dim=-2), plate("data", 5, dim=-1):
            pyro.sample("z", fn)

    torch.manual_seed(0)
    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    return trace


@pytest.mark.parametrize("fn", DISTRIBUTIONS, ids=lambda fn: f"{type(fn).__name__}{tuple(fn.batch_shape)}")
def test_it_means_what_pyros_plate_means(fn: dist.Distribution):
    with pyro.validation_enabled(False):  # which wants no dimension to the left of the plates
        got, expected = program(Plate, fn).nodes["z"], program(pyro.plate, fn).nodes["z"]
    assert got["fn"].batch_shape == expected["fn"].batch_shape
    torch.testing.assert_close(got["value"], expected["value"], rtol=0, atol=0)
    torch.testing.assert_close(got["log_prob"], expected["log_prob"], rtol=0, atol=0)
    assert got["scale"] == expected["scale"]
    frames = [[(f.name, f.dim, f.size) for f in site["cond_indep_stack"]] for site in (got, expected)]
    assert frames[0] == frames[1] == [("particles", -2, 3), ("data", -1, 5)]


def test_repetitions_are_independent_even_if_the_distribution_does_not_depend_on_them():
    with Plate("particles", 50, dim=-2), Plate("data", 2, dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0))
    assert z.shape == (50, 2)
    assert z.unique().numel() == 100


def test_distributions_of_full_shape_are_not_expanded_again():
    fn = dist.Normal(torch.zeros(50, 2), 1.0)
    with poutine.trace() as tracer, Plate("particles", 50, dim=-2), Plate("data", 2, dim=-1):
        pyro.sample("z", fn)
    assert tracer.trace.nodes["z"]["fn"] is fn
    assert list(tracer.trace.nodes) == ["particles", "data", "z"]


def test_it_is_one_statement_however_often_it_is_opened():
    with poutine.trace() as tracer:
        plate = Plate("data", 5, dim=-1)
        for t in range(2):
            with plate:
                pyro.sample(f"z/{t}", dist.Normal(0.0, 1.0))
    assert list(tracer.trace.nodes) == ["data", "z/0", "z/1"]
    assert site_is_subsample(tracer.trace.nodes["data"])


def test_another_size_is_refused():
    message = r"plate\('data'\) at site z dim -1, 5 vs 4"
    with pytest.raises(ValueError, match=message), Plate("data", 5, dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(4), 1.0))


def test_two_plates_of_one_dimension_are_refused():
    with pytest.raises(ValueError, match="collide"), Plate("a", 5, dim=-1), Plate("b", 5, dim=-1):
        pass


def test_within_an_open_plate_of_its_name_it_is_that_plate():
    """So a guide called in a subsampled plate is scaled as one that is written with `pyro.plate`."""

    def program(plate):
        with pyro.plate("data", 60, subsample_size=5, dim=-1), plate("data", 5, dim=-1):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    trace = poutine.trace(program).get_trace(Plate)
    trace.compute_log_prob()
    site = trace.nodes["z"]
    assert list(trace.nodes)[1:3] == ["data", "z"]
    assert [(f.name, f.size) for f in site["cond_indep_stack"]] == [("data", 5)]
    torch.testing.assert_close(site["log_prob"], 12 * site["fn"].log_prob(site["value"]))
