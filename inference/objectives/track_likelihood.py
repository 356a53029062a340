"""A prior of motion, fitted to tracks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor, nn

from ...models.components.plates import Plate
from ...models.components.slots import Slots, TrackedSlots
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
            the next slots with their memory first, as `models.SQAIR`, and `propagation_prior.initial_memory`.
        variables: which are fitted.
    """

    def __init__(self, model: nn.Module, variables: tuple[str, ...] = ("z_where", "z_what")) -> None:
        super().__init__()
        self.model = model
        self.variables = variables

    def forward(self, z_pres: Tensor, z_where: Tensor, z_what: Tensor) -> tuple[Tensor, TrackDiagnostics]:
        """The loss, minus the mean over tracks, and diagnostics.

        Args:
            z_pres: which slots hold an object in all frames, `(B, N)`.
            z_where: places, `(B, T, N, 4)`.
            z_what: appearances, `(B, T, N, W)`.
        """
        model: Any = self.model
        initial = model.propagation_prior.initial_memory
        memory = initial.expand(*z_pres.shape, -1)
        identity = torch.arange(z_pres.shape[1], device=z_pres.device).expand(z_pres.shape)
        total = z_where.new_zeros(())
        for t in range(1, z_where.shape[1]):
            before = Slots(z_pres, z_where[:, t - 1], z_what[:, t - 1])
            given = {"z_pres": z_pres, "z_where": z_where[:, t], "z_what": z_what[:, t]}

            def choose(site: Site, given: dict[str, Tensor] = given) -> Tensor:
                slot = int(site["name"].rpartition("/")[2])
                return given[_variable(site["name"])][:, slot]

            with poutine.trace() as tracer, Plate("data", len(z_pres), dim=-1), Substitute(choose):
                after, _ = model.propagate(t, TrackedSlots(*before, memory, identity))
            memory = after.memory
            tracer.trace.compute_log_prob(lambda name, site: _variable(name) in self.variables)
            sites = tracer.trace.nodes.values()
            total = total + sum(site["log_prob"].sum() for site in sites if "log_prob" in site)
        mean = total / z_pres.sum().clamp(min=1)
        return -mean, TrackDiagnostics(mean.detach())


def _variable(name: str) -> str:
    """`z_where` of `propagation/z_where/4/0`; the plate of the data, a statement too, has none."""
    return name.partition("/")[2].partition("/")[0]
