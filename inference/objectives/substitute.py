"""Running a program with given values at some of its sample statements."""

from collections.abc import Callable
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor

from .layout import Site


class Substitute(Messenger):
    """Gives latent sites chosen values; the sites stay latent and are scored as if the values had been drawn.

    Unlike `pyro.poutine.condition` the sites do not become observations; unlike `pyro.poutine.replay` no
    trace is needed, and a value may depend on the site. Observed sites are left alone.

    Args:
        choose: function of a site that returns its value, or None to have it sampled.
    """

    def __init__(self, choose: Callable[[Site], Tensor | None]) -> None:
        super().__init__()
        self.choose = choose

    def _pyro_sample(self, msg: Any) -> None:
        value = None if msg["is_observed"] else self.choose(msg)
        if value is not None:
            msg["value"] = value
            msg["done"] = True
