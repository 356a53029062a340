"""What discovery and propagation share: how they say where to look, and what they see there."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks
from ..models.components.networks import LocScale, initialise
from ..models.priors.discovery import MIN_SCALE


class Placed(NamedTuple):
    """Where a slot may be."""

    hidden: Tensor
    """State of the recurrent network that runs over slots, `(..., D)`."""
    where: LocScale
    """Parameters of `z_where`, `(..., 4)`."""


class WhatEncoder(nn.Module):
    """Parameters of `z_what` from a glimpse; one encoder for discovery and propagation.

    Args:
        features: network from glimpses `(..., C, h, w)` to features.
        feature_size: their number.
        what_size: W.
    """

    def __init__(self, features: nn.Module, feature_size: int, what_size: int) -> None:
        super().__init__()
        checks.at_least(1, feature_size=feature_size, what_size=what_size)
        self.features = features
        self.readout = nn.Linear(feature_size, 2 * what_size)
        initialise(self)

    def forward(self, glimpses: Tensor) -> LocScale:
        """Encode `(..., C, h, w)` to a normal over `(..., W)`."""
        loc, raw_scale = self.readout(self.features(glimpses)).chunk(2, dim=-1)
        return LocScale(loc, F.softplus(raw_scale) + MIN_SCALE)
