"""The plain-torch loss is the objective's arithmetic: its value, and every gradient."""

import itertools

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor

from whatwhere.benchmarks.sqair_reference import SQAIRReference
from whatwhere.examples.sqair import NetworkConfig, PriorConfig, Programs, build
from whatwhere.inference.objectives import VIMCO

NETWORK = NetworkConfig(image_shape=(1, 12, 12), what_size=3, glimpse_size=5, hidden=8, narrow=6)
PRIORS = [PriorConfig(), PriorConfig(propagation="guided", where="fixed")]


def small_pair(prior: PriorConfig, dtype: torch.dtype) -> Programs:
    """Programs under which objects come, stay and go."""
    programs = build(NETWORK, prior, torch.rand(1, 12, 12))
    with torch.no_grad():
        for parameter in dict.fromkeys([*programs.model.parameters(), *programs.guide.parameters()]):
            parameter += 0.1 * torch.randn_like(parameter)
        programs.guide.propagation.presence_head[-1].bias.fill_(0.0)
        programs.guide.discovery.presence_head[-1].bias.fill_(0.0)
        programs.model.discovery.count_prior.later_bias[0] = 1.0
    for program in programs:
        program.to(dtype)
    return programs


def videos(dtype: torch.dtype) -> Tensor:
    return torch.rand(600, 3, 1, 12, 12, dtype=dtype)


def value_and_gradients(loss: Tensor, programs: Programs) -> tuple[Tensor, dict[str, Tensor]]:
    named = {f"{i}.{name}": p for i, program in enumerate(programs) for name, p in program.named_parameters()}
    gradients = torch.autograd.grad(loss, list(named.values()))
    return loss.detach(), dict(zip(named, gradients, strict=True))


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prior", PRIORS)
def test_reference_equals_the_objective_through_pyro(prior: PriorConfig, dtype: torch.dtype, validate: bool):
    programs = small_pair(prior, dtype)
    video = videos(dtype)
    torch.manual_seed(1)
    expected = value_and_gradients(SQAIRReference(*programs)(video), programs)
    torch.manual_seed(1)
    with pyro.validation_enabled(validate):
        got = value_and_gradients(VIMCO(5, reduction="mean")(*programs)(video)[0], programs)
    rtol, atol = (1e-11, 1e-11) if dtype == torch.float64 else (1e-3, 1e-3)
    torch.testing.assert_close(got, expected, rtol=rtol, atol=atol)
    assert all(gradient.abs().max() > 0 for gradient in expected[1].values())


def test_every_combination_of_presences_occurs_in_the_comparison():
    """Objects that stay, any subset of those before, and any number of new ones in the slots left free."""
    guide = small_pair(PRIORS[0], torch.float64).guide
    video = videos(torch.float64)
    torch.manual_seed(1)
    with pyro.plate("particles", 5, dim=-2):
        trace = poutine.trace(guide).get_trace(video)

    def presences(phase: str, t: int) -> Tensor:
        slots = [trace.nodes[f"{phase}/z_pres/{t}/{i}"]["value"] for i in range(NETWORK.max_count)]
        return torch.stack(slots, -1).flatten(0, -2)

    before, seen = presences("discovery", 0).sum(-1), set()
    for t in (1, 2):
        stays, new = presences("propagation", t), presences("discovery", t).sum(-1)
        seen |= set(zip(before.tolist(), map(tuple, stays.tolist()), new.tolist(), strict=True))
        before = stays.sum(-1) + new
    slots = range(NETWORK.max_count + 1)
    possible = {
        (count, stays, new)
        for count, new in itertools.product(slots, slots)
        for stays in itertools.product((0, 1), repeat=NETWORK.max_count)
        if not any(stays[count:]) and sum(stays) + new <= NETWORK.max_count
    }
    assert len(possible) == 4 + (4 + 3) + (4 + 2 * 3 + 2) + (4 + 3 * 3 + 3 * 2 + 1)
    assert seen == possible


def test_model_and_guide_must_share_the_latent_encoder():
    model, _ = small_pair(PRIORS[0], torch.float32)
    _, guide = small_pair(PRIORS[0], torch.float32)
    with pytest.raises(ValueError, match="share one latent encoder"):
        SQAIRReference(model, guide)
