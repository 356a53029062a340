"""Pyro modules that use their own parameters, whatever is in Pyro's global store."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
from pyro.nn import PyroModule
from torch import nn

_ONE_THREAD = threading.RLock()


@contextmanager
def local_parameters(*programs: Callable[..., Any]) -> Iterator[None]:
    """Makes Pyro modules use their own parameters, and neither read nor write Pyro's global parameter store.

    Otherwise two models of one class share parameters through the store, because their names are equal.

    Pyro keeps this setting, and the statements that are being made, once for all threads. So threads that use
    the context are served one after the other: a second one waits until the first has left it.

    Args:
        *programs: models and guides that are called inside the context; plain functions are left alone.
    """
    with _ONE_THREAD:
        for program in programs:
            _allow_local_parameters(program)
        with pyro.settings.context(module_local_params=True):
            yield


def _allow_local_parameters(program: Callable[..., Any]) -> None:
    # A module built while `module_local_params` was off lacks the dictionaries that Pyro uses while it is on.
    for module in program.modules() if isinstance(program, nn.Module) else ():
        if isinstance(module, PyroModule) and not hasattr(module._pyro_context, "param_state"):
            module._pyro_context.param_state = {"params": {}, "constraints": {}}
