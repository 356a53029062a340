from typing import Any

import pytest
import torch
from torch import Tensor

from whatwhere.examples.parts.sqair_config import NetworkConfig, PriorConfig
from whatwhere.examples.parts.sqair_programs import build
from whatwhere.inference.objectives import TrackLikelihood
from whatwhere.models.components.active_set import use_active_set
from whatwhere.models.components.slots import TrackedSlots
from whatwhere.models.sqair import SQAIR

TRACKS, FRAMES, SLOTS, WHAT = 4, 3, 2, 3


def made(**options: Any) -> SQAIR:
    prior = options.pop("propagation", "recurrent")
    network = NetworkConfig("mlp", (1, 12, 12), SLOTS, WHAT, 5, 8, 6, 6, **options)
    model = build(network, PriorConfig(propagation=prior)).model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def tracks() -> tuple[Tensor, Tensor, Tensor]:
    z_pres = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    here = z_pres[:, None, :, None]
    return (
        z_pres,
        here * torch.randn(TRACKS, FRAMES, SLOTS, 4),
        here * torch.randn(TRACKS, FRAMES, SLOTS, WHAT),
    )


def by_hand(model: SQAIR, z_pres: Tensor, z_where: Tensor, z_what: Tensor) -> Tensor:
    """One object after the other, with the prior's own parameters."""
    total = torch.zeros(())
    for track, slot in z_pres.nonzero().tolist():
        memory = model.propagation_prior.initial_memory[None]
        for t in range(1, FRAMES):
            where, what = z_where[track, t - 1, slot][None], z_what[track, t - 1, slot][None]
            said = model.propagation_prior(TrackedSlots(torch.ones(1), where, what, memory, torch.zeros(1)))
            memory = said.memory
            normal = torch.distributions.Normal(*said.where)
            total = total + normal.log_prob(z_where[track, t, slot]).sum()
            normal = torch.distributions.Normal(*said.what)
            total = total + normal.log_prob(z_what[track, t, slot]).sum()
    return total / z_pres.sum()


@pytest.mark.parametrize("active", [True, False])
def test_value_and_gradient_are_those_of_single_objects(active):
    model, data = made(), tracks()
    use_active_set(model, on=active)
    loss, found = TrackLikelihood(model)(*data)
    expected = -by_hand(model, *data)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found.log_likelihood, -loss.detach())
    parameters = list(model.propagation_prior.parameters())
    a, b = (torch.autograd.grad(value, parameters, allow_unused=True) for value in (loss, expected))
    for first, second in zip(a, b, strict=True):
        torch.testing.assert_close(first, second)


def test_a_mixture_of_motions_with_static_looks_is_fitted_as_its_own_likelihood():
    model = made(propagation="motion", looks="static")
    z_pres, z_where, z_what = tracks()
    z_what = z_what[:, :1].expand_as(z_what)
    loss, _ = TrackLikelihood(model)(z_pres, z_where, z_what)
    alone = torch.stack([z_where[track, :, slot] for track, slot in z_pres.nonzero().tolist()])
    torch.testing.assert_close(loss, -model.propagation_prior.track_log_probs(alone).sum(1).mean())


def test_tracks_without_objects_are_no_error():
    z_pres, z_where, z_what = tracks()
    loss, _ = TrackLikelihood(made())(0 * z_pres, 0 * z_where, 0 * z_what)
    assert loss.item() == 0.0


@pytest.mark.parametrize("frames", [0, 1])
def test_tracks_of_less_than_two_frames_are_refused(frames):
    """Nothing goes on in them, and there would be no gradient."""
    z_pres, *values = tracks()
    with pytest.raises(ValueError, match=rf"at least 2 frames.* with {frames}"):
        TrackLikelihood(made())(z_pres, *(value[:, :frames] for value in values))
    loss, _ = TrackLikelihood(made())(z_pres, *(value[:, :2] for value in values))
    assert loss.requires_grad


def test_depths_count_as_the_other_variables():
    model = made(propagation="motion", looks="static", layers=True, background="none")
    z_pres, z_where, z_what = tracks()
    z_what = z_what[:, :1].expand_as(z_what)
    z_depth = torch.randn(TRACKS, FRAMES, SLOTS, 1)
    loss, _ = TrackLikelihood(model)(z_pres, z_where, z_what, z_depth)
    total = torch.zeros(())
    for track, slot in z_pres.nonzero().tolist():
        depths = z_depth[track, :, slot]
        before, after = depths[:-1], depths[1:]
        law = model.propagation_prior.further["z_depth"](before)
        total = total + torch.distributions.Normal(*law).log_prob(after).sum()
        motion = model.propagation_prior.prior
        total = total + motion.track_log_probs(z_where[track, :, slot][None]).sum()
    torch.testing.assert_close(loss, -total / z_pres.sum())
