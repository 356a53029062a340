import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from whatwhere.inference.objectives.substitute import Substitute


def program():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("b", dist.Normal(a, 1.0))
    pyro.sample("x", dist.Normal(a, 1.0), obs=torch.tensor(2.0))


def test_chosen_values_stay_latent_and_others_are_sampled():
    values = {"a": torch.tensor(5.0), "x": torch.tensor(-1.0)}
    trace = poutine.trace(Substitute(lambda site: values.get(site["name"]))(program)).get_trace()
    assert trace.nodes["a"]["value"] is values["a"]
    assert not trace.nodes["a"]["is_observed"]
    assert trace.nodes["b"]["fn"].loc == 5.0
    assert trace.nodes["b"]["value"] != 5.0
    assert trace.nodes["x"]["value"] == 2.0


def test_the_outer_choice_wins():
    inner = Substitute(lambda site: torch.tensor(1.0) if site["name"] == "a" else None)(program)
    outer = Substitute(lambda site: torch.tensor(3.0) if site["name"] == "a" else None)(inner)
    assert poutine.trace(outer).get_trace().nodes["a"]["value"] == 3.0


def test_value_may_depend_on_the_distribution():
    trace = poutine.trace(Substitute(lambda site: site["fn"].loc + 1)(program)).get_trace()
    assert [trace.nodes[name]["value"].item() for name in "ab"] == [1.0, 2.0]
