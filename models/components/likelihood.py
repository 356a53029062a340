"""The pixel likelihood of the project's generative models."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from ... import checks


def pixel_scale(scale: float) -> Tensor:
    """Standard deviation of the pixels as a tensor without axes: a model's buffer, which training may anneal.

    It has the precision of a number of Python, so that a run takes bit for bit the steps it takes with one.

    Raises:
        ValueError: if it is not positive.
    """
    checks.positive(likelihood_scale=scale)
    return torch.tensor(float(scale), dtype=torch.float64)


class GaussianImage(TorchDistribution):
    """Independent normal pixels with one standard deviation: `Normal(loc, scale).to_event(3)`.

    The same distribution, scored by a single sum of squares: several times cheaper than a
    log-density a pixel, of which AIR's exact objective needs one for every possible count.

    Args:
        loc: mean image, `(..., C, H, W)`.
        scale: standard deviation of every pixel, a number, or a tensor without axes; the sign of a tensor is
            not looked at, which would wait for its device.
        validate_args: see `torch.distributions.Distribution`.
    """

    arg_constraints = {"loc": constraints.independent(constraints.real, 3)}  # noqa: RUF012
    support = constraints.independent(constraints.real, 3)
    has_rsample = True

    def __init__(self, loc: Tensor, scale: float | Tensor, validate_args: bool | None = None) -> None:
        if isinstance(scale, Tensor):
            if scale.dim():
                raise ValueError(f"`scale` must have no axes, but got shape {tuple(scale.shape)}.")
        elif not scale > 0:
            raise ValueError(f"`scale` must be positive, but got {scale}.")
        self.loc = loc
        self.scale = scale
        # Under Pyro's tracking of provenance a tensor's shape is a plain tuple.
        shape = torch.Size(loc.shape)
        super().__init__(shape[:-3], shape[-3:], validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: GaussianImage | None = None) -> GaussianImage:
        """The same distribution with a larger batch shape."""
        new = self._get_checked_instance(GaussianImage, _instance)
        batch_shape = torch.Size(batch_shape)
        new.loc = self.loc.expand(batch_shape + self.event_shape)
        new.scale = self.scale
        super(GaussianImage, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        """Mean image, `(..., C, H, W)`."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Variance of every pixel, `(..., C, H, W)`."""
        return torch.ones_like(self.loc) * self.scale**2

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw images, differentiable in `loc`."""
        shape = self._extended_shape(sample_shape)
        return self.loc + self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of images `(..., C, H, W)`, in nats; shape `(...)`."""
        if self._validate_args:
            self._validate_sample(value)
        log_scale = self.scale.log() if isinstance(self.scale, Tensor) else math.log(self.scale)
        constant = self.event_shape.numel() * (0.5 * math.log(2 * math.pi) + log_scale)
        loc, value = torch.broadcast_tensors(self.loc, value)
        squares = F.mse_loss(loc, value, reduction="none").flatten(-3).sum(-1)
        return squares * (-0.5 / self.scale**2) - constant
