"""The ELBO with learned baselines: NVIL."""

from collections.abc import Mapping
from typing import Any, final

from pyro.distributions.util import scale_and_mask
from torch import Tensor

from .base import Estimate, MultiSampleELBO, Program
from .baselines import baseline_of, site_mask
from .diagnostics import summarise
from .downstream_costs import downstream_costs
from .errors import BaselineError
from .layout import PARTICLES
from .log_weights import ScoredTraces
from .reinforce import reparameterised_part
from .surrogates import truncate, weighted


@final
class NVIL(MultiSampleELBO):
    r"""ELBO with score-function gradients and data-dependent baselines that the guide provides.

    $$ \nabla = E[\sum_i (R_i - b_i) \nabla \log q(z_i | z_{<i}, x)] $$

    plus the reparameterised part, where $R_i$ are the terms of the ELBO that site i can influence, and $b_i$
    the baseline annotated at the site, `pyro.sample(..., infer={"baseline": {"baseline_value": b}})`, of
    shape (K, B) or (B,). It may depend on the datum and on what was drawn before the site, never on the
    site's own value. The regression loss $\sum_i m_i (sg(R_i) - b_i)^2$, where m is the site's mask, is added
    to the loss but not part of the reported bound, and not multiplied by a subsampling scale. Sites without
    annotation have b = 0.

    Not included are the variance normalisation and the centring by a running mean of the paper.

    Reference: Mnih and Gregor, Neural Variational Inference and Learning in Belief Networks, 2014.

    Args:
        num_particles: K; the bound is the mean of K single-sample ELBOs.
        **options: see `MultiSampleELBO`.

    Raises:
        BaselineError: (when evaluated) An annotation is not understood, or has a wrong shape.
    """

    def _estimate(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Estimate:
        traces = self._run_and_score(model, guide, args, kwargs)
        log_weight, log_likelihood, _, scale = traces.log_weights()
        surrogate, regression = self._learn(traces, reparameterised_part(traces).mean(0))
        bound = log_weight.detach().mean(0)
        diagnostics = summarise(bound, log_weight, log_likelihood, log_weight)
        return Estimate(bound, surrogate, scale, diagnostics, regression)

    def _learn(self, traces: ScoredTraces, surrogate: Tensor) -> tuple[Tensor, Tensor | None]:
        """Adds the score-function terms to a surrogate; returns it and the baselines' regression loss."""
        scores, sites = traces.guide.by_name(), {site["name"]: site for site in traces.guide_sites}
        regression: Tensor | None = None
        for name, cost in downstream_costs(traces).items():
            signal, baseline = cost, baseline_of(sites[name], cost.shape)
            if baseline is not None:
                _refuse_inner_plates(sites[name], self.batch_plate)
                signal = cost - baseline.detach()
                error = scale_and_mask((cost - baseline).square(), mask=site_mask(sites[name])).mean(0)
                regression = error if regression is None else regression + error
            score = weighted(truncate(signal, self.weight_floor), scores[name][1])
            surrogate = surrogate + score / self.num_particles
        return surrogate, regression


def _refuse_inner_plates(site: dict[str, Any], batch_plate: str) -> None:
    for frame in site["cond_indep_stack"]:
        if frame.dim is not None and frame.name not in (batch_plate, PARTICLES):
            raise BaselineError(
                f"expected site `{site['name']}`, which has a baseline, in no plate but `{batch_plate}`, "
                f"got `{frame.name}`"
            )
