"""Sequential Attend, Infer, Repeat: the inference half.

Kosiorek et al., *Sequential Attend, Infer, Repeat*, 2018, appendix A. In each frame `Propagation` follows the
objects of the frame before, each through a glimpse near where it was, and `Discovery` looks at the whole
image for new ones. Propagation never sees the image as a whole: a network that does swaps identities.

The two are plain modules with Pyro statements: within a called `PyroModule` every use of a network is a
statement for each of its parameters, which costs 4 % of a training step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..models.components.active_set import ActiveSet
from ..models.components.attention import Size, crop, sqair_squash
from ..models.components.frames import Frames
from ..models.components.inputs import require_pixels
from ..models.components.networks import LocScale, fill_output_bias, initialise, mlp
from ..models.components.recurrent import GRU, VanillaRNN
from ..models.components.slots import (
    ABSENT,
    Slots,
    TrackedSlots,
    compact,
    concatenate,
    empty_slots,
    new_identities,
    slots_present,
    stack_slots,
)
from ..models.components.triangular_normal import Triangle, TriangularNormal
from ..models.priors.counts import harmless, slot_presence
from ..models.priors.discovery import MIN_SCALE
from ..models.sqair import LatentEncoder, State
from .exploration import explore


class WhatEncoder(nn.Module):
    """Parameters of `z_what` from a glimpse; one encoder for discovery and propagation.

    Args:
        features: network from glimpses `(..., C, h, w)` to features.
        feature_size: their number.
        what_size: W.
    """

    def __init__(self, features: nn.Module, feature_size: int, what_size: int) -> None:
        super().__init__()
        self.features = features
        self.readout = nn.Linear(feature_size, 2 * what_size)
        initialise(self)

    def forward(self, glimpses: Tensor) -> LocScale:
        """Encode `(..., C, h, w)` to a normal over `(..., W)`."""
        loc, raw_scale = self.readout(self.features(glimpses)).chunk(2, dim=-1)
        return LocScale(loc, F.softplus(raw_scale) + MIN_SCALE)


class Draw(NamedTuple):
    """What was drawn for a slot before its presence was known."""

    possible: Tensor
    """Mask under which it was drawn, `(...)`."""
    place: LocScale
    """Parameters that `z_where` was drawn with, `(..., 4)`."""
    z_where: Tensor
    """`(..., 4)`."""
    look: LocScale
    """Parameters that `z_what` was drawn with, `(..., W)`."""
    z_what: Tensor
    """`(..., W)`."""
    z_pres: Tensor
    """Presence, `(...)`."""

    def slot(self) -> Slots:
        """The slot, zero where it is absent."""
        return slots_present(self.z_pres, self.z_where, self.z_what)


def settle_unused(name: str, draws: list[Draw], where: Callable[..., TorchDistribution]) -> None:
    """Take the log-probability of draws that turned out unused out of the guide again.

    SQAIR's guide draws place and appearance before presence, so under the mask of what is *possible*. Where
    the slot turns out absent they are auxiliary variables: nothing but that decision depends on them, and
    their target is the guide itself, so their terms cancel and the weights stay exact. The statement is a
    factor, so the guide can be replayed and conditioned.

    Args:
        name: name of the factor.
        draws: those of all slots of a frame.
        where: makes the distribution of `z_where` from its parameters.
    """
    leading = draws[0].z_what.shape[:-1]

    def together(values: Iterable[Tensor], *event: int) -> Tensor:
        return torch.stack([value.expand(*leading, *event) for value in values])

    used = together(draw.z_pres for draw in draws) >= together(draw.possible for draw in draws)
    log_prob = torch.zeros_like(used, dtype=draws[0].z_what.dtype)
    for make, parameters, values in (
        (where, [draw.place for draw in draws], [draw.z_where for draw in draws]),
        (_diagonal_normal, [draw.look for draw in draws], [draw.z_what for draw in draws]),
    ):
        size = values[0].shape[-1]
        loc, scale = (together(column, size) for column in zip(*parameters, strict=True))
        log_prob = log_prob + make(loc, scale).log_prob(together(values, size))
    pyro.factor(name, -log_prob.masked_fill(used, 0.0).sum(0), has_rsample=True)


def _diagonal_normal(loc: Tensor, scale: Tensor) -> TorchDistribution:
    return dist.Normal(loc, scale).to_event(1)


class Placed(NamedTuple):
    """Where a slot may be."""

    hidden: Tensor
    """State of the recurrent network that runs over slots, `(..., D)`."""
    where: LocScale
    """Parameters of `z_where`, `(..., 4)`."""


class Discovery(ActiveSet, nn.Module):
    """Finds new objects, one after the other: where, what, and whether there is one at all.

    Args:
        image_encoder: features of a frame, `(B, C, H, W)` to `(B, F)`.
        what_encoder: shared with `Propagation`.
        feature_size: F.
        context_size: features of the summary of the propagated objects.
        max_count: N.
        what_size: W.
        glimpse_size: height and width of the crops.
        hidden: width of the recurrent network and of the hidden layers.
        presence_hidden: width of the hidden layer of the presence network.
        presence_bias: initial logit of presence.
        scale_bias: initial offset of the raw standard deviation of `z_where`; learned.
        hold: whether `hold` may be other than zero.

    Attributes:
        hold: share of decisions after the first frame that are taken for "nothing new" in training mode, in
            [0, 1), see `SQAIRGuide`; a buffer, to be annealed, or None if it is always zero.
    """

    hold: Tensor | None

    def __init__(
        self,
        image_encoder: nn.Module,
        what_encoder: WhatEncoder,
        feature_size: int = 256,
        context_size: int = 256,
        max_count: int = 3,
        what_size: int = 50,
        glimpse_size: Size = (20, 20),
        hidden: int = 256,
        presence_hidden: int = 128,
        presence_bias: float = 1.0,
        scale_bias: float = -3.0,
        hold: bool = False,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.what_encoder = what_encoder
        self.rnn = VanillaRNN(feature_size + context_size, what_size + 5, hidden)
        self.where_head = mlp([hidden, hidden, hidden, 8], nn.ELU)
        self.scale_bias = nn.Parameter(torch.tensor(scale_bias))
        self.presence_head = mlp([hidden + what_size, presence_hidden, 1], nn.ELU)
        initialise(self.image_encoder, self.where_head, self.presence_head)
        fill_output_bias(self.presence_head, presence_bias)
        # It follows from the step, so checkpoints do not have it.
        self.register_buffer("hold", torch.tensor(0.0) if hold else None, persistent=False)
        self.context_size = context_size
        self.max_count = max_count
        self.what_size = what_size
        self.glimpse_size = glimpse_size

    def forward(self, t: int, image: Tensor, features: Tensor, summary: Tensor, free: Tensor) -> Slots:
        """The statements of frame `t`.

        Args:
            t: number of the frame, from 0.
            image: `(B, C, H, W)`.
            features: `image_encoder(image)`.
            summary: of the propagated objects.
            free: number of free slots, `(...)`; more cannot be discovered.
        """
        early = self.rnn.project(concatenate(features, summary))
        hidden = self.rnn.initial
        start = early.new_zeros(*free.shape, 4 + self.what_size)
        slot = Slots(torch.ones_like(free), start[..., :4], start[..., 4:])
        hold = self.hold if t > 0 and self.training else None
        draws, slots = [], []
        for j in range(self.max_count):
            possible = slot.z_pres * (free > j)
            hidden, place = self.where_present(self._place, possible, early, slot.features(), hidden)
            draws.append(self._draw(f"discovery/{{}}/{t}/{j}", image, hidden, place, possible, hold))
            slot = draws[-1].slot()
            slots.append(slot)
        settle_unused(f"discovery/unused/{t}", draws, _diagonal_normal)
        return stack_slots(slots)

    def _place(self, early: Tensor, previous: Tensor, hidden: Tensor) -> Placed:
        hidden = self.rnn(early, previous, hidden)
        loc, raw_scale = self.where_head(hidden).chunk(2, dim=-1)
        return Placed(hidden, LocScale(loc, F.softplus(raw_scale + self.scale_bias) + MIN_SCALE))

    def _look(self, image: Tensor, z_where: Tensor) -> LocScale:
        return self.what_encoder(crop(image, sqair_squash(z_where), self.glimpse_size))

    def _decide(self, hidden: Tensor, z_what: Tensor) -> Tensor:
        return self.presence_head(concatenate(hidden, z_what))

    def _draw(
        self,
        name: str,
        image: Tensor,
        hidden: Tensor,
        place: LocScale,
        possible: Tensor,
        hold: Tensor | None,
    ) -> Draw:
        with poutine.mask(mask=possible > 0):
            place = harmless(place, possible)
            z_where = pyro.sample(name.format("z_where"), _diagonal_normal(*place))
            look = harmless(self.where_present(self._look, possible, z_where, images=image), possible)
            z_what = pyro.sample(name.format("z_what"), _diagonal_normal(*look))
            logit = self.where_present(self._decide, possible, hidden, z_what).squeeze(-1)
            if hold is not None:
                logit = explore(logit, hold, towards=0.0)
            z_pres = pyro.sample(name.format("z_pres"), slot_presence(logit, possible))
        return Draw(possible, place, z_where, look, z_what, z_pres)


class Anticipation(NamedTuple):
    """What propagation knows of a slot before it looks at the others."""

    mask: Tensor
    """Weights of the glimpse's pixels, `(..., h w)`."""
    relation: Tensor
    """Early part of the relation network's input, projected, `(..., D)`."""


