"""The latent variables of objects in slots; slots that are tracked over time, their order and identities.

A model may have more of them than a place and an appearance, such as a depth `z_depth`: all functions here
take slots with any fields, presence first, see `slots_of`.

Present slots always form a prefix, in tracking the oldest first. So the discovery of objects can be a chain
of decisions, and a slot means the same in model and guide.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

ABSENT = -1
"""The identity of an absent slot."""


Kind = TypeVar("Kind", bound=NamedTuple)
"""Slots with any latent variables, tracked or not."""


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
        """Appearance, place and presence side by side, `(..., N, W + D + 1)`."""
        return torch.cat([self.z_what, self.z_where, self.z_pres.unsqueeze(-1)], dim=-1)


def slots_present(slots: Kind) -> Kind:
    """Slots whose values are zero where they are absent, so that what was drawn there influences nothing.

    Presence may lack leading axes that the others have, as where it was conditioned, or have more, as where
    it is enumerated.

    Args:
        slots: presence, and then any latent variables `(..., D)`.
    """
    z_pres, *latents = slots
    here = z_pres.unsqueeze(-1)
    latents = [value * here for value in latents]
    return slots._make([z_pres.expand(latents[-1].shape[:-1]), *latents])


def stack_slots(slots: Sequence[Kind]) -> Kind:
    """Put single slots, whose fields lack the axis N, side by side; leading axes broadcast, field by field.

    Where presences are enumerated, those of each slot have an axis of their own.
    """
    first = slots[0]
    fields = zip(*slots, strict=True)
    return first._make(map(side_by_side, fields, event_dims(first)))


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


def event_dims(slots: NamedTuple) -> list[int]:
    """Number of event axes of each field, after that of the slots."""
    return [0 if name in ("z_pres", "identity") else 1 for name in slots._fields]


@cache
def _type(latents: tuple[str, ...], is_tracked: bool) -> type[Any]:
    """`Slots` or `TrackedSlots`, or what they are with other latent variables."""
    fields = ("z_pres", *latents, *(("memory", "identity") if is_tracked else ()))
    plain: type[Any] = TrackedSlots if is_tracked else Slots
    if plain._fields == fields:
        return plain
    make: Any = namedtuple  # whose name and fields the type checker wants to read
    made: type[Any] = make(plain.__name__, fields)
    made.features = Slots.features
    return made


def slots_of(z_pres: Tensor, **latents: Tensor) -> Slots:
    """`Slots`; with latent variables beside `z_where` and `z_what`, a type that has them as fields too."""
    made: Slots = _type(tuple(latents), False)(z_pres, *latents.values())
    return made


def tracked(slots: Slots, memory: Tensor, identity: Tensor) -> TrackedSlots:
    """Slots with what is remembered of them; all their latent variables are kept."""
    made: TrackedSlots = _type(slots._fields[1:], True)(*slots, memory, identity)
    return made


def latents(slots: TrackedSlots) -> Slots:
    """Presence and all latent variables of slots, without what is remembered of them."""
    made: Slots = _type(slots._fields[1:-2], False)(*slots[:-2])
    return made


def slot_at(slots: TrackedSlots, i: int) -> Slots:
    """Presence and all latent variables of one slot, without the axis N."""
    names = slots._fields[1:-2]
    return slots_of(slots.z_pres[..., i], **{name: getattr(slots, name)[..., i, :] for name in names})


def empty_slots(slots: int, sizes: Mapping[str, int], memory: Tensor, batch_size: int) -> TrackedSlots:
    """No objects: the slots before the first frame.

    Args:
        slots: N.
        sizes: number of components of each latent variable, by name.
        memory: initial recurrent state, `(D,)`.
        batch_size: B.
    """
    shape = (batch_size, slots)
    values = {name: memory.new_zeros(*shape, size) for name, size in sizes.items()}
    identity = torch.full(shape, ABSENT, device=memory.device)
    return tracked(slots_of(memory.new_zeros(shape), **values), memory.expand(*shape, -1), identity)


def compact(propagated: Kind, discovered: Kind) -> Kind:
    """Put the present slots first, propagated before discovered, in their order, and keep N.

    All fields of a slot move together. If more than N are present, the last discovered are dropped.

    Args:
        propagated: N slots, presence first; any of them may be absent.
        discovered: N slots; leading axes broadcast.

    Raises:
        ValueError: if they have other latent variables.
    """
    if propagated._fields != discovered._fields:
        both = ", ".join(propagated._fields), ", ".join(discovered._fields)
        raise ValueError("propagated slots have {}, discovered ones {}".format(*both))
    slots = propagated[0].shape[-1]
    leading = torch.broadcast_shapes(propagated[0].shape, discovered[0].shape)
    fields = []
    for dims, *pair in zip(event_dims(propagated), propagated, discovered, strict=True):
        wide = [field.expand(*leading, *field.shape[field.dim() - dims :]) for field in pair]
        fields.append(torch.cat(wide, dim=len(leading) - 1))
    order = (1 - fields[0]).argsort(dim=-1, stable=True)[..., :slots]
    return propagated._make(_take(field, order) for field in fields)


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
