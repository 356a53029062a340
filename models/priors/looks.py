"""Priors of how the appearance of an object goes on that does not change much: it stays, or it sticks."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..components.networks import LocScale, inverse_softplus
from ..components.slots import TrackedSlots
from .propagation import Propagation, PropagationPrior

MIN_STEP = 1e-3
"""Least standard deviation of a change of appearance."""


class LooksPrior(Protocol):
    """How the appearance of an object goes on."""

    def __call__(self, z_what: Tensor) -> LocScale | None:
        """Parameters of the next `z_what`, `(..., N, W)`; None if it stays as it is."""


class StaticLooksPrior(nn.Module):
    """The appearance is drawn on discovery and kept: there is no statement `propagation/z_what`.

    Objects are then told apart for good, and nothing is paid for looks after an object's first frame. As in
    DDPAE (Hsieh et al., 2018), where content is one variable for each object and video.
    """

    def forward(self, z_what: Tensor) -> None:
        """Nothing is drawn."""


class StickyLooksPrior(nn.Module):
    """Small steps: `N(z_what, s^2)` with a learned standard deviation for each component.

    Args:
        what_size: W.
        scale: initial standard deviation.
    """

    def __init__(self, what_size: int, scale: float = 0.05) -> None:
        super().__init__()
        self.raw_scale = nn.Parameter(torch.full((what_size,), inverse_softplus(scale - MIN_STEP)))

    def forward(self, z_what: Tensor) -> LocScale:
        """Parameters of the next `z_what`, `(..., N, W)`."""
        return LocScale(z_what, (F.softplus(self.raw_scale) + MIN_STEP).expand_as(z_what))


class AroundPrior(nn.Module):
    """Base of what changes a part of what a propagation prior predicts.

    Args:
        prior: of all the rest.
    """

    def __init__(self, prior: PropagationPrior) -> None:
        super().__init__()
        self.prior = prior

    @property
    def per_object(self) -> bool:
        """Whether each slot is predicted from that slot alone."""
        return self.prior.per_object

    @property
    def initial_memory(self) -> Tensor:
        """Recurrent state of an object that was just discovered, `(D,)`."""
        return self.prior.initial_memory


class WithLooks(AroundPrior):
    """A propagation prior, but for the looks, which go on as another prior says.

    Args:
        prior: of presence and place.
        looks: of appearance.
    """

    def __init__(self, prior: PropagationPrior, looks: LooksPrior) -> None:
        super().__init__(prior)
        self.looks = looks

    def forward(self, slots: TrackedSlots) -> Propagation:
        """Predict all slots at once."""
        predicted: Propagation = self.prior(slots)
        return predicted._replace(what=self.looks(slots.z_what))
