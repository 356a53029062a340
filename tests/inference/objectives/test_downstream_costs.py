import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from whatwhere.inference.objectives import Reinforce
from whatwhere.inference.objectives.downstream_costs import downstream_costs
from whatwhere.inference.objectives.layout import Layout
from whatwhere.inference.objectives.log_weights import run_and_score
from whatwhere.models.components.provisional import Decision, Provisional


def costs_and_terms(toy):
    traces = run_and_score(toy.model, toy.guide, Layout(3, "data", 1), (toy.x,), {})
    p = {name: pair[0].detach() for name, pair in traces.model.by_name().items()}
    q = {name: pair[0].detach() for name, pair in traces.guide.by_name().items()}
    return downstream_costs(traces), p, q


def test_terms_before_a_site_are_left_out(toy):
    """Model and guide in the order z/0, (x/0), z/1, x."""
    costs, p, q = costs_and_terms(toy)
    torch.testing.assert_close(costs["z/1"], p["z/1"] + p["x"] - q["z/1"])
    torch.testing.assert_close(costs["z/0"], p["z/0"] + p["x/0"] + p["z/1"] + p["x"] - q["z/0"] - q["z/1"])
    assert not any(cost.requires_grad for cost in costs.values())


def test_terms_that_ran_earlier_in_the_model_are_kept_if_the_guide_drew_their_variables_later(backward_toy):
    """The model's order is z/1, x/0, z/0, x: all of it may depend on z/0, through z/1."""
    costs, p, q = costs_and_terms(backward_toy)
    torch.testing.assert_close(costs["z/0"], sum(p.values()) - sum(q.values()))
    torch.testing.assert_close(costs["z/1"], sum(p.values()) - q["z/1"])


def test_reparameterised_sites_have_no_cost_but_are_part_of_others(mixed_toy):
    toy = mixed_toy(3)
    costs, p, q = costs_and_terms(toy)
    assert set(costs) == {"z"}
    torch.testing.assert_close(costs["z"], p["z"] + p["y"] + p["x"] - q["z"] - q["y"])


def test_a_choice_bears_the_density_of_the_draws_that_it_decides_on():
    def guide():
        with pyro.plate("data", 2, dim=-1):
            for i in range(2):
                used = Decision(f"z/{i}")
                pyro.sample(f"u/{i}", Provisional(dist.Normal(0.2, 0.7), used))
                used.settle(pyro.sample(f"z/{i}", dist.Bernoulli(0.4)) > 0)

    def model():
        with pyro.plate("data", 2, dim=-1):
            for i in range(2):
                with poutine.mask(mask=pyro.sample(f"z/{i}", dist.Bernoulli(0.3)) > 0):
                    u = pyro.sample(f"u/{i}", dist.Normal(0.0, 1.0))
                pyro.sample(f"x/{i}", dist.Normal(u, 1.0), obs=torch.zeros(2))

    traces = run_and_score(model, guide, Layout(5, "data", 1), (), {})
    p = {name: pair[0] for name, pair in traces.model.by_name().items()}
    q = {name: pair[0] for name, pair in traces.guide.by_name().items()}
    last = sum(p[f"{name}/1"] for name in "zux") - q["z/1"] - q["u/1"]
    costs = downstream_costs(traces)
    torch.testing.assert_close(costs["z/1"], last)
    torch.testing.assert_close(
        costs["z/0"], sum(p[f"{name}/0"] for name in "zux") - q["z/0"] - q["u/0"] + last
    )


def test_factor_of_discrete_draws_gets_all_terms():
    def guide():
        with pyro.plate("data", 2, dim=-1):
            pyro.sample("u", dist.Normal(0.2, 1.0))
            pyro.factor("choice", torch.tensor(-0.7), has_rsample=False)

    def model():
        with pyro.plate("data", 2, dim=-1):
            u = pyro.sample("u", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(u, 1.0), obs=torch.zeros(2))

    traces = run_and_score(model, guide, Layout(3, "data", 1), (), {})
    costs = downstream_costs(traces)
    torch.testing.assert_close(costs["choice"], traces.log_weights().log_weight)


def test_model_without_any_term_that_depends_on_a_site():
    def guide():
        with pyro.plate("data", 2, dim=-1):
            pyro.sample("z", dist.Bernoulli(0.4), infer={"is_auxiliary": True})

    def model():
        with pyro.plate("data", 2, dim=-1):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(2))

    traces = run_and_score(model, guide, Layout(3, "data", 1), (), {})
    torch.testing.assert_close(downstream_costs(traces)["z"], -traces.guide.total("score"))
    assert Reinforce(3).loss(model, guide) > 0
