"""How latent variables go on that a slot has beside place and appearance."""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any

from torch import Tensor, nn

from ..components.slots import TrackedSlots
from .looks import LooksPrior
from .propagation import Propagation, PropagationPrior


class WithFurther(nn.Module):
    """A propagation prior, and how further variables go on, each by itself.

    Args:
        prior: of presence, place and appearance.
        further: of the others, by name, as `z_depth=StickyLooksPrior(1)`: small steps.
    """

    def __init__(self, prior: PropagationPrior, **further: LooksPrior) -> None:
        super().__init__()
        self.prior = prior
        self.further = nn.ModuleDict(further)  # type: ignore[arg-type]

    @property
    def per_object(self) -> bool:
        """Whether each slot is predicted from that slot alone."""
        return self.prior.per_object

    @property
    def initial_memory(self) -> Tensor:
        """Recurrent state of an object that was just discovered, `(D,)`."""
        return self.prior.initial_memory

    def forward(self, slots: TrackedSlots) -> Propagation:
        """Predict all slots at once."""
        laws = (law(getattr(slots, name)) for name, law in self.further.items())
        return self.prior(slots)._replace(further=_named(tuple(self.further))(*laws))


@cache
def _named(names: tuple[str, ...]) -> Any:
    make: Any = namedtuple  # whose fields the type checker wants to read
    return make("Further", names)
