"""The prior of motion against its formula, object by object, and in a model."""

import math

import pytest
import torch
from torch import Tensor

from whatwhere.models.components.slots import TrackedSlots
from whatwhere.models.priors import MotionPrior


def wild(hidden: int = 5) -> MotionPrior:
    torch.manual_seed(0)
    prior = MotionPrior(hidden).double()
    for parameter in prior.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return prior


def slow_log_probs(prior: MotionPrior, track: list[Tensor]) -> list[float]:
    """One object, one component and one axis after the other."""
    hidden, said = prior.rnn.initial, []
    for t in range(1, len(track)):
        where = track[t - 1]
        velocity = where - track[t - 2] if t > 1 else torch.zeros(4).double()
        before = track[t - 2] - track[t - 3] if t > 2 else torch.zeros(4).double()
        acceleration = velocity - before if t > 2 else torch.zeros(4).double()
        known = torch.tensor([float(t > 1), float(t > 2)]).double()
        features = torch.cat([where, 5 * velocity, 5 * acceleration, known])
        hidden = prior.rnn(features, hidden)
        out = prior.head(torch.cat([hidden, features])).tolist()
        size, raw_size, shift, raw_shift, logits, bounce = (
            [out.pop(0) for _ in range(n)] for n in (2, 2, 6, 6, 3, 2)
        )
        terms = []
        shares = ((1.0, 1.0), (0.0, 0.0), tuple(map(math.tanh, bounce)))  # of the velocity
        for k, share in enumerate(shares):
            term = math.log(torch.tensor(logits).softmax(0)[k].item())
            for axis in range(4):
                if axis < 2:
                    loc = where[axis] + 0.005 * size[axis]
                    scale = math.log1p(math.exp(raw_size[axis])) + prior.size_floor
                else:
                    a = axis - 2
                    loc = where[axis] + share[a] * velocity[axis] + 0.1 * shift[2 * k + a]
                    loc = loc.clamp(-prior.reach[a], prior.reach[a])
                    scale = math.log1p(math.exp(raw_shift[2 * k + a])) + prior.shift_floor
                term += torch.distributions.Normal(loc, scale).log_prob(track[t][axis]).item()
            terms.append(term)
        said.append(torch.tensor(terms).logsumexp(0).item())
    return said


def test_log_probs_of_tracks_equal_a_loop():
    prior = wild()
    tracks = torch.randn(4, 5, 4).double()
    expected = [slow_log_probs(prior, list(track)) for track in tracks]
    torch.testing.assert_close(
        prior.track_log_probs(tracks), torch.tensor(expected).double(), rtol=1e-5, atol=1e-5
    )


def test_slots_know_nothing_of_each_other():
    prior = wild()
    where, memory = torch.randn(2, 3, 4).double(), prior.initial_memory.expand(2, 3, -1)
    slots = TrackedSlots(torch.ones(2, 3), where, torch.randn(2, 3, 7), memory, torch.zeros(2, 3))
    together = prior(slots)
    for n in range(3):
        alone = prior(TrackedSlots(*(field[:, n : n + 1] for field in slots)))
        torch.testing.assert_close(together.where.slot(n), alone.where.slot(0))
        torch.testing.assert_close(together.memory[:, n], alone.memory[:, 0])
    assert together.what is None


def test_it_starts_as_a_prior_of_constant_velocity():
    prior = MotionPrior(8).double()
    for parameter in prior.head[0].parameters():
        parameter.data.zero_()
    past = torch.tensor([[-0.5, -0.5, 0.1, 0.0], [-0.5, -0.5, 0.2, -0.1]]).double()
    first = prior.predict(past[0], prior.initial_memory)
    second = prior.predict(past[1], first.memory)
    torch.testing.assert_close(first.where.loc, past[0].expand(3, 4))
    expected = past[1].repeat(3, 1)
    expected[0, 2:] += torch.tensor([0.1, -0.1])
    torch.testing.assert_close(second.where.loc, expected)
    assert second.where.logits.argmax() == 0
    torch.testing.assert_close(second.where.scale[0, 2:], torch.full((2,), 0.06).double())
    torch.testing.assert_close(second.where.scale[:, :2], torch.full((3, 2), 0.01).double())
    assert second.logits.item() == pytest.approx(10)


def test_how_much_sizes_change_at_first_is_given():
    prior = MotionPrior(8, size_step=0.2).double()
    scale = prior.predict(torch.zeros(4).double(), prior.initial_memory).where.scale
    torch.testing.assert_close(scale[:, :2], torch.full((3, 2), 0.2).double(), rtol=0.05, atol=0)
    torch.testing.assert_close(scale[0, 2:], torch.full((2,), 0.06).double(), rtol=0.05, atol=0)


def test_means_stay_within_reach_and_can_come_back():
    prior = wild()
    where = torch.tensor([0.0, 0.0, 5.0, -5.0]).double().requires_grad_()
    predicted = prior.predict(where, prior.initial_memory).where.loc[:, 2:]
    assert (predicted.abs() <= torch.tensor(prior.reach)).all()
    predicted.sum().backward()
    assert where.grad[2:].abs().min() > 0


def test_scales_never_fall_below_their_floors():
    prior = MotionPrior(4, shift_floor=0.01, size_floor=0.003)
    prior.head[-1].bias.data.fill_(-200.0)
    scale = prior.predict(torch.zeros(4), prior.initial_memory).where.scale
    torch.testing.assert_close(scale, torch.tensor([0.003, 0.003, 0.01, 0.01]).expand(3, 4))


def test_a_prior_fitted_to_straight_tracks_foretells_them():
    torch.manual_seed(0)
    prior = MotionPrior(16)
    start, velocity = 0.5 * torch.randn(200, 1, 4), 0.1 * torch.randn(200, 1, 4)
    velocity[..., :2] = 0
    tracks = start + velocity * torch.arange(6.0)[:, None] + 0.003 * torch.randn(200, 6, 4)
    optimizer = torch.optim.Adam(prior.parameters(), 3e-3)
    before = prior.track_log_probs(tracks).mean().item()
    for _ in range(40):
        loss = -prior.track_log_probs(tracks[:150]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = prior.track_log_probs(tracks[150:])
    assert after.mean() > before + 1
    assert after[:, 1:].mean() > after[:, 0].mean() + 1  # the first step's velocity is not known


def test_sizes_go_back_by_a_share_of_what_they_are_off():
    """All components alike, and shifts are what they were."""
    free = wild()
    bound = MotionPrior(5, size=(-1.0, 0.5), size_pull=0.2).double()
    bound.load_state_dict(free.state_dict())
    where, memory = torch.randn(3, 4).double(), free.initial_memory.expand(3, -1)
    said, pulled = (prior.predict(where, memory).where for prior in (free, bound))
    moved = pulled.loc - said.loc
    back = 0.2 * (torch.tensor([-1.0, 0.5]).double() - where[:, :2])
    torch.testing.assert_close(moved[..., :2], back.unsqueeze(1).expand(3, 3, 2))
    torch.testing.assert_close(moved[..., 2:], torch.zeros(3, 3, 2).double())


@pytest.mark.parametrize(
    "bad", [{"reach": math.nan}, {"size_pull": 7.0}, {"shift_floor": -1.0}, {"size_step": 0.001}]
)
def test_numbers_that_cannot_be_are_refused(bad: dict[str, float]):
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}` must be"):
        MotionPrior(8, **bad)


def test_a_track_of_one_frame_goes_nowhere():
    assert MotionPrior(8).track_log_probs(torch.zeros(3, 1, 4)).shape == (3, 0)
