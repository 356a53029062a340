"""Forcing the presence variables of a guide and of a model, to sum the number of objects out."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from pyro.distributions import Bernoulli
from torch import Tensor
from torch.nn.functional import logsigmoid

from .errors import PresenceError
from .layout import Layout, Site
from .scoring import ScoredSites
from .sites import base_distribution

_INDEXED = re.compile(r"(.+)/(\d+)")


def step_of(name: str) -> int | None:
    """Returns i of a site `variable/i`, None for a site without index."""
    match = _INDEXED.fullmatch(name)
    return int(match.group(2)) if match else None


def is_presence(name: str, presence: str) -> bool:
    """Whether a site is `presence/i` for some i."""
    match = _INDEXED.fullmatch(name)
    return match is not None and match.group(1) == presence


def all_present(presence: str, layout: Layout) -> Callable[[Site], Tensor | None]:
    """Returns a choice for `Substitute` that sets every presence variable to one.

    Raises:
        PresenceError: (when a program runs) A presence site is not a Bernoulli variable without event
            dimensions.
    """
    rank = layout.max_plate_nesting + 1

    def choose(site: Site) -> Tensor | None:
        if not is_presence(site["name"], presence):
            return None
        base = base_distribution(site["fn"])
        if not isinstance(base, Bernoulli) or site["fn"].event_shape:
            raise PresenceError(
                f"expected presence site `{site['name']}` to be a Bernoulli without event dimensions, got "
                f"{type(base).__name__} with event shape {tuple(site['fn'].event_shape)}"
            )
        # The particle plate has not been applied yet, but what the guide draws has its dimension.
        shape = [1] * (rank - len(site["fn"].batch_shape)) + list(site["fn"].batch_shape)
        shape[layout.particle_dim] = layout.num_particles
        return torch.ones_like(base.logits).expand(shape)

    return choose


def prefixes(names: Sequence[str], like: Tensor, rank: int) -> dict[str, Tensor]:
    """Returns the N + 1 prefix patterns of N presence variables in a new leading dimension.

    In pattern n the variables i < n are one and the others zero.

    Args:
        names: names of the N presence sites in order.
        like: tensor of the data type and device wanted.
        rank: number of plate dimensions to the right.

    Returns:
        For each name a tensor of shape (N + 1, 1, ..., 1).
    """
    count = len(names)
    patterns = like.new_ones(count + 1, count).tril(-1)
    return {name: patterns[:, i].reshape(count + 1, *[1] * rank) for i, name in enumerate(names)}


class ForcedGuide(NamedTuple):
    """The terms of a guide that ran with all objects present; N steps, K particles, B data."""

    names: list[str]
    """Names of the N presence sites in order."""
    log_q_count: Tensor
    """log q(n | z) for n = 0..N, where factor n uses z of the steps up to n; shape (N + 1, K, B)."""
    log_q_latents: Tensor
    """Sum of log q of what exists with n objects: sites without index, and those of the steps i < n;
    shape (N + 1, K, B)."""


def forced_guide(sites: Sequence[Site], scores: ScoredSites, presence: str, layout: Layout) -> ForcedGuide:
    """Arranges the log-probabilities of a guide that ran with all presence variables one.

    Args:
        sites: random variables of the guide in the order of execution.
        scores: log-probabilities of all but the presence variables.
        presence: name of the presence variable without index.
        layout: dimensions of particles and data.

    Raises:
        PresenceError: There is no presence site, the indices are not 0, 1, 2 ... in this order, a site of an
            earlier step or without index comes after a later presence variable, or a site has no gradient.
    """
    names = _check_order(sites, presence)
    by_name, steps = scores.by_name(), {site["name"]: site for site in sites}
    logits = torch.stack([_logits(steps[name], layout) for name in names])
    latents: list[Tensor] = [torch.zeros_like(logits[0]) for _ in range(len(names) + 1)]
    for site in sites:
        if not is_presence(site["name"], presence):
            step = step_of(site["name"])
            index = 0 if step is None else step + 1
            latents[index] = latents[index] + by_name[site["name"]][0]
    return ForcedGuide(names, log_count(logits), torch.stack(latents).cumsum(0))


def log_count(logits: Tensor) -> Tensor:
    """Returns log q(n), n = 0..N, of the number of successes before the first failure.

    Args:
        logits: logit of presence i given presence i - 1; shape (N, ...).

    Returns:
        Tensor of shape (N + 1, ...), normalised over n; finite for any finite logits.
    """
    zero = torch.zeros_like(logits[:1])
    return torch.cat([zero, logsigmoid(logits).cumsum(0)]) + torch.cat([logsigmoid(-logits), zero])


def _logits(site: Site, layout: Layout) -> Tensor:
    placement = layout.place(site, "guide")
    if placement.inner:
        raise PresenceError(f"expected presence site `{site['name']}` in no plate but `{layout.batch_plate}`")
    return layout.reduce(base_distribution(site["fn"]).logits, site, placement)


def _check_order(sites: Sequence[Site], presence: str) -> list[str]:
    names: list[str] = []
    previous = -1
    for site in sites:
        name, step = site["name"], step_of(site["name"])
        if is_presence(name, presence):
            if step != len(names):
                raise PresenceError(
                    f"expected the guide's next presence site to be `{presence}/{len(names)}`, got `{name}`"
                )
            names.append(name)
        if step is None and names:
            raise PresenceError(
                f"expected guide sites without index before `{presence}/0`, got `{name}` after it: it could "
                f"depend on objects that are absent"
            )
        if step is not None and step < previous:
            raise PresenceError(
                f"expected the guide's steps in order, got site `{name}` after sites of step {previous}"
            )
        previous = previous if step is None else step
    if not names:
        raise PresenceError(
            f"expected guide sites `{presence}/0`, `{presence}/1`, ..., got none: check `presence`, or use "
            f"`VIMCO`, which needs no such variables"
        )
    if previous >= len(names):
        raise PresenceError(
            f"expected {len(names)} steps as there are presence sites, got a site of step {previous}"
        )
    return names


def check_chain(sites: Sequence[Site], presence: str, layout: Layout) -> None:
    """Checks that the model's presence variables depend on the ones before, as those of a chain do.

    Args:
        sites: random variables of the model, which ran with the N + 1 patterns of presence.
        presence: name of the presence variable without index.
        layout: dimensions of particles and data.

    Raises:
        PresenceError: Neither the mask nor the probability of a presence site but the first has a dimension
            for the patterns.
    """
    rank = -layout.particle_dim
    for site in sites:
        if not is_presence(site["name"], presence) or step_of(site["name"]) == 0:
            continue
        mask = site["mask"]
        if len(site["fn"].batch_shape) <= rank and not (isinstance(mask, Tensor) and mask.dim() > rank):
            raise PresenceError(
                f"expected model site `{site['name']}` masked by the presence before it, so that there are "
                f"N + 1 patterns of presence to sum over, but it is independent of it: use `VIMCO`, which "
                f"samples presences, or draw them as a chain, see `models.priors.slot_presence`"
            )


def check_masked(sites: Sequence[Site], scores: ScoredSites) -> None:
    """Checks that the log-probability of every latent model site of a step depends on the presence patterns.

    Args:
        sites: random variables of the model.
        scores: their log-probabilities.

    Raises:
        PresenceError: A site `variable/i` has no dimension for the patterns: it is not masked.
    """
    steps = {site["name"] for site in sites if not site["is_observed"] and step_of(site["name"]) is not None}
    for group in scores.groups:
        for name in group.names:
            if name in steps and group.log_prob.dim() < 4:
                raise PresenceError(
                    f"expected model site `{name}` masked by the presence of its step, but its "
                    f"log-probability is the same for any number of objects"
                )
