"""A prior of how objects move that knows where they were: it goes on, stays, or bounces."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import checks
from ..components.attention import clip_straight_through
from ..components.constants import constant
from ..components.messages import Messages
from ..components.networks import initialise, inverse_softplus, mlp
from ..components.normal_mixture import Mixture, NormalMixture
from ..components.recurrent import GRU
from ..components.slots import TrackedSlots, concatenate
from .discovery import pair
from .propagation import Propagation

COMPONENTS = 3
"""Goes on, stays, bounces."""

FIRST_SHIFT_SCALES = (0.06, 0.3, 0.06)
FIRST_LOGITS = (1.0, -1.0, 0.0)
FIRST_SIZE_SCALE = 0.01
"""What the components start from; in frames of 50 pixels 0.06 is a pixel and a half."""


class Motion(NamedTuple):
    """What is remembered of an object besides the state of the recurrent network."""

    last: Tensor
    """`z_where` one frame before, `(..., 4)`."""
    before_last: Tensor
    """`z_where` two frames before, `(..., 4)`."""
    known: Tensor
    """Whether there were these frames, 0 or 1, `(..., 2)`."""

    def features(self, where: Tensor) -> Tensor:
        """Place, velocity, acceleration, and whether they are known, of an object at `where`, `(..., 14)`."""
        velocity = self.velocity(where)
        acceleration = self.known[..., 1:] * (velocity - (self.last - self.before_last))
        return torch.cat([where, 5 * velocity, 5 * acceleration, self.known], dim=-1)

    def velocity(self, where: Tensor) -> Tensor:
        """Change since the last frame, 0 for an object that is new, `(..., 4)`."""
        return self.known[..., :1] * (where - self.last)

    def next(self, where: Tensor) -> Motion:
        """The same, one frame later."""
        known = torch.cat([torch.ones_like(self.known[..., :1]), self.known[..., :1]], dim=-1)
        return Motion(where, self.last, known)


MOTION_SIZES = (4, 4, 2)


class MotionPrior(nn.Module):
    r"""Places as a mixture of three normals: the object goes on, stays, or bounces. Looks stay as they are.

    With place $p_t$ (the shifts of `z_where`), velocity $v_t = p_t - p_{t-1}$, and what a GRU that has seen
    places, velocities and accelerations says ($\delta_k$, $\rho$, $\sigma_k$, $w$; no `z_what`, on which a
    network overfits),

    $$ p(p_{t+1}) = w_1 N(p_t + v_t + \delta_1, \sigma_1^2) + w_2 N(p_t + \delta_2, \sigma_2^2)
       + w_3 N(p_t + \rho v_t + \delta_3, \sigma_3^2), \quad \rho \in (-1, 1)^2: $$

    what is reflected within a frame moves by a part of its velocity, between the whole of it and its
    opposite, on each axis by another. Sizes are those of the frame before plus a small learned step, the same
    in all components; in long videos they must also go back to a mean, or an object that stands beside
    another grows step by step until it is both. Means stay within `reach`, so that an object cannot leave for
    where nothing speaks against it.

    It starts as a sharp prior of constant velocity, and can be fitted to tracks alone, see `track_log_probs`
    and `TrackLikelihood`. All slots are predicted at once. Objects are independent, or with `messages` told
    of each other, as in `RelationalPropagationPrior`: what collides bounces.

    Args:
        hidden_size: D of the GRU.
        presence_bias: constant added to the logit of staying, as of `RecurrentPropagationPrior`.
        reach: greatest magnitude of a mean shift, or of that of each axis, as in `z_where`: with windows of
            reach 2, 1.85 is just out of sight.
        shift_floor: least standard deviation of shifts.
        size_floor: least standard deviation of size logits.
        size: mean of the size logits, x before y, to which sizes go back.
        size_pull: by which share of the difference they do in each frame.
        size_step: standard deviation of the change of size logits in a frame, at first.
        anywhere: whether objects move alike wherever they are: the networks see velocities and sizes, but not
            the shifts. In parts of a larger scene a place means nothing.
        messages: what objects are told of each other, one more input of the networks; by default nothing.

    Raises:
        ValueError: if objects are to move alike anywhere, and to be told of places by messages, or a number
            is impossible.
    """

    def __init__(
        self,
        hidden_size: int = 256,
        presence_bias: float = 10.0,
        reach: float | tuple[float, float] = 1.85,
        shift_floor: float = 0.005,
        size_floor: float = 0.002,
        size: float | tuple[float, float] = 0.0,
        size_pull: float = 0.0,
        size_step: float = FIRST_SIZE_SCALE,
        anywhere: bool = False,
        messages: Messages | None = None,
    ) -> None:
        super().__init__()
        if anywhere and messages is not None:
            raise ValueError("`anywhere` keeps places from the networks, and `messages` tell them")
        checks.positive(shift_floor=shift_floor, size_floor=size_floor, reach=pair(reach))
        checks.finite(size=pair(size), presence_bias=presence_bias)
        checks.within("[0, 1]", size_pull=size_pull)
        if not size_step > size_floor:
            raise ValueError(f"`size_step` must be above `size_floor`, got {size_step} and {size_floor}.")
        self.messages = messages
        self.per_object = messages is None
        self.presence_bias = presence_bias
        self.reach = pair(reach)
        self.size = pair(size)
        self.size_pull = size_pull
        self.size_step = size_step
        self.anywhere = anywhere
        self.shift_floor = shift_floor
        self.size_floor = size_floor
        inputs = 4 + 4 + 4 + 2 + (0 if messages is None else messages.size)
        self.rnn = GRU(inputs, hidden_size)
        self.sizes = (2, 2, 2 * COMPONENTS, 2 * COMPONENTS, COMPONENTS, 2)
        self.head = mlp([hidden_size + inputs, hidden_size, sum(self.sizes)], nn.ELU)
        self.presence = nn.Linear(hidden_size, 1)
        self._start()

    def _start(self) -> None:
        initialise(self.head)
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(0.1)
            _, raw_size, _, raw_shift, logits, _ = last.bias.split(self.sizes)
            raw_size.fill_(inverse_softplus(self.size_step - self.size_floor))
            scales = [inverse_softplus(scale - self.shift_floor) for scale in FIRST_SHIFT_SCALES]
            raw_shift.copy_(torch.tensor(scales).repeat_interleave(2))
            logits.copy_(torch.tensor(FIRST_LOGITS))
            self.presence.weight.zero_()
            self.presence.bias.zero_()

    @property
    def initial_memory(self) -> Tensor:
        """State of an object that was just discovered: the GRU's, and nothing known of its past."""
        return torch.cat([self.rnn.initial, self.rnn.initial.new_zeros(sum(MOTION_SIZES))])

    def forward(self, slots: TrackedSlots) -> Propagation:
        """Predict all slots at once."""
        if self.messages is None:
            return self.predict(slots.z_where, slots.memory)
        _, last, _, known = slots.memory.split([self.rnn.hidden_size, *MOTION_SIZES], dim=-1)
        told = self.messages(slots, torch.cat([last, known[..., :1]], dim=-1))
        return self.predict(slots.z_where, slots.memory, told)

    def predict(self, where: Tensor, memory: Tensor, message: Tensor | None = None) -> Propagation:
        """What follows a place, given what is remembered.

        Args:
            where: `z_where`, `(..., 4)`.
            memory: `(..., D')`, as the initial memory or that of the last prediction.
            message: what the object is told, `(..., M)`, where there are `messages`.
        """
        hidden, *past = memory.split([self.rnn.hidden_size, *MOTION_SIZES], dim=-1)
        motion = Motion(*past)
        features = motion.features(where)
        if self.anywhere:
            size, _, rest = features.split([2, 2, features.shape[-1] - 4], dim=-1)
            features = torch.cat([size, torch.zeros_like(size), rest], dim=-1)
        if message is not None:
            features = concatenate(features, message)
        hidden = self.rnn(features, hidden)
        said = self.head(concatenate(hidden, features)).split(self.sizes, dim=-1)
        size, raw_size, shift, raw_shift, logits, bounce = said
        pairs = (*shift.shape[:-1], COMPONENTS, 2)
        before = where[..., :2]
        back = self.size_pull * (constant(self.size, before) - before)
        size_loc = (before + back + 0.005 * size).unsqueeze(-2).expand(pairs)
        size_scale = (F.softplus(raw_size) + self.size_floor).unsqueeze(-2).expand(pairs)
        step = motion.velocity(where)[..., 2:]
        steps = torch.stack([step, torch.zeros_like(step), bounce.tanh() * step], dim=-2)
        loc = where[..., None, 2:] + steps + 0.1 * shift.unflatten(-1, (COMPONENTS, 2))
        reach = constant(self.reach, loc)
        loc = clip_straight_through(loc, -reach, reach)
        scale = F.softplus(raw_shift).unflatten(-1, (COMPONENTS, 2)) + self.shift_floor
        mixture = Mixture(torch.cat([size_loc, loc], dim=-1), torch.cat([size_scale, scale], dim=-1), logits)
        logit = self.presence(hidden).squeeze(-1) + self.presence_bias
        memory = concatenate(hidden, *motion.next(where))
        return Propagation(logit, mixture, None, memory)

    def track_log_probs(self, tracks: Tensor) -> Tensor:
        """Log-density of each place of whole tracks given those before it, in nats: `(R, T - 1)`.

        It is what a model with this prior adds up for objects that are discovered in the first of T frames
        and stay; minus its sum is a loss that fits the prior alone. For objects that are told nothing.

        Args:
            tracks: `z_where` of R objects in T frames, `(R, T, 4)`.
        """
        memory = self.initial_memory.expand(len(tracks), -1)
        log_probs = []
        for before, now in zip(tracks.unbind(1)[:-1], tracks.unbind(1)[1:], strict=True):
            predicted = self.predict(before, memory)
            memory = predicted.memory
            log_probs.append(NormalMixture(*Mixture.of(predicted.where)).log_prob(now))
        return torch.stack(log_probs, dim=1) if log_probs else tracks.new_zeros(len(tracks), 0)
