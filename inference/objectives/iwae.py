"""The importance-weighted bound for reparameterised guides."""

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from .continuous import Continuous
from .importance_weighted import ImportanceWeighted
from .log_weights import ScoredTraces
from .sites import check_reparameterised


@final
class IWAE(ImportanceWeighted):
    r"""Importance-weighted bound with the reparameterised gradient.

    $$ L_K = E[\log \frac{1}{K} \sum_k w_k], \quad \nabla L_K = E[\sum_k \tilde w_k \nabla \log w_k] $$

    with normalised weights $\tilde w_k$. L_1 is the ELBO, L_K grows with K towards log p(x). Every guide site
    must be reparameterised; discrete variables need `VIMCO`.

    Reference: Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016, equation 8.

    Args:
        num_particles: K.
        continuous: another estimator of the guide's gradient, see `ImportanceWeighted`.
        **options: see `MultiSampleELBO`.

    Raises:
        NoGradientError: (when evaluated) A guide site is not reparameterised.
    """

    def __init__(
        self, num_particles: int = 1, *, continuous: Continuous = "pathwise", **options: Any
    ) -> None:
        super().__init__(num_particles, continuous=continuous, **options)

    def _check(self, traces: ScoredTraces) -> None:
        check_reparameterised(traces.guide_sites, type(self).__name__)

    def _signal(self, log_weight: Tensor, draw_more: Callable[[int], Tensor]) -> None:
        return None
