"""Propagation in SQAIR's guide: where the objects of the frame before are now, and whether they still are.

Kosiorek et al., *Sequential Attend, Infer, Repeat*, 2018, appendix A.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import pyro
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from .. import checks
from ..models.components.active_set import ActiveSet
from ..models.components.attention import Size, crop
from ..models.components.messages import PAST, Messages, next_past
from ..models.components.networks import LocScale, fill_output_bias, initialise, mlp
from ..models.components.provisional import Decision, Provisional
from ..models.components.recurrent import GRU, VanillaRNN
from ..models.components.slots import (
    Slots,
    TrackedSlots,
    concatenate,
    side_by_side,
    slot_at,
    slots_of,
    slots_present,
    stack_slots,
)
from ..models.components.triangular_normal import Triangle, TriangularNormal
from ..models.components.windows import SquashedWindows
from ..models.priors.counts import harmless, slot_presence
from ..models.priors.discovery import MIN_SCALE
from .exploration import explore
from .further import FurtherLatents
from .looking import Placed, WhatEncoder
from .looks import Looks, draw_look


class Anticipation(NamedTuple):
    """What propagation knows of a slot before it looks at the others."""

    mask: Tensor
    """Weights of the glimpse's pixels, `(..., h w)`."""
    relation: Tensor
    """Early part of the relation network's input, projected, `(..., D)`."""


