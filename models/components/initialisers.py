"""First values of parameters that several modules share."""

from __future__ import annotations

import math

from torch import Tensor, nn


def glorot_uniform(*modules: nn.Module) -> None:
    """Glorot's uniform distribution for linear layers and convolutions, their biases included.

    TensorFlow's default initialiser of variables: `U(+-sqrt(6 / (fan_in + fan_out)))`, where a vector of n
    has `fan_in = fan_out = n`. HART's authors leave it to biases too (released code).
    """
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    glorot_vector(layer.bias)


def glorot_vector(vector: Tensor) -> None:
    """`U(+-sqrt(3 / n))` for a vector of n, see `glorot_uniform`."""
    bound = math.sqrt(3 / vector.numel())
    nn.init.uniform_(vector, -bound, bound)
