"""An objective for a fixed model and guide as a `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyro
from pyro.nn import PyroModule
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
        if isinstance(program, nn.Module):
            _allow_local_parameters(program)
    with pyro.settings.context(module_local_params=True):
        yield


def _allow_local_parameters(program: nn.Module) -> None:
    # A module built while `module_local_params` was off lacks the dictionaries that Pyro uses while it is on.
    for module in program.modules():
        if isinstance(module, PyroModule) and not hasattr(module._pyro_context, "param_state"):
            module._pyro_context.param_state = {"params": {}, "constraints": {}}


class ObjectiveModule(nn.Module):
    """The loss of one model/guide pair, to be trained with `torch.optim` and wrapped in
    DistributedDataParallel.

    Its parameters are those of the two sub-modules `model` and `guide`. They are never looked up in Pyro's
    global parameter store, so that several pairs of the same classes can live side by side. Made by calling
    an objective:

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
        with local_parameters(self.model, self.guide):
            return self.objective.evaluate(self.model, self.guide, *args, **kwargs)
