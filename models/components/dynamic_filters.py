"""Convolutions whose filters are computed: each sample has its own.

De Brabandere et al., *Dynamic Filter Networks*, 2016, in the form HART gives them (Kosiorek et al., 2017).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .initialisers import glorot_uniform


class DynamicFilters(NamedTuple):
    """The filters that one layer computed."""

    weight: Tensor
    """`(B, O, I, k, k)`."""
    bias: Tensor
    """`(B, O)`."""


def dynamic_convolution(maps: Tensor, weight: Tensor) -> Tensor:
    """Convolve each sample with its own filters, which keeps the size.

    The samples become groups of the channels of one convolution; filters of a single pixel are a product of
    matrices. (A convolution in the sense of networks: the filters are not turned around.)

    Args:
        maps: `(B, I, H, W)`.
        weight: `(B, O, I, k, k)` with odd k.

    Returns:
        `(B, O, H, W)`.

    Raises:
        ValueError: if the shapes do not agree, or k is even.
    """
    if (
        maps.dim() != 4
        or weight.dim() != 5
        or weight.shape[0] != maps.shape[0]
        or weight.shape[2] != maps.shape[1]
        or weight.shape[3] != weight.shape[4]
        or weight.shape[3] % 2 == 0
    ):
        raise ValueError(
            "`dynamic_convolution` expects `maps` of shape (B, I, H, W) and `weight` of shape "
            f"(B, O, I, k, k) with odd k, but got {tuple(maps.shape)} and {tuple(weight.shape)}."
        )
    batch, size, side = len(maps), maps.shape[2:], weight.shape[-1]
    if side == 1:
        return (weight.flatten(2) @ maps.flatten(2)).unflatten(2, size)
    together = F.conv2d(
        maps.reshape(1, -1, *size), weight.flatten(0, 1), padding=side // 2, groups=batch
    )  # together.shape = (1, B O, H, W)
    return together.reshape(batch, -1, *size)


class DynamicFilterLayer(nn.Module):
    """A convolution with an ELU whose filters depend on a control vector.

        e = elu(W_e alpha + b_e),   psi = W_psi e + b_psi,   d = W_d e + b_d
        out = elu(conv(maps, psi) + d + b)

    `b_psi` is the part of the filters that is the same for all samples, `d` a bias of the sample, and `b` one
    of the layer. First values as in HART's program: `b_psi` is as large as a usual filter and `W_psi` small,
    so that the layer begins as an almost ordinary convolution.

    Args:
        in_channels: I.
        out_channels: O.
        side: of the filters, odd.
        control_size: components of the control vector, and width of its embedding e.
    """

    def __init__(self, in_channels: int, out_channels: int, side: int, control_size: int) -> None:
        super().__init__()
        self.filter_shape = (out_channels, in_channels, side, side)
        self.embedding = nn.Linear(control_size, control_size)
        self.weight = nn.Linear(control_size, math.prod(self.filter_shape))
        self.dynamic_bias = nn.Linear(control_size, out_channels)
        self.static_bias = nn.Parameter(torch.empty(out_channels))
        glorot_uniform(self.embedding)
        # TensorFlow's "uniform unit scaling"; a bias counts as having one input.
        for layer, factor in ((self.weight, 0.1), (self.dynamic_bias, math.sqrt(2))):
            for parameter, inputs in ((layer.weight, control_size), (layer.bias, 1)):
                bound = factor * math.sqrt(3 / inputs)
                nn.init.uniform_(parameter, -bound, bound)
        bound = math.sqrt(6 / (1 + out_channels))
        nn.init.uniform_(self.static_bias, -bound, bound)

    def forward(self, maps: Tensor, control: Tensor) -> tuple[Tensor, DynamicFilters]:
        """The layer's output `(B, O, H, W)`, and the filters it used.

        Args:
            maps: `(B, I, H, W)`.
            control: `(B, control_size)`.
        """
        embedding = F.elu(self.embedding(control))
        filters = DynamicFilters(
            self.weight(embedding).unflatten(1, self.filter_shape), self.dynamic_bias(embedding)
        )
        bias = (filters.bias + self.static_bias)[:, :, None, None]
        return F.elu(dynamic_convolution(maps, filters.weight) + bias), filters
