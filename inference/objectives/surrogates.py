"""Surrogates: expressions whose derivative is a gradient estimate, whatever their value."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def log_mean_exp(log_weight: Tensor) -> Tensor:
    """Returns log (1/K) sum_k w_k; shape (K, B) -> (B,)."""
    return log_weight.logsumexp(0) - math.log(log_weight.shape[0])


def truncate(signal: Tensor, floor: float) -> Tensor:
    """Replaces entries smaller in magnitude than `floor` by zero.

    A weight like 1e-40 contributes nothing to a gradient, but the backward pass would multiply it through
    whole networks as a denormal number, which takes a processor three times as long.
    """
    return F.hardshrink(signal, floor) if floor > 0 else signal


def weighted(weight: Tensor, term: Tensor) -> Tensor:
    """Returns sum_k w_k term_k, where a zero weight removes a term even if it is infinite; (K, B) -> (B,)."""
    return (weight * torch.where(weight == 0, 0.0, term)).sum(0)


def pathwise(log_weight: Tensor, floor: float) -> Tensor:
    """Returns a surrogate for the pathwise gradient of log_mean_exp.

    d log (1/K) sum_k w_k = sum_k sg(w_k / sum_j w_j) d log w_k, with truncated normalised weights.

    Args:
        log_weight: log-weights; shape (K, B).
        floor: normalised weights below are set to zero.

    Returns:
        Tensor of shape (B,).
    """
    return weighted(truncate(log_weight.detach().softmax(0), floor), log_weight)
