"""A mixture of diagonal normals, as a prior of what may go on in several ways and as a proposal for it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from .networks import LocScale


class Mixture(NamedTuple):
    """Parameters of a mixture of K diagonal normals in D dimensions."""

    loc: Tensor
    """Means, `(..., K, D)`."""
    scale: Tensor
    """Standard deviations, `(..., K, D)`, positive."""
    logits: Tensor
    """Of the components, `(..., K)`; need not be normalised."""

    @classmethod
    def of(cls, parameters: Mixture | LocScale) -> Mixture:
        """A mixture; a single normal is one of a single component."""
        if isinstance(parameters, Mixture):
            return parameters
        loc, scale = (x.unsqueeze(-2) for x in parameters)
        return cls(loc, scale, torch.zeros_like(loc[..., 0]))

    def slot(self, i: int) -> Mixture:
        """The parameters of one slot, where there is an axis N of slots before those above."""
        return Mixture(self.loc[..., i, :, :], self.scale[..., i, :, :], self.logits[..., i, :])

    def flat(self) -> Tensor:
        """All of them side by side, `(..., K (2 D + 1))`, for what passes vectors on."""
        return torch.cat([self.loc.flatten(-2), self.scale.flatten(-2), self.logits], dim=-1)

    @classmethod
    def unflat(cls, vector: Tensor, size: int) -> Mixture:
        """The inverse of `flat` in `size` dimensions."""
        count = vector.shape[-1] // (2 * size + 1)
        loc, scale, logits = vector.split([count * size, count * size, count], dim=-1)
        return cls(loc.unflatten(-1, (count, size)), scale.unflatten(-1, (count, size)), logits)

    def component(self, index: Tensor) -> LocScale:
        """One component for each mixture, `(..., D)`, given its number, `(...)`."""
        where = index[..., None, None].expand(*index.shape, 1, self.loc.shape[-1])
        return LocScale(self.loc.gather(-2, where).squeeze(-2), self.scale.gather(-2, where).squeeze(-2))

    def component_log_probs(self, value: Tensor) -> Tensor:
        """Log-density of each component, with its weight, at `(..., D)`; shape `(..., K)`."""
        return self.logits.log_softmax(-1) + _log_normal(self.loc, self.scale, value.unsqueeze(-2))


def _log_normal(loc: Tensor, scale: Tensor, value: Tensor) -> Tensor:
    """Log-density of diagonal normals over the last axis."""
    squares = ((value - loc) / scale).square().sum(-1)
    return -0.5 * (squares + loc.shape[-1] * math.log(2 * math.pi)) - scale.log().sum(-1)


class NormalMixture(TorchDistribution):
    """`sum_k w_k N(loc_k, diag(scale_k^2))`, with the exact density.

    A draw is `loc_k + scale_k e` for a random component k. Given k it is differentiable in its parameters,
    and if the weights do not depend on what is learned, `grad E[f(z)] = E[grad f(loc_k + scale_k e)]`: draws
    are reparameterised (`has_rsample`) if and only if the logits require no gradient. With `torch`'s
    `MixtureSameFamily` they never are.

    Args:
        loc: means, `(..., K, D)`.
        scale: standard deviations, `(..., K, D)`.
        logits: of the components, `(..., K)`; need not be normalised.
        validate_args: see `torch.distributions.Distribution`.
    """

    arg_constraints = {  # noqa: RUF012
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
        "logits": constraints.real_vector,
    }
    support = constraints.real_vector

    def __init__(self, loc: Tensor, scale: Tensor, logits: Tensor, validate_args: bool | None = None) -> None:
        batch = torch.broadcast_shapes(loc.shape[:-2], scale.shape[:-2], logits.shape[:-1])
        self.loc = loc.expand(*batch, *loc.shape[-2:])
        self.scale = scale.expand(*batch, *loc.shape[-2:])
        self.logits = logits.expand(*batch, loc.shape[-2])
        super().__init__(batch, loc.shape[-1:], validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether draws are differentiable."""
        return not self.logits.requires_grad

    @property
    def mean(self) -> Tensor:
        """Mean, `(..., D)`."""
        return (self.logits.softmax(-1).unsqueeze(-1) * self.loc).sum(-2)

    def expand(self, batch_shape: torch.Size, _instance: NormalMixture | None = None) -> NormalMixture:
        """The same distribution with a larger batch shape."""
        new = self._get_checked_instance(NormalMixture, _instance)
        batch_shape = torch.Size(batch_shape)
        new.loc = self.loc.expand(batch_shape + self.loc.shape[-2:])
        new.scale = self.scale.expand(batch_shape + self.loc.shape[-2:])
        new.logits = self.logits.expand(batch_shape + self.logits.shape[-1:])
        super(NormalMixture, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw; differentiable in means and standard deviations, see the class."""
        shape = self._extended_shape(sample_shape)
        logits = self.logits.expand(*shape[:-1], -1)
        # The greatest of logits with Gumbel noise is a draw of the categorical, and reads nothing back.
        chosen = (logits - torch.empty_like(logits).exponential_().log()).argmax(-1)
        index = chosen[..., None, None].expand(*shape[:-1], 1, shape[-1])
        components = shape[:-1] + self.loc.shape[-2:]
        loc, scale = (x.expand(components).gather(-2, index).squeeze(-2) for x in (self.loc, self.scale))
        return loc + scale * torch.randn_like(loc)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `(..., D)`, in nats; shape `(...)`."""
        if self._validate_args:
            self._validate_sample(value)
        return Mixture(self.loc, self.scale, self.logits).component_log_probs(value).logsumexp(-1)
