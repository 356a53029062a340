"""Log-probabilities of many sites at the price of few calls."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from pyro.distributions import Bernoulli, MaskedDistribution, Normal
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import Independent

from .layout import Layout, Placement, Site

STACK_LIMIT = {"cpu": 1 << 17, "cuda": 1 << 24}
"""Elements of the values that are scored in one call, by type of device: on a CPU, larger copies leave the
cache and cost more than the calls that they save."""


class ScoredGroup(NamedTuple):
    """Sites of one role that were scored together."""

    role: str
    """What the log-probabilities are for: `"latent"` or `"observed"` in a model, `"path"` or `"score"` in a
    guide."""
    names: tuple[str, ...]
    """Names of the n sites."""
    log_prob: Tensor
    """Log-probabilities, masked and not scaled; shape (n, ..., K, B)."""
    score: Tensor
    """Log-probabilities as they enter a score-function term: `log_prob`, or the same without masks."""


class ScoredSites(NamedTuple):
    """The log-probabilities of all random variables of one trace."""

    groups: tuple[ScoredGroup, ...]
    """Sites that were scored together."""

    def total(self, *roles: str) -> Tensor | None:
        """Sums the log-probabilities of the given roles; shape (..., K, B), None without such a site."""
        return _add([group.log_prob for group in self.groups if group.role in roles])

    def total_score(self) -> Tensor | None:
        """Sums the score-function terms; shape (..., K, B), None if every site is reparameterised."""
        return _add([group.score for group in self.groups if group.role == "score"])

    def by_name(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Returns `(log_prob, score)` of every site, each of shape (..., K, B)."""
        pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for group in self.groups:
            pairs.update(zip(group.names, zip(group.log_prob, group.score, strict=True), strict=True))
        return pairs


class _Parts(NamedTuple):
    """A distribution of a known family, unwrapped."""

    family: Any
    parameters: tuple[Tensor, ...]
    event_dims: int
    masks: tuple[Tensor, ...]


class _Member(NamedTuple):
    """A site, its plates, and its unwrapped distribution if that is of a known family."""

    site: Site
    placement: Placement
    parts: _Parts | None


def score_sites(
    sites: Sequence[Site],
    roles: Sequence[str],
    layout: Layout,
    owner: str,
    leading: int = 0,
    mask_score: bool = True,
) -> ScoredSites:
    """Evaluates the log-probability of every site once, similar sites in one call.

    Normal and Bernoulli sites with equal shapes are stacked and evaluated by one call of the same `log_prob`
    that Pyro would call for each of them; the others, and sites with argument validation, are evaluated one
    by one.

    Args:
        sites: sample statements of a trace.
        roles: the role of each site, see `ScoredGroup`.
        layout: dimensions of particles and data.
        owner: `"model"` or `"guide"`, for the message of an error.
        leading: number of dimensions allowed to the left of the particles.
        mask_score: whether masks hold for the score-function terms too.

    Raises:
        SiteOutsidePlateError: A site is outside the batch plate.
        SiteShapeError: A log-probability has dimensions that no plate declares.
        ValueError: A value is outside the support of its distribution.
    """
    families: dict[Any, list[_Member]] = {}
    for site, role in zip(sites, roles, strict=True):
        placement = layout.place(site, owner)
        parts = _parts(site) if mask_score or role != "score" else None
        key = (role, site["name"]) if parts is None else (role, placement, *_signature(site, parts))
        families.setdefault(key, []).append(_Member(site, placement, parts))
    return ScoredSites(
        tuple(
            _score_group(role, members, layout, leading, mask_score)
            for (role, *_), family in families.items()
            for members in _chunks(family)
        )
    )


