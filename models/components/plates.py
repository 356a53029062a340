"""The plate of independent data, and that of particles."""

from __future__ import annotations

from typing import Any

from pyro.poutine.broadcast_messenger import BroadcastMessenger
from pyro.poutine.indep_messenger import IndepMessenger


class Plate(IndepMessenger):
    """Independent repetitions, vectorised: `pyro.plate(name, size, dim=dim)` without subsampling.

    It means the same, and Pyro's inference treats it the same, but it expands a distribution only if that
    does not have the plate's size yet, and makes no statement of its own. `pyro.plate` expands every
    distribution at every statement, and draws the indices of a subsample whenever it is opened: a quarter of
    what Pyro adds to AIR's training step.

    Args:
        name: name of the plate.
        size: number of repetitions.
        dim: dimension of the repetitions, counted from the right: -1 is the last before the event's.
    """

    def __init__(self, name: str, size: int, dim: int) -> None:
        super().__init__(name, size, dim)

    def _process_message(self, msg: Any) -> None:
        super()._process_message(msg)
        shape = getattr(msg["fn"], "batch_shape", ())
        if len(shape) < -self.dim or shape[self.dim] != self.size:
            BroadcastMessenger._pyro_sample(msg)
