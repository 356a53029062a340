"""A prior of motion, fitted to tracks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor, nn

from ...models.components.plates import Plate
from ...models.components.slots import slots_of, tracked
from .layout import Site
from .substitute import Substitute


class TrackDiagnostics(NamedTuple):
    """What there is to look at."""

    log_likelihood: Tensor
    """log p of a track given its first frame, in nats: mean over tracks."""


class TrackLikelihood(nn.Module):
    r"""Log-likelihood of tracks under a model's prior of how objects go on.

    $$ \sum_{t=2}^T \log p(z_t | z_{<t}) $$

    of places and appearances of objects that stay, given those of the first frame. Where a guide can follow
    objects without a good prior of motion, what it draws are tracks to fit one to: the gradient in the
    parameters of the prior is that of the ELBO with the guide held fixed, the wake phase of wake-sleep, at a
    small part of its cost, since no frame is looked at and none drawn. Whether objects stay is not fitted.

    Args:
        model: has `propagate(t, slots)`, which makes the statements of `propagation/VARIABLE/t/i` and returns
            the next slots with their memory first, as `models.SQAIR`, `propagation_prior.initial_memory`, and
            the names of its latent variables, `discovery.sizes`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, z_pres: Tensor, *values: Tensor) -> tuple[Tensor, TrackDiagnostics]:
        """The loss, minus the mean over tracks, and diagnostics.

        Args:
            z_pres: which slots hold an object in all frames, `(B, N)`.
            values: the latent variables in the order of the model's slots, `(B, T, N, D)` of each: places,
                appearances, and what else there is.

        Raises:
            ValueError: if T < 2, where nothing goes on.
        """
        if values[0].shape[1] < 2:
            raise ValueError(
                f"`values` must be of at least 2 frames, since what is fitted is how objects go on from one "
                f"to the next, got shape {tuple(values[0].shape)} with {values[0].shape[1]}."
            )
        model: Any = self.model
        initial = model.propagation_prior.initial_memory
        memory = initial.expand(*z_pres.shape, -1)
        identity = torch.arange(z_pres.shape[1], device=z_pres.device).expand(z_pres.shape)
        total = values[0].new_zeros(())
        drawn = dict(zip(model.discovery.sizes, values, strict=True))
        for t in range(1, values[0].shape[1]):
            before = slots_of(z_pres, **{name: value[:, t - 1] for name, value in drawn.items()})
            given = {"z_pres": z_pres, **{name: value[:, t] for name, value in drawn.items()}}

            def choose(site: Site, given: dict[str, Tensor] = given) -> Tensor:
                slot = int(site["name"].rpartition("/")[2])
                return given[_variable(site["name"])][:, slot]

            with poutine.trace() as tracer, Plate("data", len(z_pres), dim=-1), Substitute(choose):
                after, _ = model.propagate(t, tracked(before, memory, identity))
            memory = after.memory
            tracer.trace.compute_log_prob(lambda name, site: _variable(name) in drawn)
            sites = tracer.trace.nodes.values()
            total = total + sum(site["log_prob"].sum() for site in sites if "log_prob" in site)
        mean = total / z_pres.sum().clamp(min=1)
        return -mean, TrackDiagnostics(mean.detach())


def _variable(name: str) -> str:
    """`z_where` of `propagation/z_where/4/0`; the plate of the data, a statement too, has none."""
    return name.partition("/")[2].partition("/")[0]
