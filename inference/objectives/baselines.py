"""Learned baselines, annotated at the sample statements of a guide as in Pyro."""

import torch
from pyro.distributions import MaskedDistribution
from pyro.distributions.util import detach
from torch import Tensor

from .errors import BaselineError
from .layout import Site

_KEYS = ("baseline_value", "nn_baseline", "nn_baseline_input")


def baseline_of(site: Site, shape: torch.Size) -> Tensor | None:
    """Returns the baseline that a guide annotates at a sample statement.

    The annotation is `infer={"baseline": {...}}` with either `baseline_value`, a tensor, or `nn_baseline` and
    `nn_baseline_input`, a function and its input, which is detached. A baseline must not depend on the value
    of the site itself nor on later ones, otherwise the gradient is biased; and it should be a function of
    detached inputs, because the regression loss is differentiated with respect to everything that it depends
    on.

    Args:
        site: a guide site.
        shape: (K, B).

    Returns:
        Tensor of shape (K, B), or None without annotation.

    Raises:
        BaselineError: Unknown or contradictory keys, or a shape other than (K, B), (1, B), (B,) or ().
    """
    options = site["infer"].get("baseline")
    if not options:
        return None
    name = site["name"]
    if options.get("use_decaying_avg_baseline"):
        raise BaselineError(
            f"`use_decaying_avg_baseline` at site `{name}` is not supported: the running average would be "
            f"state outside model and guide; give a `baseline_value` or an `nn_baseline`"
        )
    unknown = sorted(set(options) - {*_KEYS, "use_decaying_avg_baseline", "baseline_beta"})
    if unknown:
        raise BaselineError(
            f"expected the baseline of site `{name}` to have keys of {_KEYS}, got `{unknown[0]}`"
        )
    if ("baseline_value" in options) == ("nn_baseline" in options):
        raise BaselineError(
            f"expected either `baseline_value` or `nn_baseline` at site `{name}`, got {sorted(options)}"
        )
    if "baseline_value" in options:
        value = options["baseline_value"]
    else:
        value = options["nn_baseline"](detach(options.get("nn_baseline_input")))
    return _broadcast(value, shape, name)


def _broadcast(value: Tensor, shape: torch.Size, name: str) -> Tensor:
    # A tensor of shape (B, 1) would broadcast silently when K = B or K = 1; the last dimension must be that
    # of the data.
    fits = value.dim() == 0 or (
        value.dim() <= 2 and value.shape[-1] == shape[-1] and value.shape[:-1] in ((), (1,), shape[:1])
    )
    if not fits:
        raise BaselineError(
            f"expected the baseline of site `{name}` to have shape {tuple(shape)} (particles, data) or "
            f"{(shape[-1],)}, got {tuple(value.shape)}"
        )
    return value.expand(shape)


def site_mask(site: Site) -> Tensor | bool:
    """Returns where the log-probability of a site counts: its `poutine.mask` and that of its distribution."""
    mask = True if site["mask"] is None else site["mask"]
    fn = site["fn"]
    if isinstance(fn, MaskedDistribution):
        mask = mask & fn._mask
    return mask


def value_mask(site: Site) -> Tensor | bool:
    """The same with the event's dimensions, of size 1: broadcastable to the value of the site."""
    mask = site_mask(site)
    return mask if isinstance(mask, bool) else mask.reshape(*mask.shape, *[1] * site["fn"].event_dim)
