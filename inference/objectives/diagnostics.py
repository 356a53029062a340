"""What a person wants to see of a variational objective, apart from what the optimiser needs."""

from typing import NamedTuple

import torch
from torch import Tensor


class Diagnostics(NamedTuple):
    """Scalars of one evaluation, means over the batch: detached tensors on the device, in nats per datum.

    Read them with `.item()` every so many steps only: each reading waits for the device.
    """

    bound: Tensor
    """The bound on log p(x) that is maximised, without subsampling scale and baseline loss."""
    log_likelihood: Tensor
    """E_q[log p(x | z)], the mean of the observed sites over single particles (minus the reconstruction
    error)."""
    kl: Tensor
    """E_q[log q(z | x) - log p(z)], mean over single particles: `log_likelihood - kl` is the single-sample
    ELBO, whatever the bound is."""
    effective_sample_size: Tensor
    """1 / sum_k w_k^2 for the normalised weights w_k, between 1 and K: how many particles take part in the
    bound."""


@torch.no_grad()
def summarise(bound: Tensor, elbo: Tensor, log_likelihood: Tensor, log_weight: Tensor) -> Diagnostics:
    """Reduces per-datum results to the four scalars.

    Args:
        bound: the bound; shape (B,).
        elbo: single-sample ELBO of every particle; shape (K, B).
        log_likelihood: log p(x | z) of every particle; shape (K, B).
        log_weight: importance log-weights; shape (K, B).
    """
    likelihood = log_likelihood.mean()
    effective = log_weight.softmax(0).square().sum(0).reciprocal().mean()
    return Diagnostics(bound.mean(), likelihood, likelihood - elbo.mean(), effective)
