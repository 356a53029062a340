"""SQAIR's priors of what is discovered: how many objects, and where.

Kosiorek et al., *Sequential Attend, Infer, Repeat*, 2018, as their released code defines them where the
paper's text is silent.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..components.networks import LocScale, initialise, mlp
from ..components.slots import concatenate
from .counts import hazard_logits

MIN_SCALE = 0.01
"""Added to every standard deviation."""

IMPOSSIBLE = -1e4
"""Logit of what cannot be: its probability is exactly 0, and, unlike `-inf`, it makes no gradient NaN."""


def expected_propagation(logits: Tensor, present: Tensor) -> Tensor:
    """How many objects the prior expects to go on, `(1/N) sum_i (sigmoid(logit_i) - 1/2)`, in [-1/2, 1/2].

    Args:
        logits: of propagation, `(..., N)`.
        present: whether there is an object to propagate, `(..., N)`; absent slots count as probability 0.

    Returns:
        `(..., 1)`.
    """
    return (logits.sigmoid() * present - 0.5).mean(-1, keepdim=True)


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
        logits = F.elu(bias + self.network(expectation))
        counts = torch.arange(self.max_count + 1, device=logits.device)
        return logits.masked_fill(counts > free.unsqueeze(-1), IMPOSSIBLE).log_softmax(-1)


class DiscoveryWherePrior(nn.Module):
    """Where the next object is discovered, given where the ones before were, autoregressively.

    `o_j = tanh(W1 z_where_{j-1} + W2 g + b)`, and mean and raw scale are linear in `o_j`, where g depends on
    a summary of the propagated objects. It starts from small objects anywhere: mean scale 0.119 of the
    image, standard deviation 1.32 in logit space.

    Args:
        context_size: features of the summary.
        hidden: width of g.
        scale_logit: initial mean of the two scale logits.
    """

    def __init__(self, context_size: int, hidden: int = 128, scale_logit: float = -2.0) -> None:
        super().__init__()
        bound = (6 / 5) ** 0.5  # Glorot's, of a matrix of 1 x 4
        self.first_sample = nn.Parameter(torch.empty(4).uniform_(-bound, bound))
        self.initial_state = nn.Parameter(torch.zeros(4))
        self.from_context = nn.Linear(context_size + 4, hidden)
        self.from_sample = nn.Linear(4, 4)
        self.from_hidden = nn.Linear(hidden, 4)
        self.readout = nn.Linear(4, 8)
        initialise(self)
        with torch.no_grad():
            self.readout.bias.copy_(torch.tensor([scale_logit, scale_logit, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]))

    def start(self, context: Tensor) -> Tensor:
        """The part that is the same for all objects of a frame, `(..., 4)`, from the summary `(..., C)`."""
        return self.from_hidden(F.elu(self.from_context(concatenate(self.initial_state, context))))

    def forward(self, started: Tensor, previous: Tensor) -> LocScale:
        """Parameters of `z_where` of the next object, given that of the one before, both `(..., 4)`."""
        loc, raw_scale = self.readout((self.from_sample(previous) + started).tanh()).chunk(2, dim=-1)
        return LocScale(loc, F.softplus(raw_scale) + MIN_SCALE)


class FixedWherePrior(nn.Module):
    """The same normal for every discovered object, in place of `DiscoveryWherePrior`."""

    loc: Tensor
    first_sample: Tensor

    def __init__(self, scale_logit: float = -2.0, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("loc", torch.tensor([scale_logit, scale_logit, 0.0, 0.0]))
        self.register_buffer("first_sample", torch.zeros(4))
        self.scale = scale

    def start(self, context: Tensor) -> Tensor:
        """Nothing depends on the context."""
        return context[..., :4].detach()

    def forward(self, started: Tensor, previous: Tensor) -> LocScale:
        """The fixed parameters."""
        return LocScale(self.loc, torch.full_like(self.loc, self.scale))
