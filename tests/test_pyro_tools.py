"""Every generative model with Pyro's own objectives and tools."""

import itertools
import math
import re
import zlib
from typing import Any

import pyro.distributions as dist
import pyro.infer
import pyro.optim
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, Predictive
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from pyro.infer.inspect import get_dependencies, get_model_relations
from torch import Tensor

from whatwhere.inference.objectives import NVIL, MarginalELBO, Reinforce, local_parameters
from whatwhere.inference.objectives.sites import base_distribution
from whatwhere.inference.objectives.substitute import Substitute
from whatwhere.models.components.triangular_normal import TriangularNormal


def with_presences(program: Any, presence: dict[str, Tensor]) -> Any:
    return Substitute(lambda site: presence.get(site["name"]))(program)


def possible_presences(pair: Any) -> list[dict[str, Tensor]]:
    """All combinations of the presence variables that can occur."""
    names, found = pair.presences(), []
    for values in itertools.product((0.0, 1.0), repeat=len(names)):
        presence = {
            name: pair.data.new_full((len(pair.data),), value)
            for name, value in zip(names, values, strict=True)
        }
        trace = poutine.trace(with_presences(pair.guide, presence)).get_trace(pair.data)
        if all((trace.nodes[name]["mask"] | (presence[name] == 0)).all() for name in names):
            found.append(presence)
    return found


def with_noise(program: Any) -> Any:
    """Draws continuous variables with noise that is the same in every run, whatever else is drawn."""

    def choose(site: dict[str, Any]) -> Tensor | None:
        fn = base_distribution(site["fn"])
        if not isinstance(fn, (dist.Normal, TriangularNormal)):
            return None
        generator = torch.Generator().manual_seed(zlib.crc32(site["name"].encode()))
        noise = torch.randn(fn.loc.shape[-1:], generator=generator, dtype=fn.loc.dtype)
        if isinstance(fn, TriangularNormal):
            noise = noise @ fn.triangle.matrix.mT
        return fn.loc + fn.scale * noise

    return Substitute(choose)(program)


def exact_elbo(pair: Any) -> Tensor:
    """The ELBO for that noise with the presences summed out, one after the other."""
    total = pair.data.new_zeros(())
    for presence in possible_presences(pair):
        q = poutine.trace(with_noise(with_presences(pair.guide, presence))).get_trace(pair.data)
        p = poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(pair.data)
        for trace in (q, p):
            trace.compute_log_prob()
        probability = sum(q.nodes[name]["log_prob"] for name in presence).sum().exp()
        total = total + probability * (p.log_prob_sum() - q.log_prob_sum())
    return total


def learned(pair: Any) -> list[Tensor]:
    modules = torch.nn.ModuleList([pair.model, pair.guide])
    return [parameter for name, parameter in modules.named_parameters() if "baseline" not in name]