def _chunks(family: Sequence[_Member]) -> Iterator[Sequence[_Member]]:
    """Splits alike sites into pieces that are not too large to be copied."""
    value = family[0].site["value"]
    size = max(1, STACK_LIMIT.get(value.device.type, STACK_LIMIT["cpu"]) // max(1, value.numel()))
    for start in range(0, len(family), size):
        yield family[start : start + size]


def _score_group(
    role: str, members: Sequence[_Member], layout: Layout, leading: int, mask_score: bool
) -> ScoredGroup:
    site, placement, _ = members[0]
    names = tuple(member.site["name"] for member in members)
    if len(members) > 1:
        stacked = _pad(_score_together(members), layout.max_plate_nesting + 2)
        log_prob = layout.reduce(stacked, site, placement, leading + 1)
        return ScoredGroup(role, names, log_prob, log_prob)
    unmasked = _score_alone(site)
    log_prob = layout.reduce(scale_and_mask(unmasked, mask=site["mask"]), site, placement, leading)[None]
    if mask_score or role != "score":
        return ScoredGroup(role, names, log_prob, log_prob)
    return ScoredGroup(role, names, log_prob, layout.reduce(unmasked, site, placement, leading)[None])


def _score_alone(site: Site) -> Tensor:
    try:
        return site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    except ValueError as error:
        raise ValueError(f"log-probability of site `{site['name']}`: {error}") from error


def _parts(site: Site) -> _Parts | None:
    """Unwraps a distribution that can be scored together with others; None if it cannot."""
    fn, event_dims, masks = site["fn"], 0, []
    if isinstance(site["mask"], Tensor):
        masks.append(site["mask"])
    elif site["mask"] is False:
        return None
    while isinstance(fn, (Independent, MaskedDistribution)):
        if isinstance(fn, Independent):
            event_dims += fn.reinterpreted_batch_ndims
        elif event_dims or not isinstance(fn._mask, Tensor):
            return None
        else:
            masks.append(fn._mask)
        fn = fn.base_dist
    if fn._validate_args:
        return None
    if type(fn) is Normal:
        return _Parts(Normal, (fn.loc, fn.scale), event_dims, tuple(masks))
    if type(fn) is Bernoulli:
        return _Parts(Bernoulli, (fn.logits,), event_dims, tuple(masks))
    return None


def _signature(site: Site, parts: _Parts) -> tuple[Any, ...]:
    value = site["value"]
    shapes = tuple(tensor.shape for tensor in (value, *parts.parameters, *parts.masks))
    return parts.family, parts.event_dims, value.dtype, value.device, shapes


def _score_together(members: Sequence[_Member]) -> Tensor:
    """Evaluates n sites of equal signature; returns shape (n, *batch_shape)."""
    parts = [member.parts for member in members if member.parts is not None]
    family, _, event_dims, _ = parts[0]
    value = torch.stack([member.site["value"] for member in members])
    columns = zip(*(part.parameters for part in parts), strict=True)
    parameters = [_stack(column, value.dim()) for column in columns]
    value = _pad(value, max(parameter.dim() for parameter in parameters))
    if family is Normal:
        log_prob = Normal(*parameters, validate_args=False).log_prob(value)
    else:
        log_prob = Bernoulli(logits=parameters[0], validate_args=False).log_prob(value)
    if event_dims:
        log_prob = log_prob.sum(list(range(-event_dims, 0)))
    for masks in zip(*(part.masks for part in parts), strict=True):
        mask = _stack(masks, log_prob.dim())
        log_prob = scale_and_mask(_pad(log_prob, mask.dim()), mask=mask)
    return log_prob


def _stack(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Stacks tensors along a new first dimension and pads to at least `dim` dimensions behind it."""
    return _pad(torch.stack(list(tensors)), dim)


def _pad(stacked: Tensor, dim: int) -> Tensor:
    """Inserts dimensions of size 1 behind the first, so that what follows stays aligned to the right."""
    missing = dim - stacked.dim()
    return stacked if missing <= 0 else stacked.reshape(stacked.shape[0], *[1] * missing, *stacked.shape[1:])


def _add(groups: Sequence[Tensor]) -> Tensor | None:
    """Adds groups of log-probabilities, each summed over its first dimension."""
    total: Tensor | None = None
    for group in groups:
        summed = group[0] if group.shape[0] == 1 else group.sum(0)
        total = summed if total is None else total + summed
    return total
