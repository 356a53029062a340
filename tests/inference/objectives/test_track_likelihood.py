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


def hidden_in_the_middle(model: SQAIR, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tracks, all the same, of two objects, the first of which is not seen in the second frame of three."""
    z_pres, z_where, z_what = (value[:1].repeat_interleave(rows, 0) for value in tracks())
    seen = torch.ones(rows, FRAMES, SLOTS)
    seen[:, 1, 0] = 0
    return z_pres, seen, z_where, z_what


def test_hidden_places_are_draws_from_their_posterior():
    """Their mean is that of places that the prior draws, weighted by what is seen afterwards, one by one."""
    torch.manual_seed(3)
    model = made()
    z_pres, seen, z_where, z_what = hidden_in_the_middle(model, 1500)
    with torch.no_grad():
        completed, same = TrackLikelihood(model).complete(z_pres, seen, z_where, z_what, particles=400)
        prior, ones, identity = model.propagation_prior, torch.ones(100_000), torch.zeros(100_000)
        many = [value[:1].expand(100_000, *value.shape[1:]) for value in (z_where, z_what)]
        memory = prior.initial_memory.expand(100_000, -1)
        said = prior(TrackedSlots(ones, many[0][:, 0, 0], many[1][:, 0, 0], memory, identity))
        drawn = torch.distributions.Normal(*said.where).sample()
        said = prior(TrackedSlots(ones, drawn, many[1][:, 1, 0], said.memory, identity))
        weight = torch.distributions.Normal(*said.where).log_prob(many[0][:, 2, 0]).sum(-1)
        weight = weight + torch.distributions.Normal(*said.what).log_prob(many[1][:, 2, 0]).sum(-1)
        weight = weight.softmax(0).unsqueeze(-1)
    mean = (weight * drawn).sum(0)
    deviation = (weight * (drawn - mean).square()).sum(0).sqrt()
    prior_mean = drawn.mean(0)
    assert ((mean - prior_mean).abs() > 0.2 * deviation).any()  # or it would be no test of weights
    found = completed[:, 1, 0]
    assert ((found.mean(0) - mean) / deviation).abs().max() < 0.12
    torch.testing.assert_close(found.std(0), deviation, rtol=0.08, atol=0.0)
    assert torch.equal(same, z_what)


def test_what_is_seen_stays_where_it_is():
    model = made()
    z_pres, seen, *values = hidden_in_the_middle(model, 5)
    seen[1] = 1
    z_pres[2, 0] = 0
    with torch.no_grad():
        places, _ = TrackLikelihood(model).complete(z_pres, seen, *values)
    changed = (places != values[0]).any(-1).nonzero().tolist()
    assert changed == [[0, 1, 0], [3, 1, 0], [4, 1, 0]]


def test_where_everything_is_seen_nothing_is_drawn():
    model, (z_pres, *values) = made(), tracks()
    before = torch.random.get_rng_state()
    completed = TrackLikelihood(model).complete(z_pres, torch.ones(TRACKS, FRAMES, SLOTS), *values)
    assert all(torch.equal(a, b) for a, b in zip(completed, values, strict=True))
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(ValueError, match="particles"):
        TrackLikelihood(model).complete(z_pres, torch.ones(TRACKS, FRAMES, SLOTS), *values, particles=0)
