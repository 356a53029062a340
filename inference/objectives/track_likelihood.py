"""A prior of motion, fitted to tracks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor, nn

from ... import checks
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

    Where an object is out of sight a track is no evidence but a draw of what was believed when it was
    followed, and a prior that is fitted to that goes on believing it. `complete` draws it anew.

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
        memory, total = None, values[0].new_zeros(())
        for t in range(1, values[0].shape[1]):
            given = self._named(values, t)

            def choose(variable: str, slot: int, _: Any, given: dict[str, Tensor] = given) -> Tensor:
                return given[variable][:, slot]

            memory, found = self._propagate(t, z_pres, self._named(values, t - 1), memory, choose)
            total = total + sum(log_prob.sum() for log_prob in found.values())
        mean = total / z_pres.sum().clamp(min=1)
        return -mean, TrackDiagnostics(mean.detach())

    @torch.no_grad()
    def complete(
        self, z_pres: Tensor, seen: Tensor, *values: Tensor, particles: int = 16
    ) -> tuple[Tensor, ...]:
        r"""The variables of tracks, with places where an object is not seen drawn given all where it is.

        Of `particles` paths that the prior draws through the hidden places, one is chosen in proportion to

        $$ \prod_{t, i \text{ seen}} p(z_t^i | z_{<t}), $$

        which is importance resampling from the posterior of hidden places. To fit the prior to what it
        completes, again and again, is a stochastic EM, and increases the likelihood of what is seen.

        Args:
            z_pres: as of `forward`.
            seen: where an object is seen, `(B, T, N)`, 0 or 1; all count as seen in the first frame.
            values: as of `forward`, places first.
            particles: paths among which one is chosen in each video.

        Returns:
            `values`, with other places.
        """
        checks.positive(particles=particles)
        rows = (z_pres.unsqueeze(1) * (1 - seen))[:, 1:].flatten(1).any(1).nonzero().squeeze(1)
        if not len(rows):
            return values
        present, here, places, *others = (
            value[rows].repeat_interleave(particles, 0) for value in (z_pres, seen > 0, *values)
        )
        memory, log_weight = None, places.new_zeros(len(places))
        for t in range(1, places.shape[1]):
            known = self._named([places, *others], t)

            def choose(
                variable: str, slot: int, prior: Any, t: int = t, known: dict[str, Tensor] = known
            ) -> Tensor:
                if variable == "z_where":
                    there = here[:, t, slot, None]
                    places[:, t, slot] = torch.where(there, places[:, t, slot], prior.sample())
                return known[variable][:, slot]  # of places a view, with what was drawn

            before = self._named([places, *others], t - 1)
            memory, found = self._propagate(t, present, before, memory, choose)
            for (variable, slot), log_prob in found.items():
                log_weight += log_prob * here[:, t, slot] if variable == "z_where" else log_prob
        chosen = torch.distributions.Categorical(logits=log_weight.view(-1, particles)).sample()
        paths = places.view(-1, particles, *places.shape[1:])
        row = torch.arange(len(rows), device=rows.device)
        return values[0].index_copy(0, rows, paths[row, chosen]), *values[1:]

    def _named(self, values: Sequence[Tensor], t: int) -> dict[str, Tensor]:
        """The latent variables of frame `t`, `(B, N, D)` of each."""
        model: Any = self.model
        return {name: value[:, t] for name, value in zip(model.discovery.sizes, values, strict=True)}

    def _propagate(
        self,
        t: int,
        z_pres: Tensor,
        before: dict[str, Tensor],
        memory: Tensor | None,
        choose: Callable[[str, int, Any], Tensor],
    ) -> tuple[Tensor, dict[tuple[str, int], Tensor]]:
        """Memory of the objects, and log-probabilities `(B,)` of what is chosen in frame `t`.

        Args:
            t: number of the frame.
            z_pres: as of `forward`.
            before: the latent variables of the frame before.
            memory: that of the objects, None in the first frame.
            choose: the value `(B, D)` of a variable of a slot, given its distribution.
        """
        model: Any = self.model
        if memory is None:
            memory = model.propagation_prior.initial_memory.expand(*z_pres.shape, -1)
        identity = torch.arange(z_pres.shape[1], device=z_pres.device).expand(z_pres.shape)

        def of_site(site: Site) -> Tensor:
            variable, slot = _parts(site["name"])
            return z_pres[:, slot] if variable == "z_pres" else choose(variable, slot, site["fn"])

        with poutine.trace() as tracer, Plate("data", len(z_pres), dim=-1), Substitute(of_site):
            after, _ = model.propagate(t, tracked(slots_of(z_pres, **before), memory, identity))
        tracer.trace.compute_log_prob(lambda name, site: _parts(name)[0] in before)
        nodes = tracer.trace.nodes.items()
        return after.memory, {_parts(name): site["log_prob"] for name, site in nodes if "log_prob" in site}


def _parts(name: str) -> tuple[str, int]:
    """`z_where` and 0 of `propagation/z_where/4/0`; the plate of the data is a statement of no variable."""
    _, _, rest = name.partition("/")
    variable, _, place = rest.partition("/")
    return variable, int(place.rpartition("/")[2] or 0)
