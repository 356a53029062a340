"""The importance-weighted bound for guides with discrete variables: OVIS."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from .continuous import Continuous
from .importance_weighted import ImportanceWeighted
from .leave_one_out import others_logsumexp


@final
class OVIS(ImportanceWeighted):
    r"""Importance-weighted bound with the control variate of least variance, for discrete guide variables.

    The bound is that of `VIMCO`. Its score-function gradient for the discrete variables is

    $$ \nabla L_K = E[\sum_k (d_k - c_k) \nabla \log q_{disc}(z_k)], \quad d_k = L_K - \tilde w_k $$

    for any $c_k$ that does not depend on particle k; of least variance is nearly $c_k = E_{z_k}[d_k]$. VIMCO
    approximates the mean of $L_K$ and forgets $\tilde w_k$; its ratio of signal to noise falls as K grows,
    while that of this estimator grows as $\sqrt K$.

    - By default the mean is expanded for weights that are small parts of the whole, with $Z_{-k} =
      \frac{1}{K} \sum_{j \ne k} w_j$ (asymptotic OVIS):

      $$ d_k - c_k = L_K - \log Z_{-k} - \gamma \tilde w_k + (1 - \gamma) \log(1 - \tfrac{1}{K}) $$

      For gamma = 1 this is $-\log(1 - \tilde w_k) - \tilde w_k$, and unbiased. For gamma < 1 the normalised
      weight is partly replaced by its mean, nearly 1/K, for less variance where one particle has nearly all
      the weight; the estimator is then *biased*: it estimates

      $$ \nabla L_K + (1 - \gamma) E[\sum_k \tilde w_k \nabla \log q_{disc}(z_k)]. $$

    - With S = `auxiliary_particles` > 0, the mean is one over S further draws $z_s$ of particle k, from which
      nothing is learned (OVIS-MC, equation 12):

      $$ c_k = \frac{1}{S} \sum_s \Big[\log \frac{w_s + \sum_{j \ne k} w_j}{K} - \frac{w_s}{w_s + \sum_{j \ne
      k} w_j}\Big] $$

      Unbiased for every S. It costs S more particles, forward only; one is enough according to the authors.

    Reference: Liévin, Dittadi, Christensen and Winther, Optimal Variance Control of the Score Function
    Gradient Estimator for Importance Weighted Bounds, 2020, section 4.

    Args:
        num_particles: K >= 2.
        gamma: in [0, 1]; without meaning if there are auxiliary particles.
        auxiliary_particles: S.
        continuous: estimator for the reparameterised variables, see `ImportanceWeighted`.
        **options: see `MultiSampleELBO`.
    """

    min_particles: ClassVar[int] = 2

    def __init__(
        self,
        num_particles: int = 5,
        *,
        gamma: float = 1.0,
        auxiliary_particles: int = 0,
        continuous: Continuous = "pathwise",
        **options: Any,
    ) -> None:
        super().__init__(num_particles, continuous=continuous, **options)
        if not 0 <= gamma <= 1:
            raise ValueError(f"`gamma` must be in [0, 1], got {gamma}")
        if auxiliary_particles < 0:
            raise ValueError(f"`auxiliary_particles` must be at least 0, got {auxiliary_particles}")
        self.gamma = gamma
        self.auxiliary_particles = auxiliary_particles

    def _signal(self, log_weight: Tensor, draw_more: Callable[[int], Tensor]) -> Tensor:
        # The term -w_k of d_k is part of the surrogate of the weights, so the signal is d_k - c_k + w_k.
        total, others = log_weight.logsumexp(0), others_logsumexp(log_weight)
        if self.auxiliary_particles:
            more = draw_more(self.auxiliary_particles).unsqueeze(1)
            replaced = torch.logaddexp(more, others)
            return total - (replaced - (more - replaced).exp()).mean(0)
        mean = log_weight.softmax(0) + math.log1p(-1 / self.num_particles)
        return total - others + (1 - self.gamma) * mean
