import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import Independent

from whatwhere.inference.objectives import scoring
from whatwhere.inference.objectives.layout import Layout
from whatwhere.inference.objectives.log_weights import run_program
from whatwhere.inference.objectives.scoring import score_sites
from whatwhere.inference.objectives.sites import random_sites

K, B = 3, 4
LAYOUT = Layout(K, "data", 1)


def zoo():
    """Sites of many families, shapes and masks; some alike, so that they are scored together."""
    loc, scale = torch.randn(K, B, 5), torch.rand(K, B, 5) + 0.5
    mask, other = torch.rand(K, B) > 0.4, torch.rand(K, B) > 0.4
    with pyro.plate("data", B, dim=-1):
        for i in range(3):
            pyro.sample(f"vector/{i}", dist.Normal(i * loc, scale).to_event(1))
            pyro.sample(f"shared/{i}", dist.Normal(torch.full((5,), float(i)), 2.0).to_event(1))
            pyro.sample(f"scalar/{i}", dist.Normal(loc[..., i], 1.0))
            pyro.sample(f"logits/{i}", dist.Bernoulli(logits=loc[..., i]))
            pyro.sample(f"probs/{i}", dist.Bernoulli(torch.sigmoid(loc[..., i])))
            pyro.sample(f"pixels/{i}", dist.Bernoulli(logits=loc).to_event(1))
            pyro.sample(f"masked/{i}", dist.Normal(loc, scale).to_event(1).mask(mask))
            pyro.sample(f"double/{i}", dist.Normal(loc, scale).mask(mask[..., None]).to_event(1))
            with poutine.mask(mask=other):
                pyro.sample(f"under/{i}", dist.Normal(loc, scale).to_event(1))
                pyro.sample(f"both/{i}", dist.Bernoulli(logits=loc[..., i]).mask(mask))
            with poutine.mask(mask=mask[0]):
                pyro.sample(f"row/{i}", dist.Bernoulli(logits=loc[..., i]))
            with poutine.mask(mask=False):
                pyro.sample(f"never/{i}", dist.Bernoulli(logits=loc[..., i]))
            pyro.sample(f"gamma/{i}", dist.Gamma(scale[..., i], 1.0))
            pyro.sample(f"class/{i}", dist.Categorical(logits=loc))
        pyro.sample("matrix", Independent(dist.Normal(torch.zeros(2, 3), 1.0), 2))


def score(trace):
    sites = random_sites(trace)
    return sites, score_sites(sites, ["path"] * len(sites), LAYOUT, "guide")


@pytest.mark.parametrize("validate", [True, False])
def test_every_site_has_pyros_log_probability(validate):
    with pyro.validation_enabled(validate):
        trace = run_program(zoo, LAYOUT, (), {})
        _, scored = score(trace)
        trace.compute_log_prob()
    by_name = scored.by_name()
    for site in random_sites(trace):
        expected = site["log_prob"].expand(K, B)
        torch.testing.assert_close(by_name[site["name"]][0], expected, rtol=1e-12, atol=1e-12)
    total = sum(site["log_prob"].expand(K, B) for site in random_sites(trace))
    torch.testing.assert_close(scored.total("path"), total)
    assert scored.total("score") is None
    assert scored.total_score() is None


def test_alike_sites_are_scored_in_one_call():
    with pyro.validation_enabled(False):
        _, scored = score(run_program(zoo, LAYOUT, (), {}))
    together = {group.names for group in scored.groups if len(group.names) > 1}
    for kind in ("vector", "shared", "scalar", "pixels", "under", "masked", "both", "row"):
        assert any({f"{kind}/{i}" for i in range(3)} <= set(names) for names in together), kind
    assert not any(
        name.startswith(("never", "double", "class", "gamma")) for names in together for name in names
    )


@pytest.mark.parametrize(("limit", "calls"), [(1, 4), (60, 4), (120, 2), (239, 2), (180, 2), (240, 1)])
def test_gradients_are_those_of_single_sites(monkeypatch, limit, calls):
    """Four sites of 60 elements each, in as many calls as the limit asks for."""
    with pyro.validation_enabled(False):
        parameter = torch.randn(5, requires_grad=True)

        def program():
            with pyro.plate("data", B, dim=-1):
                for i in range(4):
                    pyro.sample(f"z/{i}", dist.Normal(parameter * i, torch.exp(parameter)).to_event(1))

        trace = run_program(program, LAYOUT, (), {})
        trace.compute_log_prob()
        monkeypatch.setitem(scoring.STACK_LIMIT, "cpu", limit)
        _, together = score(trace)
    assert len(together.groups) == calls
    by_pyro = sum(trace.nodes[f"z/{i}"]["log_prob"] for i in range(4))
    got, expected = (
        torch.autograd.grad(total.square().sum(), parameter, retain_graph=True)
        for total in (together.total("path"), by_pyro)
    )
    torch.testing.assert_close(got, expected)


def test_roles_are_kept_apart():
    def program():
        with pyro.plate("data", B, dim=-1):
            for i in range(2):
                pyro.sample(f"z/{i}", dist.Bernoulli(0.3))

    with pyro.validation_enabled(False):
        sites = random_sites(run_program(program, LAYOUT, (), {}))
        scored = score_sites(sites, ["latent", "observed"], LAYOUT, "model")
    assert len(scored.groups) == 2


def test_value_outside_the_support_names_its_site(with_values):
    def program():
        with pyro.plate("data", B, dim=-1):
            pyro.sample("rate", dist.Gamma(2.0, 1.0))

    trace = run_program(with_values(program, {"rate": -torch.ones(K, B)}), LAYOUT, (), {})
    with pytest.raises(ValueError, match=r"log-probability of site `rate`: Expected value argument"):
        score(trace)
