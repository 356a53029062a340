"""SQAIR's priors of what is discovered: how many objects, and where.

Kosiorek et al., *Sequential Attend, Infer, Repeat*, 2018, as their released code defines them where the
paper's text is silent.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import checks
from ..components.networks import LocScale, initialise, inverse_softplus, mlp
from ..components.presence_vectors import IMPOSSIBLE
from ..components.slots import concatenate
from .counts import CountPrior, hazard_logits

MIN_SCALE = 0.01
"""Added to every standard deviation."""


def expected_propagation(logits: Tensor, present: Tensor) -> Tensor:
    """How many objects the prior expects to go on, `(1/N) sum_i (sigmoid(logit_i) - 1/2)`, in [-1/2, 1/2].

    Args:
        logits: of propagation, `(..., N)`.
        present: whether there is an object to propagate, `(..., N)`; absent slots count as probability 0.

    Returns:
        `(..., 1)`.
    """
    return (logits.sigmoid() * present - 0.5).mean(-1, keepdim=True)


def truncated(logits: Tensor, free: Tensor) -> Tensor:
    """Log-probabilities of counts that have room, `(..., N + 1)`; the others are `IMPOSSIBLE`.

    Args:
        logits: of the counts `0 .. N`, `(..., N + 1)`; those that have room are alike if all are impossible.
        free: number of slots, `(...)`.
    """
    room = torch.arange(logits.shape[-1], device=logits.device) <= free.unsqueeze(-1)
    impossible = (logits.isneginf() | ~room).all(-1, keepdim=True)
    return logits.masked_fill(impossible, 0.0).masked_fill(~room, IMPOSSIBLE).log_softmax(-1)


def pair(value: float | tuple[float, float]) -> tuple[float, float]:
    """A value for x and one for y, where one may stand for both."""
    return value if isinstance(value, tuple) else (value, value)


class DiscoveryCountPrior(nn.Module):
    """Distribution of the number of discovered objects, given how many are expected to be propagated.

    `logits = ELU(b + 1[t > 0] b' + MLP(e))`: the outer ELU bounds every logit below by -1. In the first frame
    the counts start about equally likely; in later ones discovering nothing has probability 0.9999.
    The support is truncated to the slots that propagation leaves free, as in the paper; the released
    code drops objects that do not fit, but still counts their log-probability.

    Args:
        max_count: N.
        hidden: width of the hidden layer.
        later_bias: initial logit, added in all frames but the first, of discovering nothing.
    """

    def __init__(self, max_count: int, hidden: int = 10, later_bias: float = 10.0) -> None:
        super().__init__()
        checks.at_least(1, max_count=max_count, hidden=hidden)
        checks.finite(later_bias=later_bias)
        self.max_count = max_count
        self.network = mlp([1, hidden, max_count + 1], nn.ELU)
        initialise(self.network)
        self.bias = nn.Parameter(torch.zeros(max_count + 1))
        later = torch.zeros(max_count + 1)
        later[0] = later_bias
        self.later_bias = nn.Parameter(later)

    def forward(self, expectation: Tensor, free: Tensor, first: bool) -> Tensor:
        """Logits of presence of each slot, given that its predecessor is present, `(..., N)`.

        Args:
            expectation: `expected_propagation`, `(..., 1)`.
            free: number of slots that propagation leaves free, `(...)`.
            first: whether this is the first frame.
        """
        return hazard_logits(self.log_probs(expectation, free, first))

    def log_probs(self, expectation: Tensor, free: Tensor, first: bool) -> Tensor:
        """Log-probabilities of discovering `0 .. N` objects, `(..., N + 1)`; `IMPOSSIBLE` without room."""
        bias = self.bias if first else self.bias + self.later_bias
        return truncated(F.elu(bias + self.network(expectation)), free)


class FixedCountPrior(nn.Module):
    """The same distribution of the number of discovered objects in every frame, truncated to the free slots.

    In place of `DiscoveryCountPrior`. With `GeometricCount`, `p(n) ~ exp(-c n)`: every object has a price of
    c nats, and training may anneal its buffer `log_ratio`, which is -c.

    Args:
        counts: any distribution of counts.
    """

    def __init__(self, counts: CountPrior) -> None:
        super().__init__()
        self.counts = counts
        self.max_count = counts.max_count

    def forward(self, expectation: Tensor, free: Tensor, first: bool) -> Tensor:
        """As that of `DiscoveryCountPrior`; only the number of free slots matters."""
        return hazard_logits(self.log_probs(expectation, free, first))

    def log_probs(self, expectation: Tensor, free: Tensor, first: bool) -> Tensor:
        """Log-probabilities of discovering `0 .. N` objects, `(..., N + 1)`; `IMPOSSIBLE` without room."""
        return truncated(self.counts.log_probs(), free)


class DiscoveryWherePrior(nn.Module):
    """Where the next object is discovered, given where the ones before were, autoregressively.

    `o_j = tanh(W1 z_where_{j-1} + W2 g + b)`, and mean and raw scale are linear in `o_j`, where g depends on
    a summary of the propagated objects. It starts from small objects anywhere: mean scale 0.119 of the
    image, standard deviation 1.32 in logit space. Where the size of objects is known it can start there,
    which tells two objects from a large one.

    Args:
        context_size: features of the summary.
        hidden: width of g.
        scale_logit: initial mean of the two scale logits, or of each, x before y.
        scale: their initial standard deviation.
        shift_scale: initial standard deviation of the two shifts.
        gain: factor of the first weights of mean and raw scale in `o_j`; a small one starts nearer to the
            means and standard deviations above.
    """

    def __init__(
        self,
        context_size: int,
        hidden: int = 128,
        scale_logit: float | tuple[float, float] = -2.0,
        scale: float | None = None,
        shift_scale: float | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        checks.at_least(1, context_size=context_size, hidden=hidden)
        checks.finite(scale_logit=scale_logit, gain=gain)
        checks.within(f"({MIN_SCALE}, inf)", scale=scale, shift_scale=shift_scale)
        bound = (6 / 5) ** 0.5  # Glorot's, of a matrix of 1 x 4
        self.first_sample = nn.Parameter(torch.empty(4).uniform_(-bound, bound))
        self.initial_state = nn.Parameter(torch.zeros(4))
        self.from_context = nn.Linear(context_size + 4, hidden)
        self.from_sample = nn.Linear(4, 4)
        self.from_hidden = nn.Linear(hidden, 4)
        self.readout = nn.Linear(4, 8)
        initialise(self)
        with torch.no_grad():
            self.readout.weight.mul_(gain)
            raw, raw_shift = (
                1.0 if value is None else inverse_softplus(value - MIN_SCALE)
                for value in (scale, shift_scale)
            )
            self.readout.bias.copy_(
                torch.tensor([*pair(scale_logit), 0.0, 0.0, raw, raw, raw_shift, raw_shift])
            )

    def start(self, context: Tensor) -> Tensor:
        """The part that is the same for all objects of a frame, `(..., 4)`, from the summary `(..., C)`."""
        return self.from_hidden(F.elu(self.from_context(concatenate(self.initial_state, context))))

    def forward(self, started: Tensor, previous: Tensor) -> LocScale:
        """Parameters of `z_where` of the next object, given that of the one before, both `(..., 4)`."""
        loc, raw_scale = self.readout((self.from_sample(previous) + started).tanh()).chunk(2, dim=-1)
        return LocScale(loc, F.softplus(raw_scale) + MIN_SCALE)


class FixedWherePrior(nn.Module):
    """The same normal for every discovered object, in place of `DiscoveryWherePrior`.

    Args:
        scale_logit: mean of the two scale logits, or of each, x before y; that of the shifts is 0, the middle
            of the image.
        scale: standard deviation of the scale logits.
        shift_scale: standard deviation of the shifts, or of each, by default `scale`.

    Attributes:
        loc: mean, `(4,)`, a buffer.
        scale: standard deviation, `(4,)`, a buffer, which like `loc` may be annealed.
    """

    loc: Tensor
    scale: Tensor
    first_sample: Tensor

    def __init__(
        self,
        scale_logit: float | tuple[float, float] = -2.0,
        scale: float = 1.0,
        shift_scale: float | tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        checks.finite(scale_logit=scale_logit)
        checks.positive(scale=scale, shift_scale=shift_scale)
        shift_scales = pair(scale if shift_scale is None else shift_scale)
        self.register_buffer("loc", torch.tensor([*pair(scale_logit), 0.0, 0.0]))
        # It follows from the configuration, so checkpoints do not have it.
        self.register_buffer("scale", torch.tensor([scale, scale, *shift_scales]), persistent=False)
        self.register_buffer("first_sample", torch.zeros(4))

    def start(self, context: Tensor) -> Tensor:
        """Nothing depends on the context."""
        return context[..., :4].detach()

    def forward(self, started: Tensor, previous: Tensor) -> LocScale:
        """The fixed parameters."""
        return LocScale(self.loc, self.scale)
