"""The plate of independent data, and that of particles."""

from __future__ import annotations

from typing import Any

from pyro.poutine.broadcast_messenger import BroadcastMessenger
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.runtime import am_i_wrapped
from pyro.poutine.subsample_messenger import SubsampleMessenger


class Plate(IndepMessenger):
    """Independent repetitions, vectorised: `pyro.plate(name, size, dim=dim)` without subsampling.

    It means the same, and Pyro's inference treats it the same, but it expands a distribution only if that
    does not have the plate's size yet. `pyro.plate` expands every distribution at every statement: a quarter
    of what Pyro adds to AIR's training step. Like `pyro.plate`, it is a statement when it is made, by which
    guides that Pyro derives from a model know it, and may be opened any number of times.

    Args:
        name: name of the plate.
        size: number of repetitions.
        dim: dimension of the repetitions, counted from the right: -1 is the last before the event's.
    """

    def __init__(self, name: str, size: int, dim: int) -> None:
        if am_i_wrapped():  # otherwise nobody sees it
            SubsampleMessenger._subsample(name, size, device="cpu")
        super().__init__(name, size, dim)

    def _process_message(self, msg: Any) -> None:
        super()._process_message(msg)
        shape = getattr(msg["fn"], "batch_shape", ())
        if len(shape) < -self.dim or shape[self.dim] != self.size:
            BroadcastMessenger._pyro_sample(msg)
