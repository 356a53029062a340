"""Every generative model with Pyro's own objectives and tools."""

import itertools
from typing import Any

import pyro.infer
import pytest
import torch
from pyro import poutine
from torch import Tensor

from whatwhere.inference.objectives import NVIL, Reinforce, local_parameters
from whatwhere.inference.objectives.substitute import Substitute


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


def exact_elbo(pair: Any, presence: dict[str, Tensor], seed: int) -> tuple[Tensor, Tensor]:
    """Probability of a combination for the guide, and log p - log q, with the continuous draws of a seed."""
    torch.manual_seed(seed)
    q = poutine.trace(with_presences(pair.guide, presence)).get_trace(pair.data)
    p = poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(pair.data)
    for trace in (q, p):
        trace.compute_log_prob()
    probability = sum(q.nodes[name]["log_prob"] for name in presence).sum().exp()
    return probability, p.log_prob_sum() - q.log_prob_sum()


@pytest.mark.parametrize(
    "objective",
    [pyro.infer.Trace_ELBO(), pyro.infer.TraceGraph_ELBO(), Reinforce(), NVIL()],
    ids=lambda objective: type(objective).__name__,
)
@pytest.mark.parametrize("name", ["AIR", "SQAIR", "SequenceAIR"])
def test_expected_gradient_of_the_elbo_with_the_presences_enumerated(name, objective, make_generative):
    """Exact for given noise of the continuous variables; the unused draws of a guide must cancel."""
    pair = make_generative(name, count=1 if name == "SQAIR" else 2, frames=2 if name == "SQAIR" else 1)
    pair = pair._replace(data=pair.data[:1])
    if name == "AIR" and not isinstance(objective, NVIL):
        pair.guide.baseline = None
    modules = torch.nn.ModuleList([pair.model, pair.guide])
    learned = [
        p for n, p in dict(modules.named_parameters()).items() if "baseline" not in n and p.requires_grad
    ]
    bound, expected = torch.zeros(()).double(), [torch.zeros_like(p) for p in learned]
    with local_parameters(pair.model, pair.guide):
        for presence in possible_presences(pair):
            probability, cost = exact_elbo(pair, presence, seed=3)
            bound = bound + probability * cost
            torch.manual_seed(3)
            modules.zero_grad()
            objective.loss_and_grads(pair.model, with_presences(pair.guide, presence), pair.data)
            for total, parameter in zip(expected, learned, strict=True):
                if parameter.grad is not None:
                    total -= probability.detach() * parameter.grad
    exact = torch.autograd.grad(bound, learned, allow_unused=True)
    for got, gradient in zip(expected, exact, strict=True):
        torch.testing.assert_close(
            got, torch.zeros_like(got) if gradient is None else gradient, rtol=1e-6, atol=1e-6
        )
