"""How latent variables go on that a slot has beside place and appearance."""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any

from torch import nn

from ..components.slots import TrackedSlots
from .looks import AroundPrior, LooksPrior, StaticLooksPrior
from .propagation import Propagation, PropagationPrior, further_of


class WithFurther(AroundPrior):
    """A propagation prior, and how further variables go on, each by itself.

    Args:
        prior: of presence, place and appearance; if it has further ones, they are kept.
        further: of the others, by name, as `z_depth=StickyLooksPrior(1)`: small steps. None stays as it
            is, since each has a statement of its own.

    Raises:
        ValueError: if one of them does.
    """

    def __init__(self, prior: PropagationPrior, **further: LooksPrior) -> None:
        super().__init__(prior)
        for name, law in further.items():
            if isinstance(law, StaticLooksPrior):
                raise ValueError(f"`{name}` must be a variable that changes, but its prior lets it stay.")
        self.further = nn.ModuleDict(further)  # type: ignore[arg-type]

    def forward(self, slots: TrackedSlots) -> Propagation:
        """Predict all slots at once."""
        predicted = self.prior(slots)
        own = {name: law(getattr(slots, name)) for name, law in self.further.items()}
        laws = {**further_of(predicted), **own}
        return predicted._replace(further=_named(tuple(laws))(*laws.values()))


@cache
def _named(names: tuple[str, ...]) -> Any:
    make: Any = namedtuple  # whose fields the type checker wants to read
    return make("Further", names)
