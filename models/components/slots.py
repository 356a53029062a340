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

    Presence may lack leading axes that the others have, as where it was conditioned, or have others, as where
    all counts are tried.
    """
    here = z_pres.unsqueeze(-1)
    shape = torch.broadcast_shapes(z_pres.shape, z_what.shape[:-1])
    return Slots(z_pres.expand(shape), z_where * here, z_what * here)


def stack_slots(slots: Sequence[Slots]) -> Slots:
    """Put single slots, whose fields lack the axis N, side by side."""
    return Slots(
        torch.stack([slot.z_pres for slot in slots], dim=-1),
        torch.stack([slot.z_where for slot in slots], dim=-2),
        torch.stack([slot.z_what for slot in slots], dim=-2),
    )


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
        discovered: N slots, with the same leading axes.
    """
    slots = propagated.z_pres.shape[-1]
    fields = [
        torch.cat(pair, dim=_slot_axis(pair[0], propagated))
        for pair in zip(propagated, discovered, strict=True)
    ]
    order = (1 - fields[0]).argsort(dim=-1, stable=True)[..., :slots]
    return TrackedSlots(*(_take(field, order) for field in fields))


def _slot_axis(field: Tensor, slots: TrackedSlots) -> int:
    return -1 if field.dim() == slots.z_pres.dim() else -2


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
