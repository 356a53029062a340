"""The plate of independent data, and that of particles."""

from __future__ import annotations

from typing import Any

from pyro.poutine.broadcast_messenger import BroadcastMessenger
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.runtime import _PYRO_STACK, am_i_wrapped
from pyro.poutine.subsample_messenger import SubsampleMessenger


def _is_open(name: str) -> bool:
    return any(isinstance(handler, IndepMessenger) and handler.name == name for handler in _PYRO_STACK)


class Plate(IndepMessenger):
    """Independent repetitions, vectorised: `pyro.plate(name, size, dim=dim)` without subsampling.

    It means the same, and Pyro's inference treats it the same, but it expands a distribution only if that
    does not have the plate's size yet. `pyro.plate` expands every distribution at every statement: a quarter
    of what Pyro adds to AIR's training step. Like `pyro.plate`, it is a statement when it is made, by which
    guides that Pyro derives from a model know it, and may be opened any number of times.

    Within a plate of its name that is open already it is nothing of its own: whoever calls a model or a guide
    within `pyro.plate("data", 60_000, subsample_size=64, dim=-1)` has its terms scaled, as Pyro scales them.

    Args:
        name: name of the plate.
        size: number of repetitions.
        dim: dimension of the repetitions, counted from the right: -1 is the last before the event's.
    """

    def __init__(self, name: str, size: int, dim: int) -> None:
        self._joined = _is_open(name)
        if not self._joined and am_i_wrapped():  # otherwise nobody sees it
            SubsampleMessenger._subsample(name, size, device="cpu")
        super().__init__(name, size, dim)

    def __enter__(self) -> Plate:
        return self if self._joined else super().__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return None if self._joined else super().__exit__(*error)

    def _process_message(self, msg: Any) -> None:
        super()._process_message(msg)
        shape = getattr(msg["fn"], "batch_shape", ())
        if len(shape) < -self.dim or shape[self.dim] != self.size:
            BroadcastMessenger._pyro_sample(msg)
