"""An object beside others: seen in what they leave of an image, and sketched before any is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..models.components.active_set import ActiveSet
from ..models.components.networks import LocScale
from ..models.components.slots import Slots, TrackedSlots
from .evidence import remainder

SIDES = ((0, False), (0, True), (1, False), (1, True))
"""Of a frame, as axis, and whether it is the last one: left, right, top and bottom."""


class Sketch(NamedTuple):
    """A slot before it is drawn."""

    slot: Slots
    """Mean place and looks, and whether it explains enough, `(..., .)`."""
    drawn: Tensor
    """Its picture in the frame, black where it is absent, `(..., C H W)`."""
    nats: Tensor
    """What the picture explains, `(...)`."""


def picture_nats(image: Tensor, others: Tensor, drawn: Tensor, scale: float) -> Tensor:
    """What pictures explain of what others leave: the log-likelihood that they add, `(...)`.

    Args:
        image: `(B, C, H, W)`.
        others: what others draw, `(..., C H W)`.
        drawn: pictures, likewise.
        scale: standard deviation of the pixels.
    """
    rest = remainder(image, others).flatten(-3)
    return (2 * rest * drawn - drawn.square()).sum(-1) / (2 * scale**2)


def all_but(j: int, drawn: Sequence[Tensor]) -> Tensor:
    """The sum of all pictures but one."""
    return sum((other for k, other in enumerate(drawn) if k != j), torch.zeros_like(drawn[0]))


def either(ahead: Tensor, one: Sketch, other: Sketch) -> Sketch:
    """The one where it is ahead, `(...)`, and the other elsewhere."""
    rows = ahead.unsqueeze(-1)
    return Sketch(
        Slots(
            torch.where(ahead, one.slot.z_pres, other.slot.z_pres),
            torch.where(rows, one.slot.z_where, other.slot.z_where),
            torch.where(rows, one.slot.z_what, other.slot.z_what),
        ),
        torch.where(rows, one.drawn, other.drawn),
        torch.where(ahead, one.nats, other.nats),
    )


def explaining_most(
    sketches: Sequence[Sketch],
    further: Iterable[Sequence[Sketch]],
    image: Tensor,
    explained: Tensor,
    scale: float,
    price: float,
) -> list[Sketch]:
    """Of several sets of sketches, one of each slot, that which explains most, for each image.

    Args:
        sketches: the first set, which is taken where none is better.
        further: other sets.
        image: `(B, C, H, W)`.
        explained: what is drawn already, `(..., C H W)`.
        scale: standard deviation of the pixels.
        price: of each sketch, in nats.
    """

    def worth(some: Sequence[Sketch]) -> Tensor:
        drawn = sum((each.drawn for each in some), torch.zeros_like(explained))
        nats = picture_nats(image, explained, drawn, scale)
        return nats - price * sum(each.slot.z_pres for each in some)

    best, most = list(sketches), worth(sketches)
    for others in further:
        value = worth(others)
        ahead, most = value > most, torch.maximum(value, most)
        best = [either(ahead, *pair) for pair in zip(others, best, strict=True)]
    return best


class LooksBesideOthers(ActiveSet):
    """Mixin of discoveries that look for an object in what other objects leave of an image.

    No gradient is taken through pictures of others, as if they were data.

    Attributes:
        decoder: the model's, as `models.sqair.SceneDecoder`.
        scale: standard deviation of the pixels, the likelihood's.
    """

    decoder: Any
    scale: float
    _look: Callable[[Tensor, Tensor], LocScale]

    @torch.no_grad()
    def pictures(self, slots: Slots | TrackedSlots) -> Tensor:
        """What each of some slots `(..., .)` draws in the frame, black where it is absent, `(..., C H W)`."""
        z_pres, z_where, z_what = slots[:3]
        drawn: Tensor = self.rows_where_present(self._paint, z_pres, z_where, z_what)
        return drawn if self.active_set else drawn * z_pres.unsqueeze(-1)

    def explained(self, image: Tensor, free: Tensor, propagated: Slots | TrackedSlots | None) -> Tensor:
        """What is drawn already, `(..., C H W)`: the objects that go on, if there are any.

        Args:
            image: `(B, C, H, W)`.
            free: number of free slots, `(...)`.
            propagated: slots `(..., N, .)`.
        """
        if propagated is None:
            return image.new_zeros(image[0].numel()).expand(*free.shape, -1)
        by_slot = Slots(propagated.z_pres.movedim(-1, 0), *(x.movedim(-2, 0) for x in propagated[1:3]))
        return self.pictures(by_slot).sum(0)

    def look_beside(self, image: Tensor, others: Tensor, present: Tensor, z_where: Tensor) -> LocScale:
        """Parameters of `z_what` where an object is present, given the picture of others, `(..., C H W)`."""
        seen: LocScale = self.rows_where_present(self._look_at_rest, present, others, z_where, images=image)
        return seen

    def sketch(
        self, image: Tensor, possible: Tensor, others: Tensor, z_where: Tensor, least: Tensor | float
    ) -> Sketch:
        """What an object is at a place, if it explains enough there.

        Args:
            image: `(B, C, H, W)`.
            possible: whether there can be one, `(...)`.
            others: what others draw, `(..., C H W)`.
            z_where: `(..., D)`.
            least: nats that it must explain.
        """
        look = self.look_beside(image, others, possible, z_where)
        drawn = self.pictures(Slots(possible, z_where, look.loc))
        nats = picture_nats(image, others, drawn, self.scale)
        here = possible * (nats > least)
        present = here.unsqueeze(-1)
        return Sketch(Slots(here, z_where * present, look.loc * present), drawn * present, nats)

    def refine_beside(
        self,
        refined: Callable[..., LocScale],
        image: Tensor,
        others: Tensor,
        present: Tensor,
        z_where: Tensor,
        look: LocScale,
    ) -> LocScale:
        """Parameters of `z_what` as `refined`, a `RefinedLooks`, corrects them where an object is present."""
        better: LocScale = self.rows_where_present(refined, present, others, z_where, *look, images=image)
        return better

    def _look_at_rest(self, image: Tensor, others: Tensor, z_where: Tensor) -> LocScale:
        return self._look(remainder(image, others), z_where)

    def _paint(self, z_where: Tensor, z_what: Tensor) -> Tensor:
        picture: Tensor = self.decoder.place(self.decoder.glimpses(z_what), z_where)
        return picture.flatten(-3)
