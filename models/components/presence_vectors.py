"""Distributions of which of many places hold an object, all of them at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

_BOOLEANS = constraints.independent(constraints.boolean, 1)

IMPOSSIBLE = -1e4
"""Log-probability of what cannot be: exactly 0, and, unlike `-inf`, it makes no gradient NaN."""


class ExchangeablePresence(TorchDistribution):
    r"""A number of objects, and any of the places that so many can have, all alike: `(..., K)` of 0 and 1.

    $$ \log p(b) = \log p(C) - \log \binom{K}{C}, \quad C = \sum_j b_j . $$

    Place by place it is $p(b_j = 1 | b_{<j}) = E[(C - \sum_{i<j} b_i) / (K - j) | b_{<j}]$, from j = 0, as
    Crawford and Pineau write it (*Exploiting Spatial Invariance for Scalable Unsupervised Object Tracking*,
    2020).

    Args:
        log_probs: of the numbers `0 .. N`, `(..., N + 1)`; need not be normalised.
        cells: K, at least N.
        validate_args: see `torch.distributions.Distribution`.
    """

    arg_constraints = {"log_probs": constraints.real_vector}  # noqa: RUF012
    support = _BOOLEANS
    has_rsample = False

    def __init__(self, log_probs: Tensor, cells: int, validate_args: bool | None = None) -> None:
        if cells < log_probs.shape[-1] - 1:
            raise ValueError(f"`cells` must be at least {log_probs.shape[-1] - 1}, but got {cells}.")
        self.log_probs = log_probs
        super().__init__(log_probs.shape[:-1], torch.Size([cells]), validate_args=validate_args)

    def expand(
        self, batch_shape: torch.Size, _instance: ExchangeablePresence | None = None
    ) -> ExchangeablePresence:
        """The same distribution with a larger batch shape."""
        new = self._get_checked_instance(ExchangeablePresence, _instance)
        batch_shape = torch.Size(batch_shape)
        new.log_probs = self.log_probs.expand(batch_shape + self.log_probs.shape[-1:])
        super(ExchangeablePresence, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw the number, and then which."""
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            logits = self.log_probs.expand(*shape[:-1], -1)
            # The greatest of logits with Gumbel noise is a draw of the categorical.
            count = (logits - torch.empty_like(logits).exponential_().log()).argmax(-1, keepdim=True)
            rank = torch.rand(shape, device=logits.device).argsort(-1).argsort(-1)
            return (rank < count).to(logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of `(..., K)`, in nats; shape `(...)`."""
        if self._validate_args:
            self._validate_sample(value)
        (cells,) = self.event_shape
        numbers = torch.arange(cells + 1, device=value.device, dtype=self.log_probs.dtype)
        ways = (numbers + 1).lgamma() + (cells - numbers + 1).lgamma() - numbers[-1:].add(1).lgamma()
        missing = cells + 1 - self.log_probs.shape[-1]
        log_probs = F.pad(self.log_probs.log_softmax(-1), (0, missing), value=IMPOSSIBLE) + ways
        count = value.sum(-1, keepdim=True).round().long()
        leading = torch.broadcast_shapes(log_probs.shape[:-1], count.shape[:-1])
        return log_probs.expand(*leading, -1).gather(-1, count.expand(*leading, 1)).squeeze(-1)


class BudgetedBernoulli(TorchDistribution):
    r"""Presence of places in their order, each decided for itself as long as there is room: `(..., K)`.

    Place j is present with probability `sigmoid(logits_j)` if fewer than `budget` before it are, and else
    never. It is a normalised distribution of vectors of at most `budget` ones; all logits are known
    beforehand, so that nothing is sequential but a cumulative sum.

    Args:
        logits: `(..., K)`.
        budget: `(...)`, not negative.
        validate_args: see `torch.distributions.Distribution`.
    """

    arg_constraints = {"logits": constraints.real_vector, "budget": constraints.nonnegative}  # noqa: RUF012
    support = _BOOLEANS
    has_rsample = False

    def __init__(self, logits: Tensor, budget: Tensor, validate_args: bool | None = None) -> None:
        batch = torch.broadcast_shapes(logits.shape[:-1], budget.shape)
        self.logits = logits.expand(*batch, logits.shape[-1])
        self.budget = budget.expand(batch)
        super().__init__(batch, logits.shape[-1:], validate_args=validate_args)

    def expand(
        self, batch_shape: torch.Size, _instance: BudgetedBernoulli | None = None
    ) -> BudgetedBernoulli:
        """The same distribution with a larger batch shape."""
        new = self._get_checked_instance(BudgetedBernoulli, _instance)
        batch_shape = torch.Size(batch_shape)
        new.logits = self.logits.expand(batch_shape + self.event_shape)
        new.budget = self.budget.expand(batch_shape)
        super(BudgetedBernoulli, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw: independent decisions, of which the first `budget` that say "present" are taken."""
        with torch.no_grad():
            said = torch.bernoulli(self.logits.sigmoid().expand(self._extended_shape(sample_shape)))
            return said * self._possible(said)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of `(..., K)`, in nats, `(...)`; that of more than `budget` is `IMPOSSIBLE`."""
        if self._validate_args:
            self._validate_sample(value)
        possible = self._possible(value)
        decided = F.logsigmoid(torch.where(value > 0, self.logits, -self.logits))
        return torch.where(possible, decided, IMPOSSIBLE * value).sum(-1)

    def _possible(self, value: Tensor) -> Tensor:
        """Where there is room, given what is present."""
        before = value.cumsum(-1) - value
        return before < self.budget.unsqueeze(-1)
