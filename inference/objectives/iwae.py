"""The importance-weighted bound for reparameterised guides."""

from collections.abc import Mapping
from typing import Any, final

from .base import Estimate, MultiSampleELBO, Program
from .diagnostics import summarise
from .sites import check_reparameterised
from .surrogates import log_mean_exp, pathwise


@final
class IWAE(MultiSampleELBO):
    r"""Importance-weighted bound with the reparameterised gradient.

    $$ L_K = E[\log \frac{1}{K} \sum_k w_k], \quad \nabla L_K = E[\sum_k \tilde w_k \nabla \log w_k] $$

    with normalised weights $\tilde w_k$. L_1 is the ELBO, L_K grows with K towards log p(x). Every guide site
    must be reparameterised; discrete variables need `VIMCO`.

    Reference: Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016, equation 8.

    Raises:
        NoGradientError: (when evaluated) A guide site is not reparameterised.
    """

    def _estimate(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Estimate:
        traces = self._run_and_score(model, guide, args, kwargs)
        check_reparameterised(traces.guide_sites, type(self).__name__)
        log_weight, log_likelihood, _, scale = traces.log_weights()
        bound = log_mean_exp(log_weight.detach())
        diagnostics = summarise(bound, log_weight, log_likelihood, log_weight)
        return Estimate(bound, pathwise(log_weight, self.weight_floor), scale, diagnostics)
