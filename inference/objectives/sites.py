"""Which statements of a trace are random variables, and whether model and guide fit together."""

from collections.abc import Callable, Sequence
from typing import Any

from pyro.distributions import Distribution, MaskedDistribution
from pyro.distributions.torch_distribution import ExpandedDistribution, TorchDistributionMixin
from pyro.poutine import Trace
from pyro.poutine.util import site_is_factor, site_is_subsample
from torch import Tensor
from torch.distributions import Independent

from .errors import MissingSiteError, NoGradientError, UnequalScaleError, UnsupportedSiteError
from .layout import Site

_FULLY_OR_NOT_REPARAMETERISED = (
    Distribution.score_parts,
    TorchDistributionMixin.score_parts,
    MaskedDistribution.score_parts,
)


def random_sites(trace: Trace) -> list[Site]:
    """Returns the sample statements of a trace that carry a log-probability, in the order of execution.

    The subsampling statements of plates and `pyro.deterministic` values are left out.
    """
    return [
        site
        for site in trace.nodes.values()
        if site["type"] == "sample"
        and not site_is_subsample(site)
        and not site["infer"].get("_deterministic")
    ]


def replay(trace: Trace) -> Callable[[Site], Tensor | None]:
    """Returns what a guide drew as a function of the site: latents, and indices of subsampled plates."""
    values = {
        name: site["value"]
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"]
    }
    return lambda site: values.get(site["name"])


def needs_score(site: Site) -> bool:
    """Whether a guide site needs a score-function term, because its value has no pathwise derivative."""
    return not getattr(site["fn"], "has_rsample", False)


def base_distribution(fn: Any) -> Any:
    """Returns the distribution inside the wrappers that mask, expand and reinterpret dimensions."""
    while isinstance(fn, (MaskedDistribution, ExpandedDistribution, Independent)):
        fn = fn.base_dist
    return fn


def check_pair(model: Sequence[Site], guide: Sequence[Site]) -> None:
    """Checks that the guide draws exactly the latent variables of the model.

    A guide may draw additional variables marked `infer={"is_auxiliary": True}`; as in Pyro their
    log-probability is counted, and it is the guide's task to make up for it (a `Delta` with a `log_density`,
    a `pyro.factor`).

    Raises:
        MissingSiteError: A latent variable is in one of the two only.
        UnsupportedSiteError: The guide has an observed site that is no factor, a factor that does not say
            `has_rsample`, or a distribution that is reparameterised only in part.
    """
    observed = {site["name"] for site in model if site["is_observed"]}
    latent = {site["name"] for site in model} - observed
    drawn = set()
    for site in guide:
        name = site["name"]
        _check_kind(site)
        if site["is_observed"]:
            continue
        drawn.add(name)
        if name in observed:
            raise MissingSiteError(
                f"expected the guide to draw latent variables only, but the model observes site `{name}`"
            )
        if name not in latent and not site["infer"].get("is_auxiliary"):
            raise MissingSiteError(
                f"expected every guide site in the model, but the model has no site `{name}`; a variable "
                f'that only the guide has needs `infer={{"is_auxiliary": True}}`'
            )
    if missing := sorted(latent - drawn):
        raise MissingSiteError(
            f"expected every latent variable of the model in the guide, but it has no site `{missing[0]}`"
            + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
        )


def _check_kind(site: Site) -> None:
    name = site["name"]
    if site["is_observed"] and not site_is_factor(site):
        raise UnsupportedSiteError(
            f"expected no observations in the guide other than `pyro.factor`, got observed site `{name}`: a "
            f"value that is given is no draw from the guide"
        )
    if site["is_observed"] and "has_rsample" not in vars(site["fn"]):
        raise UnsupportedSiteError(
            f"expected `pyro.factor(..., has_rsample=True|False)` in the guide, but factor `{name}` does not "
            f"say whether its log-probability belongs to reparameterised draws"
        )
    if type(base_distribution(site["fn"])).score_parts not in _FULLY_OR_NOT_REPARAMETERISED:
        raise UnsupportedSiteError(
            f"expected guide distributions that are reparameterised fully or not at all, but guide site "
            f"`{name}` has a `{type(base_distribution(site['fn'])).__name__}`"
        )


def common_scale(model: Sequence[Site], guide: Sequence[Site]) -> float:
    """Returns the scale that all sites share: number of data / number of data in the batch.

    Raises:
        UnequalScaleError: The sites differ, or a scale is a tensor, whose value could not be compared without
            waiting for the device.
    """
    scale, first = 1.0, None
    for site in (*model, *guide):
        if isinstance(site["scale"], Tensor):
            raise UnequalScaleError(
                f"expected a Python number as scale of site `{site['name']}`, got a tensor"
            )
        if first is None:
            scale, first = site["scale"], site["name"]
        elif site["scale"] != scale:
            raise UnequalScaleError(
                f"expected one scale for all sites, because it multiplies the bound outside the logarithm, "
                f"got {scale} at site `{first}` and {site['scale']} at site `{site['name']}`"
            )
    return float(scale)


def check_reparameterised(guide: Sequence[Site], estimator: str) -> None:
    """Checks that every guide site has a pathwise gradient.

    Raises:
        NoGradientError: A site has none, and `estimator` has no other gradient for it.
    """
    for site in guide:
        if needs_score(site):
            raise NoGradientError(
                f"expected reparameterised guide sites only, but `{estimator}` gives no gradient to guide "
                f"site `{site['name']}` ({type(base_distribution(site['fn'])).__name__}): use `VIMCO`, whose "
                f"score-function term is unbiased, or sum the variable out"
            )
