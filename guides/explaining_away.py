r"""Discovery that explains away: each object is looked at in what the others have not drawn.

Where objects touch or cover each other, what is seen at the place of one is in part another's, and looks that
stay as they were drawn first, see `StaticLooks`, keep the other's pixels for the whole video. Given the
pictures $o_k$ of the others, what an object has to explain is the remainder

$$ r_j = \max(0, x - \sum_{k \ne j} o_k), $$

and the posterior of its place and looks depends on the frame by it alone. Objects are drawn one after the
other, so those before have been drawn already, and those after are *sketched*: in a few sweeps over the slots
each finds its mean place and looks in the remainder of the others' last sketches (coordinate ascent, with
`Discovery`'s own networks). A sketch is kept if it takes away enough of the squared error,

$$ (|r_j|^2 - |r_j - o_j|^2) / 2 \sigma^2 > least. $$

In the first sweep each is looked for twice: where the network of the whole frame says, and, as in
`evidence_discovery`, where most is left in a window of the size that is expected; that which explains more is
kept. The network may place two windows on one object, and the evidence one window between two. Sweeps do not
get out of that: each half of two objects explains the other half away. So all is sketched four times more,
from starts at which the first object is outermost on one of the four sides of what there is: what lies there
cannot be between two. The sketches are kept that explain most together, where each costs `least`.

Whether a sketch is kept does not depend on what the network says of presence: what was subtracted for an
object that is not drawn would speak for drawing it, and objects would fall to pieces. Sketches are functions
of the frame and of what was followed into it, and parameters of q like any network's output: weights are
exact, and no gradient is taken through them.

The term is Pearl's: causes that are independent become dependent when their effect is seen, and finding one
lessens the belief in the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..models.components.networks import LocScale
from ..models.components.slots import Slots, TrackedSlots, concatenate, slot_at, stack_slots
from ..models.object_decoder import ObjectDecoder
from .beside_others import SIDES, LooksBesideOthers, Sketch, all_but, either, explaining_most
from .discovery import Discovery
from .evidence import remainder
from .looking import Placed
from .peaks import start_of_ink, window_at
from .refined_looks import RefinedLooks

SURE = 4.0
"""Least logit of the presence of objects that are known to be there."""

PATIENCE = 4
"""How many times as many steps correct looks in evaluation mode as while it learns."""


class ExplainingDiscovery(LooksBesideOthers, Discovery):
    """Finds new objects in what the others do not explain, see the module; in place of `Discovery`.

    Parameters are those of `Discovery`, so that either can go on from what the other has learned.

    Args:
        args: of `Discovery`.
        decoder: the model's.
        sweeps: over the slots, before they are drawn; while it learns, one at most, and without evidence of
            places: the network is to learn them.
        scale: standard deviation of the pixels, the likelihood's.
        least: nats that a sketch must explain.
        refined: corrects looks by what their picture leaves; by default they are the encoder's. Those of
            sketches are: corrected while others are not sketched yet, one would take of the others what it
            can. In evaluation mode it makes four times as many steps.
        options: of `Discovery`.

    Attributes:
        thorough: whether sketches start at all sides, and corrections take their time, in evaluation mode.
        bold: whether what sketches show is there, whatever the network says, see `asking`.
    """

    def __init__(
        self,
        *args: Any,
        decoder: ObjectDecoder,
        sweeps: int = 4,
        scale: float = 0.3,
        least: float = 120.0,
        refined: RefinedLooks | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        checks.at_least(0, sweeps=sweeps)
        checks.positive(scale=scale)
        checks.not_negative(least=least)
        self.decoder = decoder
        self.sweeps = sweeps
        self.scale = scale
        self.least = least
        self.refined = refined
        self.thorough = True
        self.bold = False

    def forward(
        self,
        t: int,
        image: Tensor,
        features: Tensor,
        summary: Tensor,
        free: Tensor,
        propagated: Slots | TrackedSlots | None = None,
        known: TrackedSlots | None = None,
    ) -> Slots:
        """The statements of frame `t`, see `Discovery`.

        Sketches start from the objects that are `known`, slots `(..., N, .)`, where there are any. These are
        kept if they explain anything, and drawn, whatever the network says of their presence.
        """
        early = self.rnn.project(concatenate(features, summary))
        explained = self.explained(image, free, propagated)
        sketches = self._sketches(image, early, free, explained, known)
        sure = torch.ones_like(free) if known is None else known.z_pres[..., 0]
        drawn = [sketch.drawn for sketch in sketches]
        hidden: Tensor = self.rnn.initial
        slot = self._before_first(free)
        hold = self.hold if t > 0 and self.training else None
        slots = []
        for j, sketch in enumerate(sketches):
            possible = slot.z_pres * (free > j)
            others = explained + all_but(j, drawn)
            hidden, place = self._find(image, possible, early, slot, hidden, others, sketch.slot)
            look = partial(self.look_beside, image, others, possible)
            decide = partial(self._decided, possible, hidden)
            if self.bold or known is not None:
                decide = partial(self._decided_at_least, sure * sketch.slot.z_pres, possible, hidden)
            refine = None if self.refined is None else partial(self._refine, image, others, possible)
            name = f"discovery/{{}}/{t}/{j}"
            slot = self._draw(name, image, possible, place, look, decide, hold, refine)
            slots.append(slot)
            if j + 1 < self.max_count:
                drawn[j] = self.pictures(slot)
        return stack_slots(slots)

    def _decided_at_least(self, sure: Tensor, *inputs: Tensor) -> Tensor:
        logit = self._decided(*inputs)
        return torch.where(sure.unsqueeze(-1) > 0, logit.clamp(min=SURE), logit)

    def _refine(
        self, image: Tensor, others: Tensor, present: Tensor, z_where: Tensor, look: LocScale
    ) -> LocScale:
        assert self.refined is not None
        steps = self.refined.steps * (PATIENCE if self._is_thorough else 1)
        return self.refine_beside(replace(self.refined, steps=steps), image, others, present, z_where, look)

    def plain(self) -> Discovery:
        """`Discovery` with the same parameters, which explains nothing away.

        While networks are new, sketches explain away what is there and not found yet.
        """
        plain = Discovery.__new__(Discovery)
        vars(plain).update(vars(self))
        return plain

    @contextmanager
    def asking(self, least: float) -> Iterator[None]:
        """Within it sketches must explain so many nats, and what they show is there."""
        before, self.least, self.bold = self.least, least, True
        try:
            yield
        finally:
            self.least, self.bold = before, False

    @property
    def _is_thorough(self) -> bool:
        return self.thorough and not self.training

    @torch.no_grad()
    def _sketches(
        self,
        image: Tensor,
        early: Tensor,
        free: Tensor,
        explained: Tensor,
        known: TrackedSlots | None = None,
    ) -> list[Sketch]:
        """All slots, found in what the others leave of the frame."""
        if known is not None:
            some = known.z_pres[..., 0] > 0
            better = self._swept(image, early, free * some, explained, known=known)
            others = self._sketches(image, early, free * ~some, explained)
            return [either(some, *pair) for pair in zip(better, others, strict=True)]
        sketches = self._swept(image, early, free, explained)
        if not self._is_thorough or self.sweeps == 0:
            return sketches
        free = free * sketches[0].slot.z_pres  # where nothing is found, there is nothing to find otherwise
        sides = (self._swept(image, early, free, explained, side) for side in SIDES)
        return explaining_most(sketches, sides, image, explained, self.scale, self.least)

    def _swept(
        self,
        image: Tensor,
        early: Tensor,
        free: Tensor,
        explained: Tensor,
        side: tuple[int, bool] | None = None,
        known: TrackedSlots | None = None,
    ) -> list[Sketch]:
        """All slots, from a start at one side of what there is, where most of it is, or what is known."""
        nothing, none = self._before_first(free), torch.zeros_like(free)
        sketches = [Sketch(nothing._replace(z_pres=none), torch.zeros_like(explained), none)] * self.max_count
        least: list[Tensor | float] = [self.least] * self.max_count
        if known is not None:
            slots = [slot_at(known, j) for j in range(self.max_count)]
            sketches = [Sketch(slot, self.pictures(slot), none) for slot in slots]
            # Whoever knows of them has other grounds than this frame.
            least = [self.least * (1 - slot.z_pres) for slot in slots]
        for sweep in range(min(1, self.sweeps) if self.training else self.sweeps):
            hidden: Tensor = self.rnn.initial
            previous = nothing
            for j in range(self.max_count):
                possible = previous.z_pres * (free > j)
                others = explained + all_but(j, [sketch.drawn for sketch in sketches])
                starts = [sketches[j].slot]
                if sweep == 0 and j == 0 and side is not None:
                    starts = [self._evident(image, possible, others, side)]
                elif sweep == 0 and not self.training and known is None:
                    starts.append(self._evident(image, possible, others))
                found = []
                for start in starts:
                    after, place = self._find(image, possible, early, previous, hidden, others, start)
                    found.append(self.sketch(image, possible, others, place.loc, least[j]))
                hidden, sketches[j] = after, _best(found)
                previous = sketches[j].slot
        return sketches

    def _evident(
        self, image: Tensor, possible: Tensor, others: Tensor, side: tuple[int, bool] | None = None
    ) -> Slots:
        """Where most of what is left is, within a window of the size that is expected, or at a side of it."""
        middle = torch.tensor([*self.size_logit, 0.0, 0.0], dtype=torch.float64, device="cpu")
        width, height = self.windows(middle)[:2].tolist()

        def place(image: Tensor, others: Tensor) -> Tensor:
            rest = remainder(image, others)
            centre = start_of_ink(rest, (width, height), self.glimpse_size, side)
            return window_at(self.windows, (width, height), centre)

        where: Tensor = self.rows_where_present(place, possible, others, images=image)
        return Slots(possible, where, where)

    def _find(
        self,
        image: Tensor,
        possible: Tensor,
        early: Tensor,
        previous: Slots,
        hidden: Tensor,
        others: Tensor,
        start: Slots,
    ) -> Placed:
        known = start.z_pres.unsqueeze(-1)
        inputs = early, previous.features(), hidden, others, known, start.z_where
        found: Placed = self.rows_where_present(self._place_beside, possible, *inputs, images=image)
        return found

    def _place_beside(
        self,
        image: Tensor,
        early: Tensor,
        previous: Tensor,
        hidden: Tensor,
        others: Tensor,
        known: Tensor,
        where: Tensor,
    ) -> Placed:
        hidden = self.rnn(early, previous, hidden)
        loc, raw_scale = self.where_head(hidden).chunk(2, dim=-1)
        # The second look starts from the sketch, what the first look learns from stays its own place.
        loc = loc + known * (where - loc).detach()
        return Placed(hidden, self._placed(remainder(image, others), torch.cat([loc, raw_scale], dim=-1)))


def _best(sketches: Sequence[Sketch]) -> Sketch:
    """That which explains most."""
    best = sketches[0]
    for other in sketches[1:]:
        best = either(other.nats > best.nats, other, best)
    return best
