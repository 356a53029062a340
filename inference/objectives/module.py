"""An objective for a fixed model and guide as a `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache, partial
from typing import Any, Protocol, cast

from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn

from ..local_parameters import local_parameters
from .diagnostics import Diagnostics


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


class Evaluates(Protocol):
    """A bound with an estimator, as `MultiSampleELBO` is."""

    def evaluate(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Diagnostics]:
        """Returns the loss, a scalar, and what to look at; arguments are those of model and guide."""


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

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any], objective: Evaluates) -> None:
        super().__init__()
        self.model = model
        self.guide = guide
        self.objective = objective

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Diagnostics]:
        """Computes the loss, a scalar tensor, and its diagnostics; arguments are those of model and guide."""
        model, guide = _without_statements(self.model), _without_statements(self.guide)
        with local_parameters(self.model, self.guide):
            return self.objective.evaluate(model, guide, *args, **kwargs)
