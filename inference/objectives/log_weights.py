"""Importance log-weights of a model and a guide, one per particle and datum."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from .layout import Layout, Site
from .scoring import ScoredSites, score_sites
from .sites import check_pair, common_scale, needs_score, random_sites, replay
from .substitute import Substitute


class LogWeights(NamedTuple):
    """What a multi-sample bound is made of; K particles, B data, every entry in nats and unscaled."""

    log_weight: Tensor
    """log p(x, z) - log q(z | x); shape (K, B)."""
    log_likelihood: Tensor
    """The part of log p(x, z) that belongs to observed sites, log p(x | z); shape (K, B)."""
    log_score: Tensor
    """Sum of log q over the guide sites without a pathwise derivative; shape (K, B), zeros if there is
    none."""
    scale: float
    """Number of data / number of data in the batch. It multiplies the bound: inside the logarithm it would
    raise the weights to a power, and the result would bound nothing."""


class ScoredTraces(NamedTuple):
    """A guide's draw and the model replayed on it, with all their log-probabilities."""

    guide_sites: Sequence[Site]
    """Random variables of the guide in the order of execution."""
    model_sites: Sequence[Site]
    """Random variables of the model in the order of execution."""
    guide: ScoredSites
    """Log-probabilities of the guide; roles `"path"` (reparameterised) and `"score"`."""
    model: ScoredSites
    """Log-probabilities of the model; roles `"latent"` and `"observed"`."""
    scale: float
    """The scale that all sites share."""

    def log_weights(self) -> LogWeights:
        """Adds the sites up to one weight per particle and datum."""
        log_q = self.guide.total("path", "score")
        log_p = self.model.total("latent", "observed")
        if log_p is None:
            raise ValueError("expected at least one sample statement in the model, got none")
        log_weight = log_p if log_q is None else log_p - log_q
        log_likelihood, log_score = self.model.total("observed"), self.guide.total_score()
        zeros = torch.zeros_like(log_weight) if log_likelihood is None or log_score is None else log_weight
        return LogWeights(
            log_weight,
            zeros if log_likelihood is None else log_likelihood,
            zeros if log_score is None else log_score,
            self.scale,
        )


def run_program(
    program: Callable[..., Any],
    layout: Layout,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    choose: Callable[[Site], Tensor | None] | None = None,
) -> Trace:
    """Runs a program under the particle plate, with chosen values at some sites, and returns its trace."""
    chosen = program if choose is None else Substitute(choose)(program)
    tracer = poutine.trace(layout.particle_plate()(chosen))
    tracer(*args, **kwargs)
    return tracer.trace


def score_guide(sites: Sequence[Site], layout: Layout, mask_score: bool = True) -> ScoredSites:
    """Returns the log-probabilities of the random variables of a guide."""
    roles = ["score" if needs_score(site) else "path" for site in sites]
    return score_sites(sites, roles, layout, "guide", mask_score=mask_score)


def score_model(sites: Sequence[Site], layout: Layout, leading: int = 0) -> ScoredSites:
    """Returns the log-probabilities of the random variables of a model."""
    roles = ["observed" if site["is_observed"] else "latent" for site in sites]
    return score_sites(sites, roles, layout, "model", leading)


def run_and_score(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    layout: Layout,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    mask_score: bool = True,
) -> ScoredTraces:
    """Runs the guide, replays the model on what it drew, and scores both.

    Raises:
        SiteOutsidePlateError: A site is outside the batch plate.
        MissingSiteError: Model and guide have different latent variables.
        UnsupportedSiteError: The guide has a kind of site that cannot be counted exactly.
        UnequalScaleError: Sites have different scales.
    """
    guide_trace = run_program(guide, layout, args, kwargs)
    model_trace = run_program(model, layout, args, kwargs, replay(guide_trace))
    guide_sites, model_sites = random_sites(guide_trace), random_sites(model_trace)
    check_pair(model_sites, guide_sites)
    return ScoredTraces(
        guide_sites,
        model_sites,
        score_guide(guide_sites, layout, mask_score),
        score_model(model_sites, layout),
        common_scale(model_sites, guide_sites),
    )
