"""Sums over all particles but one, without a tensor of K x K entries."""

import torch
from torch import Tensor


def others_sum(values: Tensor) -> Tensor:
    """Returns sum_{j != k} v_j for every k, without cancellation; shape (K, B) -> (K, B)."""
    zero = torch.zeros_like(values[:1])
    before = torch.cat([zero, values[:-1]]).cumsum(0)
    after = torch.cat([values[1:], zero]).flip(0).cumsum(0).flip(0)
    return before + after


def others_logsumexp(values: Tensor) -> Tensor:
    """Returns log sum_{j != k} exp(v_j) for every k; shape (K, B) -> (K, B), K >= 2."""
    nothing = torch.full_like(values[:1], -torch.inf)
    before = torch.cat([nothing, values[:-1]]).logcumsumexp(0)
    after = torch.cat([values[1:], nothing]).flip(0).logcumsumexp(0).flip(0)
    return torch.logaddexp(before, after)
