"""A correlated normal whose Cholesky factor is a diagonal times one shared triangular matrix."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor


class Triangle(NamedTuple):
    """A lower triangular matrix with what a density needs of it, computed once for many distributions."""

    matrix: Tensor
    """C, `(D, D)`."""
    inverse: Tensor
    """Its inverse, `(D, D)`."""
    log_volume: Tensor
    """Logarithm of the absolute value of its determinant, a scalar."""

    @classmethod
    def of(cls, matrix: Tensor) -> Triangle:
        """The triangle of a matrix."""
        identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        inverse = torch.linalg.solve_triangular(matrix, identity, upper=False)
        return cls(matrix, inverse, matrix.diagonal().abs().log().sum())


class TriangularNormal(TorchDistribution):
    """`N(loc, L L^T)` with `L = diag(scale) C`, C lower triangular and shared by the whole batch.

    The same as `MultivariateNormal(loc, scale_tril=L)`, but C is inverted once instead of once a
    row, and its diagonal may have any sign: only its absolute value matters.

    Args:
        loc: mean, `(..., D)`.
        scale: positive, `(..., D)`.
        triangle: C, lower triangular and invertible.
        validate_args: see `torch.distributions.Distribution`.
    """

    arg_constraints = {  # noqa: RUF012
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, loc: Tensor, scale: Tensor, triangle: Triangle, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.triangle = triangle
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: TriangularNormal | None = None) -> TriangularNormal:
        """The same distribution with a larger batch shape."""
        new = self._get_checked_instance(TriangularNormal, _instance)
        batch_shape = torch.Size(batch_shape)
        new.loc = self.loc.expand(batch_shape + self.event_shape)
        new.scale = self.scale.expand(batch_shape + self.event_shape)
        new.triangle = self.triangle
        super(TriangularNormal, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw `loc + scale * (C e)` with standard normal `e`; differentiable in everything."""
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.scale * (noise @ self.triangle.matrix.mT)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `(..., D)`, in nats; shape `(...)`."""
        if self._validate_args:
            self._validate_sample(value)
        noise = ((value - self.loc) / self.scale) @ self.triangle.inverse.mT
        volume = self.scale.log().sum(-1) + self.triangle.log_volume
        constant = 0.5 * math.log(2 * math.pi) * self.event_shape[0]
        return -0.5 * noise.square().sum(-1) - volume - constant
