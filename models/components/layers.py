"""Layers of which the nearer hide the farther: softly, so that it can be learned which is nearer."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-6
"""Added where it is divided by what may be zero."""


class Composite(NamedTuple):
    """How much of each pixel is whose."""

    weights: Tensor
    """Of each layer, `(..., N, H, W)`; they add up to what is covered."""
    covered: Tensor
    """How much layers cover of the background, `(..., H, W)`."""


def soft_over(coverage: Tensor, depth: Tensor, softness: float = 0.5) -> Composite:
    r"""Composite layers, each of which is in front of another with a probability.

    With coverage $A_k$ and depth $d_k$, the smaller the nearer, and softness $\tau$,

    $$ t_k = A_k \prod_{j \ne k} (1 - A_j \, s((d_k - d_j) / \tau)), \quad c = 1 - \prod_k (1 - A_k),
       \quad v_k = c \, t_k / \sum_j t_j . $$

    It tends to the "over" of Porter and Duff, *Compositing Digital Images*, 1984, as the softness goes to 0,
    is differentiable in the depths, never covers more than is there, and depends on the order of layers by
    their depths alone. It takes N^2 products of images, for few layers.

    Args:
        coverage: of each layer, `(..., N, H, W)` in [0, 1]; 0 where there is none.
        depth: of each, `(..., N)`.
        softness: difference of depths at which the nearer is in front with probability 0.73.
    """
    count = depth.shape[-1]
    in_front = ((depth.unsqueeze(-1) - depth.unsqueeze(-2)) / softness).sigmoid()  # (..., k, j): j before k
    seen = []
    for k in range(count):
        visible = coverage[..., k, :, :]
        for j in range(count):
            if j != k:
                visible = visible * (1 - coverage[..., j, :, :] * in_front[..., k, j, None, None])
        seen.append(visible)
    layers = torch.stack(seen, dim=-3)
    # Not `Tensor.prod`, whose backward pass reads from the device whether a factor is 0.
    covered = 1 - reduce(torch.mul, (1 - coverage).unbind(-3))
    share = covered / (layers.sum(-3) + EPSILON)
    return Composite(layers * share.unsqueeze(-3), covered)
