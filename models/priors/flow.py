r"""A prior of appearances that is learned: normal noise, bent into the shape that appearances have.

Under a standard normal prior the encoder pays twice for each object: for what it says of it, and for saying
it so that all objects together look normal, which those of a few kinds do not,

$$ E_x KL[q(z | x) \| p(z)] = I_q(x; z) + KL[q(z) \| p(z)]. $$

A prior that is fitted to the second term (Hoffman and Johnson, *ELBO surgery*, 2016) gives it back, and what
is drawn from it looks like what was seen. Here it is a normalising flow of affine coupling layers (Dinh et
al., *Density estimation using Real NVP*, 2017), the prior of Chen et al., *Variational Lossy Autoencoder*,
2017: noise $u \sim N(0, I)$ goes through layers that leave one half a of it as it is and say by it where the
other half b goes, the two in turns,

$$ b \leftarrow b \odot e^{s(a)} + m(a), \qquad
   \log p(z) = \log N(u; 0, I) - \sum_{\text{layers}} \sum_i s_i(a). $$
"""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn

from ... import checks
from ..components.networks import LocScale, initialise, mlp

LONGEST = 1.0
"""Greatest change of a logarithm of scale in a layer."""


class FlowPrior(nn.Module):
    """A learned prior of one slot's `z_what`, see the module; it starts as a standard normal.

    Args:
        size: number of components, at least 2.
        layers: number of coupling layers; with 2 each half has been changed once.
        hidden: width of the two hidden layers of their networks.
    """

    def __init__(self, size: int = 50, layers: int = 6, hidden: int = 128) -> None:
        super().__init__()
        checks.at_least(2, size=size)
        checks.at_least(1, layers=layers, hidden=hidden)
        self.size = size
        self.halves = (size // 2, size - size // 2)
        self.layers = nn.ModuleList()
        for layer in range(layers):
            given, moved = self.halves[layer % 2], self.halves[1 - layer % 2]
            network = mlp([given, hidden, hidden, 2 * moved], nn.ELU)
            initialise(network)
            last = network[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            self.layers.append(network)

    def forward(self) -> Flow:
        """The distribution of one slot, with event shape `(size,)`."""
        return Flow(self)

    def shape(self, noise: Tensor) -> Tensor:
        """What noise `(..., size)` becomes."""
        halves = list(noise.split(self.halves, dim=-1))
        for layer in range(len(self.layers)):
            log_scale, shift = self._said(layer, halves)
            halves[1 - layer % 2] = halves[1 - layer % 2] * log_scale.exp() + shift
        return torch.cat(halves, dim=-1)

    def noise(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The noise that becomes this, `(..., size)`, and the logarithm by which it is denser, `(...)`."""
        halves = list(value.split(self.halves, dim=-1))
        denser = torch.zeros_like(value[..., 0])
        for layer in reversed(range(len(self.layers))):
            log_scale, shift = self._said(layer, halves)
            halves[1 - layer % 2] = (halves[1 - layer % 2] - shift) * (-log_scale).exp()
            denser = denser + log_scale.sum(-1)
        return torch.cat(halves, dim=-1), denser

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `(..., size)`, in nats; shape `(...)`."""
        noise, denser = self.noise(value)
        return -0.5 * (noise.square().sum(-1) + self.size * math.log(2 * math.pi)) - denser

    @property
    def law(self) -> FlowPrior:
        """Itself, see `present_or_standard`."""
        return self

    def divergence(self, look: LocScale, value: Tensor) -> Tensor:
        """KL of diagonal normals from it: their entropy, and an estimate of the rest from a draw of each.

        Args:
            look: their parameters, `(..., size)`.
            value: what was drawn, likewise.

        Returns:
            Nats, `(...)`.
        """
        return -dist.Normal(*look).entropy().sum(-1) - self.log_prob(value)

    def _said(self, layer: int, halves: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logarithm of scale, and shift, of the half that a layer changes."""
        log_scale, shift = self.layers[layer](halves[layer % 2]).chunk(2, dim=-1)
        return LONGEST * log_scale.tanh(), shift


class Flow(TorchDistribution):
    """The distribution of a `FlowPrior`, for each element of a batch independently.

    Args:
        prior: the layers.
        batch_shape: of the batch.
        validate_args: see `torch.distributions.Distribution`.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        prior: FlowPrior,
        batch_shape: torch.Size = torch.Size(),  # noqa: B008
        validate_args: bool | None = None,
    ) -> None:
        self.prior = prior
        super().__init__(batch_shape, torch.Size([prior.size]), validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: Flow | None = None) -> Flow:
        """The same distribution with a larger batch shape."""
        return Flow(self.prior, torch.Size(batch_shape), validate_args=self._validate_args)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw; differentiable in the parameters of the layers."""
        weight = next(self.prior.parameters())
        noise = torch.randn(self._extended_shape(sample_shape), dtype=weight.dtype, device=weight.device)
        return self.prior.shape(noise)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `(..., size)`, in nats; shape `(...)`."""
        if self._validate_args:
            self._validate_sample(value)
        return self.prior.log_prob(value).expand(torch.broadcast_shapes(self.batch_shape, value.shape[:-1]))
