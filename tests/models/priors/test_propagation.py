"""Priors of how objects go on, by hand from their weights."""

import math

import pytest
import torch
import torch.nn.functional as F

from whatwhere.models.components.slots import TrackedSlots
from whatwhere.models.priors import GuidedPropagationPrior, RecurrentPropagationPrior

BIAS = 4.0


def slots() -> TrackedSlots:
    torch.manual_seed(1)
    where, what, memory = (torch.randn(5, 2, size).double() for size in (4, 3, 6))
    return TrackedSlots(torch.ones(5, 2).double(), where, what, memory, torch.zeros(5, 2).long())


def by_hand(prior: RecurrentPropagationPrior, given: TrackedSlots) -> tuple[torch.Tensor, torch.Tensor]:
    """The GRU's next state, and the linear readout of it."""
    rnn, x = prior.rnn, torch.cat([given.z_what, given.z_where], -1)
    w, b = rnn.from_input.weight, rnn.from_input.bias
    z, r, new = (x @ part.T + bias for part, bias in zip(w.chunk(3), b.chunk(3), strict=True))
    u_z, u_r = rnn.gates_from_hidden.weight.chunk(2)
    z, r = (z + given.memory @ u_z.T).sigmoid(), (r + given.memory @ u_r.T).sigmoid()
    new = (new + (r * given.memory) @ rnn.candidate_from_hidden.weight.T).tanh()
    memory = (1 - z) * given.memory + z * new
    return memory, memory @ prior.readout.weight.T + prior.readout.bias


def test_the_recurrent_prior_by_hand():
    prior, given = RecurrentPropagationPrior(3, 6, BIAS).double(), slots()
    predicted = prior(given)
    memory, said = by_hand(prior, given)
    torch.testing.assert_close(predicted.memory, memory)
    torch.testing.assert_close(predicted.logits, said[..., 0] + BIAS)
    torch.testing.assert_close(predicted.where.loc, said[..., 1:5])
    torch.testing.assert_close(predicted.what.loc, said[..., 5:8])
    torch.testing.assert_close(predicted.where.scale, F.softplus(said[..., 8:12]) + 0.01)
    torch.testing.assert_close(predicted.what.scale, F.softplus(said[..., 12:]) + 0.01)


def test_the_guided_prior_moves_objects_from_where_they_are():
    prior, given = GuidedPropagationPrior(3, 6, BIAS, update_scale=0.3).double(), slots()
    predicted = prior(given)
    _, said = by_hand(prior, given)
    torch.testing.assert_close(predicted.logits, said[..., 0] + BIAS)
    torch.testing.assert_close(predicted.where.loc, given.z_where + 0.3 * said[..., 1:5])
    torch.testing.assert_close(predicted.what.loc, given.z_what + 0.3 * said[..., 5:8])
    torch.testing.assert_close(predicted.where.scale, F.softplus(said[..., 8:12]) + 0.01)
    still = GuidedPropagationPrior(3, 6, update_scale=0.0).double()(given)
    torch.testing.assert_close((still.where.loc, still.what.loc), (given.z_where, given.z_what))


def test_objects_stay_at_first():
    """With its default bias but for one in 20,000."""
    prior = RecurrentPropagationPrior(3, 6).double()
    with torch.no_grad():
        prior.readout.weight.zero_()
    leaves = (-prior(slots()).logits).sigmoid()
    torch.testing.assert_close(leaves, torch.full_like(leaves, 1 / (1 + math.exp(10))))
    assert leaves[0, 0].item() == pytest.approx(1 / 22_027, rel=1e-3)


def test_each_slot_is_predicted_alone():
    prior, given = RecurrentPropagationPrior(3, 6).double(), slots()
    assert prior.per_object
    alone = prior(TrackedSlots(*(field[2, 1] for field in given)))
    torch.testing.assert_close(prior(given).where.loc[2, 1], alone.where.loc)