class Seen(NamedTuple):
    """What a followed object looks like, where it is now."""

    what: LocScale
    """Parameters of `z_what`, `(..., W)`."""
    memory: Tensor
    """The next temporal state, `(..., D)`."""


class Propagation(ActiveSet, nn.Module):
    """Follows objects: proposes a place, looks there, and relates the object to those already followed.

    Args:
        what_encoder: shared with `Discovery`.
        what_size: W.
        glimpse_size: height and width of the crops.
        hidden: width of the recurrent networks and of the hidden layers.
        narrow: width of the hidden layer of the proposal, mask and presence networks.
        presence_bias: initial logit of staying.
        scale_bias: initial offset of the raw standard deviation of `z_where`; learned.
        presence_hidden: width of the hidden layer of the presence network; by default `narrow`.
        hold: whether `hold` may be other than zero.

    Attributes:
        hold: share of decisions that are taken for "stays" in training mode, in [0, 1), see `SQAIRGuide`; a
            buffer, to be annealed, or None if it is always zero.
    """

    hold: Tensor | None

    def __init__(
        self,
        what_encoder: WhatEncoder,
        what_size: int = 50,
        glimpse_size: Size = (20, 20),
        hidden: int = 256,
        narrow: int = 128,
        presence_bias: float = 5.0,
        scale_bias: float = -3.0,
        presence_hidden: int | None = None,
        hold: bool = False,
    ) -> None:
        super().__init__()
        self.what_encoder = what_encoder
        self.proposal = mlp([hidden, narrow, 4], nn.ELU)
        self.mask = mlp([hidden, narrow, glimpse_size[0] * glimpse_size[1]], nn.ELU)
        self.relation = VanillaRNN(2 * what_size + 5 + hidden, what_size + 5, hidden)
        self.where_head = mlp([2 * hidden + 4, hidden, hidden, 8], nn.ELU)
        self.scale_bias = nn.Parameter(torch.tensor(scale_bias))
        bound = (6 / 20) ** 0.5  # Glorot's, of a vector of 10
        self.correlation = nn.Parameter(torch.empty(10).uniform_(-bound, bound))
        self.temporal = GRU(hidden + 4 + 2 * what_size, hidden)
        self.temporal_what = nn.Linear(hidden, 2 * what_size)
        self.gates = nn.Linear(hidden, 3 * what_size)
        self.presence_head = mlp([2 * hidden + what_size, presence_hidden or narrow, 1], nn.ELU)
        initialise(
            self.proposal, self.mask, self.where_head, self.temporal_what, self.gates, self.presence_head
        )
        fill_output_bias(self.mask, 1.0)
        nn.init.constant_(self.gates.bias, 1.0)
        fill_output_bias(self.presence_head, presence_bias)
        # It follows from the step, so checkpoints do not have it.
        self.register_buffer("hold", torch.tensor(0.0) if hold else None, persistent=False)
        self.glimpse_size = glimpse_size

    @property
    def initial_memory(self) -> Tensor:
        """Temporal state of an object that was just discovered, `(D,)`."""
        return self.temporal.initial

    def triangle(self) -> Tensor:
        """`I + C`, the shared part of the Cholesky factor of `z_where`, `(4, 4)`."""
        rows, columns = torch.tril_indices(4, 4, device=self.correlation.device)
        lower = self.correlation.new_zeros(4, 4).index_put((rows, columns), self.correlation)
        return lower + torch.eye(4, device=lower.device, dtype=lower.dtype)

    def forward(self, t: int, image: Tensor, slots: TrackedSlots) -> tuple[Slots, Tensor]:
        """The statements of frame `t`, and the next temporal state of each slot.

        Args:
            t: number of the frame, from 1.
            image: `(B, C, H, W)`.
            slots: the objects of the frame before.
        """
        # Slots come first, so that the batch of images stays the last axis.
        z_pres, where, what, memory = (
            field.movedim(-2, 0) for field in (slots.z_pres.unsqueeze(-1), *slots[1:4])
        )
        present = z_pres.squeeze(-1)
        early = self.where_present(self._anticipate, present, z_pres, where, what, memory, images=image)
        make_where = partial(TriangularNormal, triangle=Triangle.of(self.triangle()))
        hidden = self.relation.initial
        zeros = torch.zeros_like
        slot = Slots(zeros(present[0]), zeros(where[0]), zeros(what[0]))
        draws, followed, memories = [], [], []
        for i, possible in enumerate(present):
            hidden, place = self.where_present(
                self._place, possible, early.relation[i], slot.features(), hidden, where[i], memory[i]
            )
            name, place = f"propagation/{{}}/{t}/{i}", harmless(place, possible)
            draw, new_memory = self._draw(
                name,
                image,
                Slots(possible, where[i], what[i]),
                memory[i],
                early.mask[i],
                hidden,
                place,
                make_where(*place),
            )
            draws.append(draw)
            slot = draw.slot()
            followed.append(slot)
            memories.append(new_memory)
        settle_unused(f"propagation/unused/{t}", draws, make_where)
        return stack_slots(followed), torch.stack(memories, dim=-2)

    def _anticipate(
        self, image: Tensor, z_pres: Tensor, z_where: Tensor, z_what: Tensor, memory: Tensor
    ) -> Anticipation:
        """Look where an object might be; all slots at once, since this depends on the past alone."""
        proposal = z_where + 0.1 * self.proposal(memory)
        mask = self.mask(memory).sigmoid()
        seen = self.what_encoder(self._glimpse(image, proposal, mask)).loc
        return Anticipation(mask, self.relation.project(concatenate(seen, z_what, z_where, z_pres, memory)))

    def _place(
        self, relation: Tensor, previous: Tensor, hidden: Tensor, z_where: Tensor, memory: Tensor
    ) -> Placed:
        hidden = self.relation(relation, previous, hidden)
        shift, raw_scale = self.where_head(concatenate(hidden, z_where, memory)).chunk(2, dim=-1)
        scale = F.softplus(raw_scale + self.scale_bias - 1) + MIN_SCALE
        return Placed(hidden, LocScale(z_where + shift, scale))

    def _look(
        self, image: Tensor, z_where: Tensor, mask: Tensor, hidden: Tensor, z_what: Tensor, memory: Tensor
    ) -> Seen:
        seen = self.what_encoder(self._glimpse(image, z_where, mask))
        memory = self.temporal(concatenate(hidden, z_where, seen.loc, seen.scale), memory)
        return Seen(self._mix(z_what, seen, memory), memory)

    def _decide(self, hidden: Tensor, memory: Tensor, z_what: Tensor) -> Tensor:
        return self.presence_head(concatenate(hidden, memory, z_what))

    def _glimpse(self, image: Tensor, z_where: Tensor, mask: Tensor) -> Tensor:
        weights = mask.unflatten(-1, (1, *self.glimpse_size))
        return weights * crop(image, sqair_squash(z_where), self.glimpse_size)

    def _draw(
        self,
        name: str,
        image: Tensor,
        before: Slots,
        memory: Tensor,
        mask: Tensor,
        hidden: Tensor,
        place: LocScale,
        where: TorchDistribution,
    ) -> tuple[Draw, Tensor]:
        possible = before.z_pres
        with poutine.mask(mask=possible > 0):
            z_where = pyro.sample(name.format("z_where"), where)
            context = (z_where, mask, hidden, before.z_what, memory)
            look, new_memory = self.where_present(self._look, possible, *context, images=image)
            look = harmless(look, possible)
            z_what = pyro.sample(name.format("z_what"), _diagonal_normal(*look))
            logit = self.where_present(self._decide, possible, hidden, memory, z_what).squeeze(-1)
            if self.training and self.hold is not None:
                logit = explore(logit, self.hold, towards=1.0)
            z_pres = pyro.sample(name.format("z_pres"), slot_presence(logit, possible))
        return Draw(possible, place, z_where, look, z_what, z_pres), new_memory

    def _mix(self, previous: Tensor, seen: LocScale, memory: Tensor) -> LocScale:
        """Appearance as a gated mixture of what it was, what is seen, and what its past suggests.

        The gates stay below one, so that the standard deviation stays positive.
        """
        loc, raw_scale = self.temporal_what(memory).chunk(2, dim=-1)
        scale = F.softplus(raw_scale) + MIN_SCALE
        forget, ignore_seen, ignore_past = (0.9999 * self.gates(memory).sigmoid()).chunk(3, dim=-1)
        return LocScale(
            forget * previous + (1 - ignore_seen) * seen.loc + (1 - ignore_past) * loc,
            (1 - ignore_seen) * seen.scale + (1 - ignore_past) * scale,
        )