def gradients(loss: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def one_datum(make: Any, name: str) -> Any:
    """A pair with one datum, few enough presences to enumerate, and no baseline, which Pyro would train."""
    pair = make(name, count=2, frames=1) if name != "SQAIR" else make(name, count=1, frames=2)
    if name == "AIR":
        pair.guide.baseline = None
    return pair._replace(data=pair.data[:1])


WITH_PRESENCES = ("AIR", "AIR-evidence", "SQAIR", "SequenceAIR")


@pytest.mark.parametrize(
    "objective",
    [pyro.infer.Trace_ELBO(), pyro.infer.TraceGraph_ELBO(), Reinforce(), NVIL()],
    ids=lambda objective: type(objective).__name__,
)
@pytest.mark.parametrize("name", WITH_PRESENCES)
def test_expected_gradient_of_the_elbo(name, objective, make_generative):
    """The mean over presences is the gradient of the ELBO; what the guide draws and does not use cancels."""
    pair = one_datum(make_generative, name)
    parameters = learned(pair)
    expected = [torch.zeros_like(p) for p in parameters]
    with local_parameters(pair.model, pair.guide):
        for presence in possible_presences(pair):
            guide = with_noise(with_presences(pair.guide, presence))
            trace = poutine.trace(guide).get_trace(pair.data)
            trace.compute_log_prob()
            probability = sum(trace.nodes[name]["log_prob"] for name in presence).sum().exp()
            for parameter in parameters:
                parameter.grad = None
            objective.loss_and_grads(pair.model, guide, pair.data)
            for total, parameter in zip(expected, parameters, strict=True):
                if parameter.grad is not None:
                    total -= probability.detach() * parameter.grad
        exact = gradients(exact_elbo(pair), parameters)
    torch.testing.assert_close(expected, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", WITH_PRESENCES)
def test_presences_enumerated_in_parallel(name, make_generative):
    pair = one_datum(make_generative, name)
    with local_parameters(pair.model, pair.guide):
        guide = with_noise(pyro.infer.config_enumerate(pair.guide, "parallel"))
        loss = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(
            pair.model, guide, pair.data
        )
        exact = exact_elbo(pair)
        torch.testing.assert_close(-loss, exact)
        parameters = learned(pair)
        torch.testing.assert_close(gradients(-loss, parameters), gradients(exact, parameters))


def test_the_marginal_elbo_is_that_of_parallel_enumeration(make_generative):
    pair = make_generative("AIR", count=3)
    pair.guide.baseline = None
    with local_parameters(pair.model, pair.guide):
        loss = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1).loss(
            pair.model, with_noise(pyro.infer.config_enumerate(pair.guide, "parallel")), pair.data
        )
        ours = MarginalELBO().loss(pair.model, with_noise(pair.guide), pair.data)
    assert ours == pytest.approx(loss, rel=1e-10)


def test_dependencies_and_relations_of_every_model(generative):
    prior = get_dependencies(generative.model, (generative.data,))["prior_dependencies"]
    latent = generative.latent()
    observed = [name for name in prior if name not in latent]
    assert {name[0] for name in observed} == {"x"}
    # An image shows what is in it.
    shown = {name for name in latent if re.fullmatch(r"z/1|.*/z_what/1/\d|z_what/\d", name)}
    assert len(shown) == (1 if "z/1" in shown else 4 if len(latent) > 12 else 2)
    assert shown <= set(prior[observed[-1]])
    relations = get_model_relations(generative.model, (generative.data,))
    assert relations["observed"] == observed
    assert set(relations["plate_sample"]["data"]) == set(prior)
    assert set(relations["sample_dist"].values()) <= {"Bernoulli", "Normal", "NormalMixture", "GaussianImage"}


def test_every_model_can_be_rendered(generative):
    pytest.importorskip("graphviz")
    graph = pyro.render_model(generative.model, model_args=(generative.data,), render_distributions=True)
    assert "GaussianImage" in graph.source


def conditioned(pair: Any) -> Any:
    """The model with objects that are there in the first frame and stay."""
    names = pair.presences()
    values = {name: float(not name.startswith("discovery") or name.split("/")[2] == "0") for name in names}
    ones = pair.data.new_ones(len(pair.data))
    return poutine.condition(pair.model, data={name: value * ones for name, value in values.items()})


@pytest.mark.parametrize(
    ("name", "family"),
    [(name, AutoNormal) for name in ("AIR", "SQAIR", "SequenceAIR", "VRNN")]
    + [("AIR", AutoDelta), ("AIR", AutoMultivariateNormal)],
)
def test_guides_that_pyro_makes(name, family, make_generative):
    """Their plates are the model's, so nothing warns; they are trained and guide what they are made for."""
    generative = make_generative(name)
    model = conditioned(generative)
    guide = family(model)
    step = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}), pyro.infer.Trace_ELBO()).step
    assert all(math.isfinite(step(generative.data)) for _ in range(2))


def test_predictions(generative):
    """Latent variables of the guide, or of the prior, and images of the model, in a vectorised run or not."""
    model, guide, data = generative
    sampled = lambda *args: (None, *data.shape[:1]) if data.dim() == 4 else (None, *data.shape[:2])  # noqa: E731
    latent = generative.latent()
    for parallel in (False, True):
        posterior = Predictive(model, guide=guide, num_samples=3, parallel=parallel)(data)
        prior = Predictive(model, num_samples=3, parallel=parallel)(*sampled())
        for drawn in (posterior, prior):
            assert set(latent) <= set(drawn)
            assert all(len(value) == 3 for value in drawn.values())
        image = prior["x"] if "x" in prior else prior["x/0"]
        assert image.shape[-4:] == (2, 1, 12, 12)


def test_no_u_turn_sampler(generative):
    """Of continuous variables, with presences conditioned, and with presences summed out by Pyro."""
    generative.model.eval()
    for model in dict.fromkeys([conditioned(generative), generative.model]):
        kernel = NUTS(
            model,
            max_plate_nesting=1,
            step_size=1e-3,
            adapt_step_size=False,
            adapt_mass_matrix=False,
            max_tree_depth=1,
        )
        chain = MCMC(kernel, num_samples=1, warmup_steps=1, disable_progbar=True)
        chain.run(generative.data)
        assert all(value.isfinite().all() for value in chain.get_samples().values())


def test_subsampled_data_weigh_as_pyro_weighs_them(make_generative):
    """A model and a guide called within a plate of 20 data, of which these are two."""
    pair = make_generative("AIR")
    pair.guide.baseline = None

    def subsampled(program):
        def run(images):
            with pyro.plate("data", 20, subsample_size=2, dim=-1):
                return program(images)

        return run

    losses = []
    for wrap in (lambda program: program, subsampled):
        torch.manual_seed(0)
        with local_parameters(pair.model, pair.guide):
            model, guide = wrap(pair.model), wrap(with_noise(pair.guide))
            ones = {name: torch.ones(2).double() for name in pair.presences()}
            losses.append(pyro.infer.Trace_ELBO().loss(model, with_presences(guide, ones), pair.data))
    assert losses[1] == pytest.approx(10 * losses[0])
