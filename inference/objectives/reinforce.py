"""The score-function estimator without a control variate."""

from collections.abc import Mapping
from typing import Any, Literal, final

from torch import Tensor

from .base import Estimate, MultiSampleELBO, Program
from .diagnostics import summarise
from .downstream_costs import downstream_costs
from .log_weights import ScoredTraces
from .surrogates import log_mean_exp, pathwise, truncate, weighted


def reparameterised_part(traces: ScoredTraces) -> Tensor:
    """Returns log p - log q with log q of the reparameterised guide sites only; shape (K, B).

    The gradient of -log q of the other sites has expectation zero in the ELBO, so that it would only add
    variance. (It must stay in an importance-weighted bound, whose weights depend on the same draw.)
    """
    log_weight = traces.log_weights().log_weight
    discrete = traces.guide.total("score")
    return log_weight if discrete is None else log_weight + discrete


@final
class Reinforce(MultiSampleELBO):
    r"""ELBO or importance-weighted bound with the plain score-function gradient (REINFORCE).

    For `bound="elbo"`, the mean of K single-sample ELBOs, every discrete guide site i is weighted by the
    terms that its value can influence: $\nabla = E[\sum_i R_i \nabla \log q(z_i | z_{<i})]$ plus the
    reparameterised part. For `bound="iwae"` all sites of a particle are weighted by the bound L_K.

    Unbiased for every K, but of large variance: it is the reference for the others. Use `NVIL` or `VIMCO` to
    train.

    Reference: Williams, Simple Statistical Gradient-Following Algorithms, 1992; also called likelihood-ratio
    or black-box variational estimator.

    Args:
        num_particles: K.
        bound: `"elbo"` or `"iwae"`.
        **options: see `MultiSampleELBO`.
    """

    def __init__(
        self, num_particles: int = 1, *, bound: Literal["elbo", "iwae"] = "elbo", **options: Any
    ) -> None:
        super().__init__(num_particles, **options)
        if bound not in ("elbo", "iwae"):
            raise ValueError(f'`bound` must be "elbo" or "iwae", got {bound!r}')
        self.bound = bound

    def _estimate(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Estimate:
        traces = self._run_and_score(model, guide, args, kwargs)
        log_weight, log_likelihood, log_score, scale = traces.log_weights()
        if self.bound == "iwae":
            bound = log_mean_exp(log_weight.detach())
            surrogate = pathwise(log_weight, self.weight_floor) + (bound * log_score).sum(0)
        else:
            bound = log_weight.detach().mean(0)
            surrogate = reparameterised_part(traces).mean(0)
            scores = traces.guide.by_name()
            for name, cost in downstream_costs(traces).items():
                score = weighted(truncate(cost, self.weight_floor), scores[name][1])
                surrogate = surrogate + score / self.num_particles
        return Estimate(bound, surrogate, scale, summarise(bound, log_weight, log_likelihood, log_weight))