class SQAIRGuide(PyroModule):
    """Approximate posterior of `models.SQAIR`, with the same statements, one frame after the other.

    Where videos become longer during training, `hold` keeps the objects of the first frame: as long as
    propagation cannot follow into a new frame, letting objects go and discovering them again, or discovering
    them twice, has by far the greater weight, no gradient reaches the networks that would learn to follow,
    and the guide gives propagation up for good. Held on to, they learn.

    Args:
        propagation: follows the objects of the frame before.
        discovery: finds new ones.
        latent_encoder: summary of the propagated objects for discovery; the model's.
        image_shape: channels, height and width of a frame.
        truncate: as the model's.
    """

    def __init__(
        self,
        propagation: Propagation,
        discovery: Discovery,
        latent_encoder: LatentEncoder,
        image_shape: tuple[int, int, int] = (1, 50, 50),
        truncate: bool = True,
    ) -> None:
        super().__init__()
        self.propagation = propagation
        self.discovery = discovery
        self.latent_encoder = latent_encoder
        self.image_shape = image_shape
        self.truncate = truncate

    def forward(self, video: Tensor) -> list[TrackedSlots]:
        """Sample the latent variables of videos `(B, T, C, H, W)` in [0, 1]: the slots of each frame.

        Raises:
            ValueError: if the video has another shape, or is not floating point.
        """
        slots: list[TrackedSlots] = self.unroll(video).run()
        return slots

    def unroll(self, video: Tensor) -> Frames:
        """The same, frame by frame; the state is a `models.sqair.State`."""
        require_pixels("video", video, "BT", self.image_shape)
        features = self.discovery.image_encoder(video)  # each frame once, whatever the number of particles
        batch_size, count = len(video), self.discovery.max_count
        memory = self.propagation.initial_memory
        slots = empty_slots(count, self.discovery.what_size, memory, batch_size)
        total = torch.zeros(batch_size, dtype=torch.int64, device=video.device)
        steps = (partial(self.step, t, video[:, t], features[:, t]) for t in range(video.shape[1]))
        return Frames.of_data(batch_size, State(slots, total), steps)

    def step(self, t: int, image: Tensor, features: Tensor, state: State) -> tuple[TrackedSlots, State]:
        """One frame: propagate, discover, put the slots in order."""
        slots, total = state
        if t == 0:
            propagated = None
            survivors = torch.zeros_like(slots.z_pres[..., 0])
            summary = features.new_zeros(self.latent_encoder.size)
        else:
            followed: Slots
            followed, memory = self.propagation(t, image, slots)
            identity = slots.identity.masked_fill(followed.z_pres <= 0, ABSENT)
            propagated = TrackedSlots(*followed, memory, identity)
            survivors = followed.z_pres.sum(-1)
            summary = self.latent_encoder(*propagated[:3])
        count = self.discovery.max_count
        free = count - survivors if self.truncate else torch.full_like(survivors, count)
        found: Slots = self.discovery(t, image, features, summary, free)
        memory = self.propagation.initial_memory.expand(*found.z_pres.shape, -1)
        discovered = TrackedSlots(*found, memory, new_identities(found.z_pres, total))
        slots = discovered if propagated is None else compact(propagated, discovered)
        return slots, State(slots, total + found.z_pres.sum(-1).long())
