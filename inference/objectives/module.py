"""An objective for a fixed model and guide as a `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import pyro
from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn

from .diagnostics import Diagnostics

if TYPE_CHECKING:
    from .base import MultiSampleELBO


@contextmanager
def local_parameters(*programs: Callable[..., Any]) -> Iterator[None]:
    """Makes Pyro modules use their own parameters, and neither read nor write Pyro's global parameter store.

    Otherwise two models of one class share parameters through the store, because their names are equal.

    Args:
        *programs: models and guides that are called inside the context; plain functions are left alone.
    """
    for program in programs:
        _allow_local_parameters(program)
    with pyro.settings.context(module_local_params=True):
        yield


def _allow_local_parameters(program: Callable[..., Any]) -> None:
    # A module built while `module_local_params` was off lacks the dictionaries that Pyro uses while it is on.
    for module in program.modules() if isinstance(program, nn.Module) else ():
        if isinstance(module, PyroModule) and not hasattr(module._pyro_context, "param_state"):
            module._pyro_context.param_state = {"params": {}, "constraints": {}}


def _has_random_attributes(program: nn.Module) -> bool:
    """Whether an attribute of a Pyro module is a sample statement (`PyroSample`)."""
    return any(
        isinstance(module, PyroModule)
        and (module._pyro_samples or _declares_random_attributes(cast(Hashable, type(module))))
        for module in program.modules()
    )


@cache
def _declares_random_attributes(module_class: Hashable) -> bool:
    classes = getattr(module_class, "__mro__", ())
    return any(isinstance(value, PyroSample) for cls in classes for value in vars(cls).values())


def _without_statements(program: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a way to call a Pyro module in which reading a parameter or a sub-module is no Pyro statement.

    A called `PyroModule` turns every such reading into one `pyro.param` statement per parameter below, which
    takes longer than small networks themselves. Only random attributes need it.
    """
    if isinstance(program, PyroModule) and not _has_random_attributes(program):
        return partial(nn.Module.__call__, program)
    return program


class ObjectiveModule(nn.Module):
    """The loss of one model/guide pair as a module, for `torch.optim` and DistributedDataParallel.

    Its parameters are those of the two sub-modules `model` and `guide`. They are never looked up in Pyro's
    global parameter store, so that several pairs of the same classes can live side by side, and reading them
    is no Pyro
    statement: a handler around the whole module does not see `pyro.param` messages of Pyro modules. Made by
    calling an objective:

        loss, diagnostics = IWAE(num_particles=5)(model, guide)(images)

    Args:
        model: generative program.
        guide: inference program.
        objective: bound and estimator.
    """

    def __init__(
        self, model: Callable[..., Any], guide: Callable[..., Any], objective: MultiSampleELBO
    ) -> None:
        super().__init__()
        self.model = model
        self.guide = guide
        self.objective = objective

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Diagnostics]:
        """Computes the loss, a scalar tensor, and its diagnostics; arguments are those of model and guide."""
        model, guide = _without_statements(self.model), _without_statements(self.guide)
        with local_parameters(self.model, self.guide):
            return self.objective.evaluate(model, guide, *args, **kwargs)
