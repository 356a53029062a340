"""Objects drawn before it is known whether they are there, as SQAIR's discovery and propagation do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..models.components.networks import LocScale
from ..models.components.slots import Slots, slots_present


class Placed(NamedTuple):
    """Where a slot may be."""

    hidden: Tensor
    """State of the recurrent network that runs over slots, `(..., D)`."""
    where: LocScale
    """Parameters of `z_where`, `(..., 4)`."""


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
        (diagonal_normal, [draw.look for draw in draws], [draw.z_what for draw in draws]),
    ):
        size = values[0].shape[-1]
        loc, scale = (together(column, size) for column in zip(*parameters, strict=True))
        log_prob = log_prob + make(loc, scale).log_prob(together(values, size))
    pyro.factor(name, -log_prob.masked_fill(used, 0.0).sum(0), has_rsample=True)


def diagonal_normal(loc: Tensor, scale: Tensor) -> TorchDistribution:
    """Independent normals over the last axis."""
    return dist.Normal(loc, scale).to_event(1)
