"""Priors that generative object models share, or replace.

A *count prior* is a distribution of the number of objects `n` in `0 .. N`. Models sample it as a
chain of Bernoulli statements, one a slot: slot `i` is present with probability
`h_i = P(n > i | n >= i)`, the *hazard*, and never after an absent one. The chain has the same
log-probability as the categorical, and its statements are those of the guide.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ... import checks
from ..components.networks import LocScale
from ..components.normal_mixture import Mixture, NormalMixture
from .flow import Flow, FlowPrior

ABSENT_LOGIT = -110.0
"""Logit of what cannot be present. Its probability, 2e-48, is exactly 0 in float32, as it has to be: PyTorch
compares it with random numbers of 24 bits, of which one in 17 million is 0, below any other probability: a
training run would meet an object that is present where there is none.
"""


def hazard_logits(log_probs: Tensor) -> Tensor:
    """Logits of the hazards `P(n > i | n >= i)` of a distribution of counts.

    Args:
        log_probs: `(..., N + 1)`, of the counts `0 .. N`; need not be normalised.

    Returns:
        `(..., N)`, within `+-ABSENT_LOGIT`, so that impossible counts give no infinite logits.
    """
    tails = log_probs.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:]  # tails[n] = log P(count > n)
    logits = torch.where(tails.isneginf(), ABSENT_LOGIT, tails - log_probs[..., :-1])
    return logits.clamp(ABSENT_LOGIT, -ABSENT_LOGIT)


def log_probs_of_hazards(logits: Tensor) -> Tensor:
    """Log-probabilities of the counts `0 .. N`: the inverse of `hazard_logits`.

    Args:
        logits: `(..., N)`.

    Returns:
        `(..., N + 1)`, normalised.
    """
    zero = torch.zeros_like(logits[..., :1])
    present = nn.functional.logsigmoid(logits).cumsum(-1)
    stop = nn.functional.logsigmoid(-logits)
    return torch.cat([zero, present], -1) + torch.cat([stop, zero], -1)


def slot_presence(logits: Tensor, previous: Tensor) -> dist.Bernoulli:
    """Presence of a slot whose predecessor may be absent, in which case so is this one.

    Args:
        logits: of presence, given that the previous slot is present; broadcasts with `previous`.
        previous: presence of the previous slot, 0 or 1.

    Returns:
        A Bernoulli. Mask its statement with `previous`: an absent slot has nothing to decide.
    """
    return dist.Bernoulli(logits=logits.masked_fill(previous <= 0, ABSENT_LOGIT))


def harmless(parameters: LocScale, present: Tensor) -> LocScale:
    """The parameters of a slot, and those of a standard normal where it is absent.

    A mask hides the log-probability of an absent slot, but not a NaN in its gradient, so its
    parameters must be harmless.

    Args:
        parameters: `(..., D)`.
        present: `(...)`.
    """
    absent = (present <= 0).unsqueeze(-1)
    return LocScale(parameters.loc.masked_fill(absent, 0.0), parameters.scale.masked_fill(absent, 1.0))


def present_or_standard(parameters: LocScale | Mixture | FlowPrior, present: Tensor) -> TorchDistribution:
    """A diagonal normal or a mixture of them, standard where the slot is absent, see `harmless`.

    A flow is the same wherever there is a slot; nothing that is drawn makes its gradient a NaN.
    """
    if isinstance(parameters, FlowPrior):
        return Flow(parameters, present.shape)
    if isinstance(parameters, LocScale):
        return dist.Normal(*harmless(parameters, present)).to_event(1)
    absent = (present <= 0).unsqueeze(-1)
    loc = parameters.loc.masked_fill(absent.unsqueeze(-1), 0.0)
    scale = parameters.scale.masked_fill(absent.unsqueeze(-1), 1.0)
    return NormalMixture(loc, scale, parameters.logits.masked_fill(absent, 0.0))


def slots_law(parameters: LocScale | FlowPrior, present: Tensor) -> TorchDistribution:
    """The distribution of one variable of all slots, those that are absent being left out of its density.

    Args:
        parameters: `(..., N, D)`, or `(D,)` if they are the same for all.
        present: `(..., N)`.
    """
    if isinstance(parameters, LocScale):
        parameters = LocScale(*(x.expand(*present.shape, x.shape[-1]) for x in parameters))
    return present_or_standard(parameters, present).mask(present > 0).to_event(1)


class CountPrior(nn.Module, ABC):
    """Distribution of the number of objects, `0 .. max_count`.

    A concrete prior gives `log_probs`; everything else follows.
    """

    def __init__(self, max_count: int) -> None:
        super().__init__()
        if max_count < 1:
            raise ValueError(f"`max_count` must be at least 1, but got {max_count}.")
        self.max_count = max_count

    @abstractmethod
    def log_probs(self) -> Tensor:
        """Normalised log-probabilities of the counts, `(max_count + 1,)`."""

    def hazard_logits(self) -> Tensor:
        """Logits of presence of each slot given that its predecessor is present, `(max_count,)`."""
        return hazard_logits(self.log_probs())


class GeometricCount(CountPrior):
    """Truncated, normalised geometric: `p(n) = k^n (1 - k) / (1 - k^(N + 1))`.

    Each further object multiplies the probability by `k`. A small `k` makes objects dear, which is
    what keeps AIR from spending one on every stroke. `ratio = 1` is the uniform prior. Training may
    anneal the buffer `log_ratio` (`inference.schedules.Annealed`); Eslami et al. begin where objects
    are free and end where they are dear.

    Args:
        max_count: N.
        ratio: k in `(0, 1]`.
    """

    log_ratio: Tensor

    def __init__(self, max_count: int, ratio: float = 0.01) -> None:
        super().__init__(max_count)
        if not 0 < ratio <= 1:
            raise ValueError(f"`ratio` must lie in (0, 1], but got {ratio}.")
        self.register_buffer("log_ratio", torch.tensor(math.log(ratio)))

    def log_probs(self) -> Tensor:
        """Log-probabilities of the counts, `(max_count + 1,)`."""
        counts = torch.arange(self.max_count + 1, device=self.log_ratio.device, dtype=self.log_ratio.dtype)
        return (counts * self.log_ratio).log_softmax(-1)


class CategoricalCount(CountPrior):
    """Any distribution of counts, given by its probabilities.

    Args:
        probabilities: of the counts `0 .. N`; they are normalised.
    """

    logits: Tensor

    def __init__(self, probabilities: Sequence[float]) -> None:
        super().__init__(len(probabilities) - 1)
        values = torch.tensor(probabilities, dtype=torch.get_default_dtype())
        if not bool(((values >= 0) & values.isfinite()).all()) or not bool(values.sum() > 0):
            raise ValueError(
                f"`probabilities` must be non-negative and not all zero, but got {list(probabilities)}."
            )
        self.register_buffer("logits", (values / values.sum()).log())

    def log_probs(self) -> Tensor:
        """Log-probabilities of the counts, `(max_count + 1,)`."""
        return self.logits.log_softmax(-1)


class NormalPrior(nn.Module):
    """Diagonal normal prior of one slot's variable, such as `z_where` or `z_what`.

    Args:
        loc: mean of each component.
        scale: standard deviation of each component, positive.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Sequence[float] | Tensor, scale: Sequence[float] | Tensor) -> None:
        super().__init__()
        real = torch.get_default_dtype()
        loc, scale = (x if x.is_floating_point() else x.to(real) for x in map(torch.as_tensor, (loc, scale)))
        if loc.dim() != 1 or loc.shape != scale.shape:
            raise ValueError(
                "`loc` and `scale` must be vectors of one length, "
                f"but got shapes {tuple(loc.shape)} and {tuple(scale.shape)}."
            )
        checks.finite(loc=loc.tolist())
        checks.positive(scale=scale.tolist())
        self.register_buffer("loc", loc.clone())
        self.register_buffer("scale", scale.clone())

    @classmethod
    def standard(cls, size: int) -> NormalPrior:
        """Zero mean and unit variance in `size` dimensions."""
        return cls(torch.zeros(size), torch.ones(size))

    @property
    def size(self) -> int:
        """Number of components."""
        return self.loc.numel()

    @property
    def law(self) -> LocScale:
        """The parameters of one slot, see `present_or_standard`."""
        return LocScale(self.loc, self.scale)

    def forward(self) -> dist.Independent:
        """The distribution of one slot, with event shape `(size,)`."""
        return dist.Normal(self.loc, self.scale).to_event(1)

    def divergence(self, look: LocScale, value: Tensor) -> Tensor:
        """KL of diagonal normals `(..., size)` from it, in nats, `(...)`; `value` is not used."""
        own = torch.distributions.Normal(self.loc, self.scale)
        return torch.distributions.kl_divergence(torch.distributions.Normal(*look), own).sum(-1)
