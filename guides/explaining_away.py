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

In the sweeps after the first the frame is *divided*: each pixel belongs to the sketch whose window's middle
is nearest, in place of what the others have drawn of it. A first sketch holds what of its neighbour reached
into its window, and each would go on to lack what the other has; so many a pair of digits that stood close
together was drawn exactly in that frame, by two pictures that were neither of them.

Whether a sketch is kept does not depend on what the network says of presence: what was subtracted for an
object that is not drawn would speak for drawing it, and objects would fall to pieces. Sketches are functions
of the frame and of what was followed into it, and parameters of q like any network's output: weights are
exact, and no gradient is taken through them.

The term is Pearl's: causes that are independent become dependent when their effect is seen, and finding one
lessens the belief in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import checks
from ..models.components.networks import LocScale
from ..models.components.slots import Slots, TrackedSlots, concatenate, stack_slots
from ..models.object_decoder import ObjectDecoder
from .discovery import Discovery
from .evidence import LooksBesideOthers, remainder
from .looking import Placed
from .refined_looks import RefinedLooks


class Sketch(NamedTuple):
    """A slot before it is drawn."""

    slot: Slots
    """Mean place and looks, and whether it explains enough, `(..., .)`."""
    drawn: Tensor
    """Its picture in the frame, black where it is absent, `(..., C H W)`."""


class ExplainingDiscovery(LooksBesideOthers, Discovery):
    """Finds new objects in what the others do not explain, see the module; in place of `Discovery`.

    Parameters are those of `Discovery`, so that either can go on from what the other has learned.

    Args:
        args: of `Discovery`.
        decoder: the model's.
        sweeps: over the slots, before they are drawn; while it learns, one at most.
        divided: how many of them, after the first, look at each object in the pixels that are nearest to it.
        scale: standard deviation of the pixels, the likelihood's.
        least: nats that a sketch must explain.
        refined: corrects looks by what their picture leaves; by default they are the encoder's. Those of
            sketches are: corrected while others are not sketched yet, one would take of the others what it
            can.
        options: of `Discovery`.
    """

    def __init__(
        self,
        *args: Any,
        decoder: ObjectDecoder,
        sweeps: int = 6,
        divided: int = 2,
        scale: float = 0.3,
        least: float = 120.0,
        refined: RefinedLooks | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        checks.at_least(0, sweeps=sweeps, divided=divided)
        checks.positive(scale=scale)
        checks.not_negative(least=least)
        self.decoder = decoder
        self.sweeps = sweeps
        self.divided = divided
        self.scale = scale
        self.least = least
        self.refined = refined

    def forward(
        self,
        t: int,
        image: Tensor,
        features: Tensor,
        summary: Tensor,
        free: Tensor,
        propagated: Slots | TrackedSlots | None = None,
    ) -> Slots:
        """The statements of frame `t`, see `Discovery`."""
        early = self.rnn.project(concatenate(features, summary))
        explained = self.explained(image, free, propagated)
        sketches = self._sketches(image, early, free, explained)
        drawn = [sketch.drawn for sketch in sketches]
        hidden: Tensor = self.rnn.initial
        slot = self._before_first(free)
        hold = self.hold if t > 0 and self.training else None
        slots = []
        for j, sketch in enumerate(sketches):
            possible = slot.z_pres * (free > j)
            others = explained + _all_but(j, drawn)
            hidden, place = self._find(image, possible, early, slot, hidden, others, sketch)
            look = partial(self.look_beside, image, others, possible)
            decide = partial(self._decided, possible, hidden)
            refine = None if self.refined is None else partial(self._refine, image, others, possible)
            name = f"discovery/{{}}/{t}/{j}"
            slot = self._draw(name, image, possible, place, look, decide, hold, refine)
            slots.append(slot)
            if j + 1 < self.max_count:
                drawn[j] = self.pictures(slot)
        return stack_slots(slots)

    def _refine(
        self, image: Tensor, others: Tensor, present: Tensor, z_where: Tensor, look: LocScale
    ) -> LocScale:
        assert self.refined is not None
        inputs = others, z_where, *look
        better: LocScale = self.rows_where_present(self.refined, present, *inputs, images=image)
        return better

    def plain(self) -> Discovery:
        """`Discovery` with the same parameters, which explains nothing away.

        While networks are new, sketches explain away what is there and not found yet.
        """
        plain = Discovery.__new__(Discovery)
        vars(plain).update(vars(self))
        return plain

    @torch.no_grad()
    def _sketches(self, image: Tensor, early: Tensor, free: Tensor, explained: Tensor) -> list[Sketch]:
        """All slots, found in what the others leave of the frame."""
        nothing = self._before_first(free)
        absent = Sketch(nothing._replace(z_pres=torch.zeros_like(free)), torch.zeros_like(explained))
        sketches = [absent] * self.max_count
        for sweep in range(min(1, self.sweeps) if self.training else self.sweeps):
            hidden: Tensor = self.rnn.initial
            slot = nothing
            divided = self._divided(sketches, image, explained) if 1 <= sweep <= self.divided else None
            for j in range(self.max_count):
                possible = slot.z_pres * (free > j)
                others = _all_but(j, [sketch.drawn for sketch in sketches])
                if divided is not None:
                    others = torch.where(sketches[j].slot.z_pres.unsqueeze(-1) > 0, divided[j], others)
                others = explained + others
                hidden, place = self._find(image, possible, early, slot, hidden, others, sketches[j])
                look = self.look_beside(image, others, possible, place.loc)
                drawn = self.pictures(Slots(possible, place.loc, look.loc))
                rest = remainder(image, others).flatten(-3)
                gain = (2 * rest * drawn - drawn.square()).sum(-1) / (2 * self.scale**2)
                here = possible * (gain > self.least)
                slot = Slots(here, *(loc * here.unsqueeze(-1) for loc in (place.loc, look.loc)))
                sketches[j] = Sketch(slot, drawn * here.unsqueeze(-1))
        return sketches

    def _divided(self, sketches: Sequence[Sketch], image: Tensor, explained: Tensor) -> Tensor:
        """What belongs to others than each of the sketches of what is to be explained, `(N, ..., C H W)`."""
        slots = stack_slots([sketch.slot for sketch in sketches])
        middle = self.windows(slots.z_where)[..., 2:].movedim(-2, 0)
        height, width = image.shape[-2:]
        across, down = (
            ((middle[..., axis : axis + 1] + 1) * (n - 1) / 2 - torch.arange(n, device=image.device)).square()
            for axis, n in enumerate((width, height))
        )
        distance = down.unsqueeze(-1) + across.unsqueeze(-2)
        absent = slots.z_pres.movedim(-1, 0)[..., None, None] == 0
        distance = distance.masked_fill(absent, float("inf"))
        of_others = distance > distance.amin(0)
        rest = remainder(image, explained)
        return (rest * of_others.unsqueeze(-3)).flatten(-3)

    def _find(
        self,
        image: Tensor,
        possible: Tensor,
        early: Tensor,
        previous: Slots,
        hidden: Tensor,
        others: Tensor,
        sketch: Sketch,
    ) -> Placed:
        known = sketch.slot.z_pres.unsqueeze(-1)
        inputs = early, previous.features(), hidden, others, known, sketch.slot.z_where
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


def _all_but(j: int, drawn: Sequence[Tensor]) -> Tensor:
    """The sum of all pictures but one."""
    total = torch.zeros_like(drawn[j])
    for k, other in enumerate(drawn):
        if k != j:
            total = total + other
    return total
