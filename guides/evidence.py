"""What is left of an image, and how much of it the picture of an object explains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..models.components.active_set import ActiveSet
from ..models.components.attention import crop
from ..models.components.networks import LocScale
from ..models.components.slots import Slots, TrackedSlots
from ..models.components.template_matching import fit, sample_area

EVIDENCE = 4
"""How many numbers presence is decided on."""


def remainder(images: Tensor, explained: Tensor) -> Tensor:
    """What is not explained of images `(R, C, H, W)`, given what has been drawn, `(R, C H W)`."""
    return (images - explained.unflatten(-1, images.shape[1:])).clamp(min=0)


class LooksBesideOthers(ActiveSet):
    """Mixin of discoveries that look for an object in what other objects leave of an image.

    No gradient is taken through pictures of others, as if they were data.

    Attributes:
        decoder: the model's, as `models.sqair.SceneDecoder`.
    """

    decoder: Any
    _look: Callable[[Tensor, Tensor], LocScale]

    @torch.no_grad()
    def pictures(self, slots: Slots | TrackedSlots) -> Tensor:
        """What each of some slots `(..., .)` draws in the frame, black where it is absent, `(..., C H W)`."""
        z_pres, z_where, z_what = slots[:3]
        drawn: Tensor = self.rows_where_present(self._paint, z_pres, z_where, z_what)
        return drawn * z_pres.unsqueeze(-1)

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

    def _look_at_rest(self, image: Tensor, others: Tensor, z_where: Tensor) -> LocScale:
        return self._look(remainder(image, others), z_where)

    def _paint(self, z_where: Tensor, z_what: Tensor) -> Tensor:
        picture: Tensor = self.decoder.place(self.decoder.glimpses(z_what), z_where)
        return picture.flatten(-3)


def evidence(observed: Tensor, picture: Tensor, coords: Tensor, scale: float) -> Tensor:
    """Nats that a picture explains, shares of what can be seen of it, and how much that is, `(R, EVIDENCE)`.

    The nats are what the picture adds to the log-likelihood of the image, `gain / 2 sigma^2`, of either sign
    and compressed.

    Args:
        observed: what is left to explain, `(R, C + 1, H, W)`, see `template_matching.observe`.
        picture: `(R, C, h, w)`.
        coords: its windows, `(R, 4)`.
        scale: sigma, standard deviation of the pixels.
    """
    size = picture.shape[-2], picture.shape[-1]
    found = fit(crop(observed, coords, size), picture, sample_area(coords, observed, picture))
    nats = found.gain / (2 * scale**2)
    return torch.stack(
        [
            (nats / 10).asinh(),
            found.gain / (found.visible + 1),
            found.visible / (found.total + 1),
            found.visible.log1p(),
        ],
        dim=-1,
    )


def explained_nats(found: Tensor) -> Tensor:
    """The nats that are in `evidence`, as they were, `(R, 1)`."""
    return 10 * found[..., :1].sinh()
