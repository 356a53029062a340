"""The latent variables of objects in slots; slots that are tracked over time, their order and identities.

Present slots always form a prefix, in tracking the oldest first. So the discovery of objects can be a chain
of decisions, and a slot means the same in model and guide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ABSENT = -1
"""The identity of an absent slot."""


class Slots(NamedTuple):
    """The latent variables of all slots, with an axis N; or, without it, those of a single slot."""

    z_pres: Tensor
    """Presence, 0 or 1, `(..., N)`."""
    z_where: Tensor
    """Place and size, `(..., N, D)`: in AIR `(s, x, y)`, see `attention.air_inverse_scale`, in SQAIR four
    numbers, see `attention.sqair_squash`.
    """
    z_what: Tensor
    """Appearance, `(..., N, W)`."""

    def features(self) -> Tensor:
        """All of them side by side, `(..., N, W + D + 1)`."""
        return torch.cat([self.z_what, self.z_where, self.z_pres.unsqueeze(-1)], dim=-1)


def slots_present(z_pres: Tensor, z_where: Tensor, z_what: Tensor) -> Slots:
    """Slots whose values are zero where they are absent, so that what was drawn there influences nothing.

    Presence may lack leading axes that the others have, as where it was conditioned, or have more, as where
    it is enumerated.
    """
    here = z_pres.unsqueeze(-1)
    z_where, z_what = z_where * here, z_what * here
    return Slots(z_pres.expand(z_what.shape[:-1]), z_where, z_what)


def stack_slots(slots: Sequence[Slots]) -> Slots:
    """Put single slots, whose fields lack the axis N, side by side; leading axes broadcast, field by field.

    Where presences are enumerated, those of each slot have an axis of their own.
    """
    presences, places, looks = zip(*slots, strict=True)
    return Slots(side_by_side(presences, 0), side_by_side(places), side_by_side(looks))


def side_by_side(values: Sequence[Tensor], event_dims: int = 1) -> Tensor:
    """Stack `(..., *event)` of each slot to `(..., N, *event)`; leading axes broadcast."""
    cut = values[0].dim() - event_dims
    leading = {value.shape[: value.dim() - event_dims] for value in values}
    if len(leading) > 1:
        shape = torch.broadcast_shapes(*leading)
        values = [value.expand(*shape, *value.shape[value.dim() - event_dims :]) for value in values]
        cut = len(shape)
    return torch.stack(list(values), dim=cut)


class TrackedSlots(NamedTuple):
    """All slots of one frame. What is absent is zero, so that it influences nothing."""

    z_pres: Tensor
    """Presence, 0 or 1, `(..., N)`."""
    z_where: Tensor
    """Place and size, unbounded, `(..., N, 4)`, see `attention.sqair_squash`."""
    z_what: Tensor
    """Appearance, `(..., N, W)`."""
    memory: Tensor
    """Recurrent state, `(..., N, D)`: that of the propagation prior in a model, that of the temporal
    network in a guide.
    """
    identity: Tensor
    """Number of the object, counted from 0 in each sequence in order of discovery; `ABSENT` where
    there is none. `(..., N)`, int64.
    """


def empty_slots(slots: int, what_size: int, memory: Tensor, batch_size: int) -> TrackedSlots:
    """No objects: the slots before the first frame.

    Args:
        slots: N.
        what_size: W.
        memory: initial recurrent state, `(D,)`.
        batch_size: B.
    """
    shape = (batch_size, slots)
    return TrackedSlots(
        memory.new_zeros(shape),
        memory.new_zeros(*shape, 4),
        memory.new_zeros(*shape, what_size),
        memory.expand(*shape, -1),
        torch.full(shape, ABSENT, device=memory.device),
    )


def compact(propagated: TrackedSlots, discovered: TrackedSlots) -> TrackedSlots:
    """Put the present slots first, propagated before discovered, in their order, and keep N.

    All fields of a slot move together. If more than N are present, the last discovered are dropped.

    Args:
        propagated: N slots; any of them may be absent.
        discovered: N slots; leading axes broadcast.
    """
    slots = propagated.z_pres.shape[-1]
    leading = torch.broadcast_shapes(propagated.z_pres.shape, discovered.z_pres.shape)
    fields = []
    for event_dims, *pair in zip((0, 1, 1, 1, 0), propagated, discovered, strict=True):
        wide = [field.expand(*leading, *field.shape[field.dim() - event_dims :]) for field in pair]
        fields.append(torch.cat(wide, dim=len(leading) - 1))
    order = (1 - fields[0]).argsort(dim=-1, stable=True)[..., :slots]
    return TrackedSlots(*(_take(field, order) for field in fields))


def _take(field: Tensor, order: Tensor) -> Tensor:
    if field.dim() == order.dim():
        return field.gather(-1, order)
    return field.gather(-2, order.unsqueeze(-1).expand(*order.shape, field.shape[-1]))


def new_identities(z_pres: Tensor, discovered_before: Tensor) -> Tensor:
    """Identities of discovered slots: consecutive numbers after those given before.

    Args:
        z_pres: presence of the discovered slots, a prefix, `(..., N)`.
        discovered_before: number of objects discovered so far, `(...)`, int64.

    Returns:
        `(..., N)`, int64.
    """
    numbers = discovered_before.unsqueeze(-1) + torch.arange(z_pres.shape[-1], device=z_pres.device)
    return numbers.masked_fill(z_pres <= 0, ABSENT)


def concatenate(*parts: Tensor) -> Tensor:
    """Concatenate features on the last axis; leading axes broadcast: a first state lacks particles."""
    leading = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*leading, part.shape[-1]) for part in parts], dim=-1)
