"""Running a program with given values at some of its sample statements."""

from collections.abc import Callable, Mapping
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor

from .layout import Site

Value = Tensor | Callable[[Site], Tensor]


class Substitute(Messenger):
    """Gives latent sites the values of a dictionary; the sites stay latent and are scored as if drawn.

    Unlike `pyro.poutine.condition` the sites do not become observations; unlike `pyro.poutine.replay` no trace is
    needed, and a value may be a function of the site, called once the plates have given its distribution their shape.
    Observed sites are left alone.

    Args:
        values: for each name the value, or a function `site -> value`. Other sites are sampled.
    """

    def __init__(self, values: Mapping[str, Value]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        value = self.values.get(msg["name"])
        if value is None or msg["is_observed"]:
            return
        msg["value"] = value if isinstance(value, Tensor) else value(msg)
        msg["done"] = True