class Seen(NamedTuple):
    """What a followed object looks like, where it is now."""

    what: LocScale | None
    """Parameters of `z_what`, `(..., W)`; None if it is what it was."""
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
        where_floor: least standard deviation of `z_where`, see `Discovery`.
        windows: what `z_where` means; the model's.
        looks: how appearance is inferred, `looks.StaticLooks` or `looks.StickyLooks`; by default it is drawn
            anew, a gated mixture of what it was, what is seen, and what its past suggests, as published.
        relations: sends each object messages of the others in the frame before, for its temporal state.
        further: as of `Discovery`.

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
        where_floor: float = MIN_SCALE,
        windows: SquashedWindows = SquashedWindows(),  # noqa: B008
        looks: Looks | None = None,
        relations: Messages | None = None,
        further: FurtherLatents | None = None,
    ) -> None:
        super().__init__()
        checks.at_least(1, what_size=what_size, glimpse_size=glimpse_size, hidden=hidden)
        checks.at_least(1, narrow=narrow, presence_hidden=presence_hidden)
        checks.not_negative(where_floor=where_floor)
        checks.finite(presence_bias=presence_bias, scale_bias=scale_bias)
        self.what_encoder = what_encoder
        self.proposal = mlp([hidden, narrow, 4], nn.ELU)
        self.mask = mlp([hidden, narrow, glimpse_size[0] * glimpse_size[1]], nn.ELU)
        self.relation = VanillaRNN(2 * what_size + 5 + hidden, what_size + 5, hidden)
        self.where_head = mlp([2 * hidden + 4, hidden, hidden, 8], nn.ELU)
        self.scale_bias = nn.Parameter(torch.tensor(scale_bias))
        bound = (6 / 20) ** 0.5  # Glorot's, of a vector of 10
        self.correlation = nn.Parameter(torch.empty(10).uniform_(-bound, bound))
        told = 0 if relations is None else relations.size
        self.temporal = GRU(hidden + 4 + 2 * what_size + told, hidden)
        redrawn: list[nn.Linear] = []
        if looks is None:
            self.temporal_what = nn.Linear(hidden, 2 * what_size)
            self.gates = nn.Linear(hidden, 3 * what_size)
            redrawn = [self.temporal_what, self.gates]
        self.presence_head = mlp([2 * hidden + what_size, presence_hidden or narrow, 1], nn.ELU)
        initialise(self.proposal, self.mask, self.where_head, *redrawn, self.presence_head)
        fill_output_bias(self.mask, 1.0)
        if looks is None:
            nn.init.constant_(self.gates.bias, 1.0)
        fill_output_bias(self.presence_head, presence_bias)
        # It follows from the step, so checkpoints do not have it.
        self.register_buffer("hold", torch.tensor(0.0) if hold else None, persistent=False)
        self.glimpse_size = glimpse_size
        self.where_floor = where_floor
        self.windows = windows
        self.looks = looks
        self.relations = relations
        self.further = further

    @property
    def initial_memory(self) -> Tensor:
        """Temporal state of an object that was just discovered; with messages, nothing known of its past."""
        state = self.temporal.initial
        return state if self.relations is None else torch.cat([state, state.new_zeros(PAST)])

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
        fields = slots.z_pres.unsqueeze(-1), slots.z_where, slots.z_what, slots.memory
        z_pres, where, what, memory = (field.movedim(-2, 0) for field in fields)
        present = z_pres.squeeze(-1)
        messages = None
        if self.relations is not None:
            memory, past = memory.split([self.temporal.hidden_size, PAST], dim=-1)
            messages = self.relations(slots, past.movedim(0, -2)).movedim(-2, 0)
        early = self.where_present(self._anticipate, present, z_pres, where, what, memory, images=image)
        make_where = partial(TriangularNormal, triangle=Triangle.of(self.triangle()))
        hidden = self.relation.initial
        zeros = torch.zeros_like
        slot = Slots(zeros(present[0]), zeros(where[0]), zeros(what[0]))
        followed, memories = [], []
        for i, possible in enumerate(present):
            hidden, place = self.where_present(
                self._place, possible, early.relation[i], slot.features(), hidden, where[i], memory[i]
            )
            before = slot_at(slots, i)
            draws_from = make_where(*harmless(place, possible))
            name = f"propagation/{{}}/{t}/{i}"
            told = () if messages is None else (messages[i],)
            slot, new_memory = self._draw(
                name, image, before, memory[i], early.mask[i], hidden, draws_from, *told
            )
            followed.append(slot)
            memories.append(new_memory if messages is None else concatenate(new_memory, next_past(where[i])))
        return stack_slots(followed), side_by_side(memories)

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
        scale = F.softplus(raw_scale + self.scale_bias - 1) + self.where_floor
        return Placed(hidden, LocScale(z_where + shift, scale))

    def _look(
        self,
        image: Tensor,
        z_where: Tensor,
        mask: Tensor,
        hidden: Tensor,
        z_what: Tensor,
        memory: Tensor,
        *messages: Tensor,
    ) -> Seen:
        seen = self.what_encoder(self._glimpse(image, z_where, mask))
        memory = self.temporal(concatenate(hidden, z_where, seen.loc, seen.scale, *messages), memory)
        look = self._mix(z_what, seen, memory) if self.looks is None else self.looks(z_what, seen)
        return Seen(look, memory)

    def _decide(self, hidden: Tensor, memory: Tensor, z_what: Tensor) -> Tensor:
        return self.presence_head(concatenate(hidden, memory, z_what))

    def _glimpse(self, image: Tensor, z_where: Tensor, mask: Tensor) -> Tensor:
        weights = mask.unflatten(-1, (1, *self.glimpse_size))
        return weights * crop(image, self.windows(z_where), self.glimpse_size)

    def _draw(
        self,
        name: str,
        image: Tensor,
        before: Slots,
        memory: Tensor,
        mask: Tensor,
        hidden: Tensor,
        where: TorchDistribution,
        *messages: Tensor,
    ) -> tuple[Slots, Tensor]:
        possible, used = before.z_pres, Decision(name.format("z_pres"))
        with poutine.mask(mask=possible > 0):
            z_where = pyro.sample(name.format("z_where"), Provisional(where, used))
            context = (z_where, mask, hidden, before.z_what, memory, *messages)
            look, new_memory = self.where_present(self._look, possible, *context, images=image)
            z_what = draw_look(name.format("z_what"), look, before, used)
            further = {}
            if self.further is not None:
                further = self.further.draw(name, image, possible, z_where, z_what, used, before)
            logit = self.where_present(self._decide, possible, hidden, memory, z_what).squeeze(-1)
            if self.training and self.hold is not None:
                logit = explore(logit, self.hold, towards=1.0)
            z_pres = pyro.sample(name.format("z_pres"), slot_presence(logit, possible))
        used.settle(z_pres > 0)
        slot = slots_of(z_pres, z_where=z_where, z_what=z_what, **further)
        return slots_present(slot), new_memory

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
