"""What every discovery of new objects shares, however it finds them: the statements of a slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from .. import checks
from ..models.components.active_set import ActiveSet
from ..models.components.attention import Size, crop
from ..models.components.networks import LocScale
from ..models.components.provisional import Decision, Provisional
from ..models.components.slots import Slots, slots_of, slots_present
from ..models.priors.counts import harmless, present_or_standard, slot_presence
from .exploration import explore
from .further import FurtherLatents


class Windows(Protocol):
    """What `z_where` means."""

    def __call__(self, z_where: Tensor) -> Tensor:
        """Coords `(..., 4)`, see `models.components.attention`."""

    def inverse(self, coords: Tensor) -> Tensor:
        """`z_where` of coords."""

    def growth(self, height: Tensor) -> Tensor:
        """How many times as large as usual windows are whose middles are at heights, of any shape."""


class SlotDiscovery(ActiveSet, nn.Module):
    """Base of `Discovery` and `EvidenceDiscovery`: draws where, then what, and then whether it is there.

    Args:
        max_count: N.
        what_size: W.
        glimpse_size: height and width of the crops.
        context_size: features of the summary of the propagated objects.
        hold: whether `hold` may be other than zero.
        exploration: whether `exploration` may be other than zero.
        further: draws what a slot has beside place and appearance; shared with propagation.

    Attributes:
        hold: share of decisions after the first frame that are taken for "nothing new" in training mode, in
            [0, 1), see `SQAIRGuide`; a buffer, to be annealed, or None if it is always zero.
        exploration: share of decisions that are taken by a fair coin in training mode, in [0, 1), so that no
            number of objects is given up before the networks can tell; a buffer like `hold`.
    """

    hold: Tensor | None
    exploration: Tensor | None
    scale_bias: Tensor
    what_encoder: nn.Module
    windows: Windows

    def __init__(
        self,
        max_count: int,
        what_size: int,
        glimpse_size: Size,
        context_size: int,
        hold: bool,
        exploration: bool,
        further: FurtherLatents | None = None,
    ) -> None:
        super().__init__()
        checks.at_least(1, max_count=max_count, what_size=what_size, glimpse_size=glimpse_size)
        checks.not_negative(context_size=context_size)
        # They follow from the step, so checkpoints do not have them.
        self.register_buffer("hold", torch.tensor(0.0) if hold else None, persistent=False)
        self.register_buffer("exploration", torch.tensor(0.0) if exploration else None, persistent=False)
        self.further = further
        self.max_count = max_count
        self.what_size = what_size
        self.glimpse_size = glimpse_size
        self.context_size = context_size

    @property
    def sizes(self) -> dict[str, int]:
        """Number of components of each latent variable, by name."""
        return {"z_where": 4, "z_what": self.what_size, **(self.further.sizes if self.further else {})}

    def features(self, frames: Tensor) -> Tensor:
        """What is seen of frames `(..., C, H, W)` as a whole; by default nothing, `(..., 0)`."""
        return frames.new_zeros(*frames.shape[:-3], 0)

    def plain(self) -> SlotDiscovery:
        """The same with the same parameters, but that it looks at each object as if it were the only one.

        By default a discovery does that anyway; what looks at objects in what others leave may offer another.
        """
        return self

    def looks(self, image: Tensor, present: Tensor, z_where: Tensor) -> LocScale:
        """Parameters of `z_what` of objects `(...)` at given places, harmless ones where they are absent."""
        return harmless(self.where_present(self._look, present, z_where, images=image), present)

    def _look(self, image: Tensor, z_where: Tensor) -> LocScale:
        look: LocScale = self.what_encoder(crop(image, self.windows(z_where), self.glimpse_size))
        return look

    def _draw(
        self,
        name: str,
        image: Tensor,
        possible: Tensor,
        place: LocScale,
        look: Callable[[Tensor], LocScale],
        decide: Callable[[Tensor, Tensor], Tensor],
        hold: Tensor | None = None,
        refine: Callable[[Tensor, LocScale], LocScale] | None = None,
    ) -> Slots:
        """The statements of a slot.

        Args:
            name: of them, with `{}` for the variable.
            image: `(B, C, H, W)`.
            possible: whether there can be an object, `(...)`.
            place: parameters of `z_where`, `(..., D)`.
            look: parameters of `z_what`, given `z_where`.
            decide: logit of presence, `(..., 1)`, given both.
            hold: share of decisions that are taken for "absent".
            refine: corrects the mean of `z_what`, given `z_where`. Presence is decided on as if it had not: a
                network that counts goes by what the encoder has learned to say.
        """
        used = Decision(name.format("z_pres"))
        with poutine.mask(mask=possible > 0):
            where = present_or_standard(place, possible)
            z_where = pyro.sample(name.format("z_where"), Provisional(where, used))
            said = look(z_where)
            found = said if refine is None else refine(z_where, said)
            what = present_or_standard(found, possible)
            z_what = pyro.sample(name.format("z_what"), Provisional(what, used))
            further = {}
            if self.further is not None:
                further = self.further.draw(name, image, possible, z_where, z_what, used)
            logit = decide(z_where, z_what - (found.loc - said.loc) if refine else z_what).squeeze(-1)
            if self.training and self.exploration is not None:
                logit = explore(logit, self.exploration)
            if hold is not None:
                logit = explore(logit, hold, towards=0.0)
            z_pres = pyro.sample(name.format("z_pres"), slot_presence(logit, possible))
        used.settle(z_pres > 0)
        return slots_present(slots_of(z_pres, z_where=z_where, z_what=z_what, **further))
