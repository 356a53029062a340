"""How the appearance of a followed object is inferred, where it does not change much: it stays, or sticks.

A guide that draws an appearance anew in every frame pays for it whatever the prior: if q knows `z_what` after
the frame as well as before and p predicts what q knew, the two differ by at least `D ln 2 / 2` nats for D
components, 17 an object and frame for the published 50. So objects whose looks do not change are better left
alone. The model must be given the prior of the same name in `models.priors.looks`.
"""

from __future__ import annotations

from typing import Protocol

import pyro
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.components.networks import LocScale, inverse_softplus
from ..models.components.provisional import Decision, Provisional
from ..models.components.slots import Slots, concatenate
from ..models.priors.counts import present_or_standard

MIN_STEP = 1e-3
"""Least standard deviation of a change of appearance."""


class Looks(Protocol):
    """How the appearance of a followed object is inferred."""

    draws: bool
    """Whether there is anything to infer; else looks are as they were, and there is no statement."""

    def __call__(self, previous: Tensor, seen: LocScale) -> LocScale | None:
        """Parameters of `z_what`, `(..., W)`, given its last value and what is seen; None if it is kept."""


class StaticLooks(nn.Module):
    """The appearance is drawn on discovery and kept: there is nothing to infer, and no statement."""

    draws = False

    def forward(self, previous: Tensor, seen: LocScale) -> None:
        """Nothing."""


class StickyLooks(nn.Module):
    """Small steps towards what is seen: `q = N(z + g (seen - z), s^2)`, with a gate g for each component.

    Gates and standard deviations depend on what was, what is seen, and how surely. Gates start near copying.

    Args:
        what_size: W.
        gate_bias: initial logit of the gates; -2 takes an eighth of the difference.
        scale: initial standard deviation.
    """

    draws = True

    def __init__(self, what_size: int, gate_bias: float = -2.0, scale: float = 0.05) -> None:
        super().__init__()
        self.readout = nn.Linear(3 * what_size, 2 * what_size)
        nn.init.zeros_(self.readout.weight)
        gates, scales = self.readout.bias.detach().chunk(2)
        gates.fill_(gate_bias)
        scales.fill_(inverse_softplus(scale - MIN_STEP))

    def forward(self, previous: Tensor, seen: LocScale) -> LocScale:
        """Parameters of `z_what`, `(..., W)`, given its last value and the encoding of the glimpse."""
        difference = seen.loc - previous
        gates, raw_scale = self.readout(concatenate(previous, difference, seen.scale)).chunk(2, dim=-1)
        return LocScale(previous + gates.sigmoid() * difference, F.softplus(raw_scale) + MIN_STEP)


def draw_look(name: str, look: LocScale | None, before: Slots, used: Decision) -> Tensor:
    """The statement of the appearance of an object that goes on; none where it is carried.

    Args:
        name: of the statement.
        look: parameters, or None for what stays as it is.
        before: the slot in the frame before.
        used: decides on the object's presence.
    """
    if look is None:
        return before.z_what
    what = present_or_standard(look, before.z_pres)
    z_what: Tensor = pyro.sample(name, Provisional(what, used))
    return z_what
