"""The ELBO of a guide whose decisions a teacher takes."""

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from ... import checks
from .base import Estimate, MultiSampleELBO, Program
from .diagnostics import summarise
from .layout import Site
from .log_weights import run_program, score_guide, score_model
from .sites import check_pair, common_scale, random_sites, replay

Teacher = Callable[[Site], Tensor | None]
"""Function of a guide's statement, with the distribution that the guide has for it, which returns the value
that it takes, or None to have it drawn. The value is a function of the data and of what was drawn before.
"""


@final
class TaughtELBO(MultiSampleELBO):
    r"""Bound of a guide in which a teacher takes some decisions, which the guide learns to imitate.

    Where a decision is bad as long as the networks that follow it have not been trained, they never are: an
    object that cannot be followed into the next frame is better let go, and then nothing is learned about
    following. A teacher that takes the decision a as a function of the data and of what was drawn before
    replaces the factor $q(a)$ by a point mass, so that

    $$ E_{q(z | a)} [\log p(x, z, a) - \log q(z | a)] \le \log p(x) $$

    is the ELBO of a guide too; that of the guide in training has $q(a)$ in addition, and learns by

    $$ \max E_{q(z | a)} [\log q(a | z)] , $$

    whose cross-entropy is added to the loss but not part of the bound; a subsampling scale multiplies both.
    Decisions of the guide that are neither taught nor reparameterised are drawn from it and have no gradient
    here: they take another objective beside this one. When the guide does what it was taught, `VIMCO` or
    another objective of the guide's own decisions takes over.

    Args:
        teacher: see `Teacher`.
        num_particles: K; the bound is the mean of K single-sample ELBOs.
        imitation: weight of the cross-entropy.
        **options: see `MultiSampleELBO`.

    Raises:
        ValueError: if `imitation` is negative.
    """

    def __init__(
        self, teacher: Teacher, num_particles: int = 1, *, imitation: float = 1.0, **options: Any
    ) -> None:
        super().__init__(num_particles, **options)
        checks.not_negative(imitation=imitation)
        self.teacher = teacher
        self.imitation = imitation

    def _estimate(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Estimate:
        layout, taught = self._layout(), []

        def choose(site: Site) -> Tensor | None:
            value = self.teacher(site)
            if value is not None:
                taught.append(site["name"])
            return value

        guide_trace = run_program(guide, layout, args, kwargs, choose)
        model_trace = run_program(model, layout, args, kwargs, replay(guide_trace))
        guide_sites, model_sites = random_sites(guide_trace), random_sites(model_trace)
        check_pair(model_sites, guide_sites)
        decisions = [site for site in guide_sites if site["name"] in taught]
        drawn = score_guide([site for site in guide_sites if site["name"] not in taught], layout)
        model_scores = score_model(model_sites, layout)
        log_p, log_likelihood = model_scores.total("latent", "observed"), model_scores.total("observed")
        assert log_p is not None
        zeros = torch.zeros_like(log_p)
        path, score = (_or(drawn.total(role), zeros) for role in ("path", "score"))
        log_weight = (log_p - path - score).detach()
        imitated = _or(score_guide(decisions, layout).total("path", "score"), zeros) if decisions else zeros
        scale = common_scale(model_sites, guide_sites)
        return Estimate(
            bound=log_weight.mean(0),
            surrogate=(log_p - path).mean(0),
            scale=scale,
            diagnostics=summarise(
                log_weight.mean(0), log_weight, _or(log_likelihood, zeros).detach(), log_weight
            ),
            auxiliary_loss=-self.imitation * scale * imitated.mean(0),
        )


def _or(value: Tensor | None, zeros: Tensor) -> Tensor:
    return zeros if value is None else value
