"""What all models and guides are, whatever they compute."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pyro
from pyro.nn import PyroModule
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor, nn


class Program(PyroModule):
    """A Pyro module that is a model or a guide, and says so where training would pass it by.

    `pyro.infer.SVI` trains the parameters in Pyro's global store, which knows them by name. Where another
    module of the same names was there first, as one of the same class was that was trained before in this
    process, the store's are trained, and this module goes on with its own, which stay as they are. The
    objectives of `inference.objectives` as modules, and all of `inference`, do not use the store.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; in Pyro's `SVI` warn once if its parameters are not those that are trained."""
        if not self.__dict__.get("_has_warned") and _is_trained_from_the_store():
            self._warn_if_shadowed()
        return super().__call__(*args, **kwargs)

    def _warn_if_shadowed(self) -> None:
        store = pyro.get_param_store()._params
        parameters = _named_in_store(self, self._pyro_name)
        shadowed = [name for name, value in parameters if store.get(name, value) is not value]
        if shadowed:
            self.__dict__["_has_warned"] = True
            warnings.warn(
                f"Pyro's parameter store has other values for {len(shadowed)} parameters of this "
                f"`{type(self).__name__}`, `{shadowed[0]}` among them, as from a module trained before: "
                f"`pyro.infer.SVI` trains those and not this module's. Call `pyro.clear_param_store()` "
                f"before another training, or use an objective as a module, which leaves the store alone.",
                stacklevel=3,
            )


def _is_trained_from_the_store() -> bool:
    """Whether a step of Pyro's `SVI` is being taken, which records nothing but parameters."""
    return any(isinstance(handler, TraceMessenger) and handler.param_only for handler in _PYRO_STACK)


def _named_in_store(module: PyroModule, path: str) -> Iterator[tuple[str, Tensor]]:
    """The parameters of a module by the names under which Pyro puts them into its store."""
    start = f"{path}." if path else ""
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield start + name, parameter
    for name, child in module.named_children():
        if isinstance(child, PyroModule):
            yield from _named_in_store(child, start + name)
        elif isinstance(child, nn.Module):
            for rest, parameter in child.named_parameters():
                yield f"{start}{name}$$${rest}", parameter
