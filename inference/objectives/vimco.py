"""The importance-weighted bound for guides with discrete variables: VIMCO."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from .continuous import Continuous
from .importance_weighted import ImportanceWeighted
from .leave_one_out import others_logsumexp, others_sum
from .surrogates import log_mean_exp


def control_variate(log_weight: Tensor, control: Literal["geometric", "arithmetic"]) -> Tensor:
    r"""Returns the bound as it would be without particle k, replaced by a mean of the others.

    $$ L_{-k} = \log \frac{1}{K} (\hat w_k + \sum_{j \ne k} w_j) $$

    where $\hat w_k$ is the geometric mean of the other weights, or their arithmetic mean.

    Args:
        log_weight: log-weights, K >= 2; shape (K, B).
        control: kind of mean.

    Returns:
        Tensor of shape (K, B); row k does not depend on particle k.
    """
    num_particles = log_weight.shape[0]
    others = others_logsumexp(log_weight)
    if control == "arithmetic":
        return others - math.log(num_particles - 1)
    geometric = others_sum(log_weight) / (num_particles - 1)
    return torch.logaddexp(geometric, others) - math.log(num_particles)


@final
class VIMCO(ImportanceWeighted):
    r"""Importance-weighted bound with an unbiased gradient for discrete and continuous guide variables.

    The bound is that of `IWAE`. Its gradient has the pathwise term, which includes that of -log q of the
    discrete variables, and a score-function term with a control variate made of the other particles:

    $$ \nabla L_K = E[\sum_k \tilde w_k \nabla \log w_k + \sum_k (L_K - L_{-k}) \nabla \log q_{disc}(z_k)] $$

    No network and no running average is needed. The control variate of particle k is independent of particle
    k given the datum, hence no bias for any K >= 2.

    Reference: Mnih and Rezende, Variational Inference for Monte Carlo Objectives, 2016.
    Not to be confused with the estimator of the released SQAIR code, see `SQAIRSignal`.

    Args:
        num_particles: K >= 2.
        control: mean of the other weights that takes the place of w_k, `"geometric"` as published, or
            `"arithmetic"`.
        continuous: estimator for the reparameterised variables, see `ImportanceWeighted`.
        **options: see `MultiSampleELBO`.
    """

    min_particles: ClassVar[int] = 2

    def __init__(
        self,
        num_particles: int = 5,
        *,
        control: Literal["geometric", "arithmetic"] = "geometric",
        continuous: Continuous = "pathwise",
        **options: Any,
    ) -> None:
        super().__init__(num_particles, continuous=continuous, **options)
        if control not in ("geometric", "arithmetic"):
            raise ValueError(f'`control` must be "geometric" or "arithmetic", got {control!r}')
        self.control = control

    def _signal(self, log_weight: Tensor, draw_more: Callable[[int], Tensor]) -> Tensor:
        return log_mean_exp(log_weight) - control_variate(log_weight, self.control)
