r"""Which worker a glimpse is for: soft assignment by a memory of the glimpses before.

$$ a_{g,c} = \frac{1}{\tau} \sum_{k < t} e^{-(t-1-k)/4} \frac{1}{G} \sum_{h} w_{k,h,c} s(v_g, v_{k,h}) $$

is how much glimpse g of frame t is like those that worker c had, the latest counting most, and the weights w
of frame t are its softmax. In the first frame a is learned.

Source: Baradel, Wolf, Mille & Taylor, *Glimpse Clouds*, 2018, whose similarity is `1 - distance`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ... import checks


class GlimpseMemory(NamedTuple):
    """The glimpses of the frames so far, the latest last."""

    points: Tensor
    """What they are compared by, `(B, t, G, P)`, see `Similarity.points`."""
    weights: Tensor
    """`(B, t, G, C)`."""

    def add(self, points: Tensor, weights: Tensor) -> GlimpseMemory:
        """With those of one more frame, `(B, G, P)` and `(B, G, C)`."""
        pairs = ((self.points, points), (self.weights, weights))
        return GlimpseMemory(*(torch.cat([old, new.unsqueeze(1)], dim=1) for old, new in pairs))


class Similarity(nn.Module, ABC):
    """How alike two glimpses are, in (0, 1]: `exp(-d^2)` of a distance d, the Euclidean one of points."""

    @abstractmethod
    def points(self, glimpses: Tensor) -> Tensor:
        """What glimpses of a new frame `(B, G, D)` are compared by, and what is remembered, `(B, G, P)`."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Of all points `(..., N, P)` and `(..., M, P)`, `(..., N, M)`."""
        square = (first.unsqueeze(-2) - second.unsqueeze(-3)).square().sum(-1)
        return torch.exp(-square)


class LearnedSimilarity(Similarity):
    r"""$d^2 = \lVert P (x - y) \rVert^2$ with a learned matrix P: the paper's Mahalanobis distance.

    Args:
        glimpse_size: D.
        size: rows of P. It begins so that features of variance 1 are 1/2 apart, d^2 = 1/4: where nothing is
            alike, nobody can be told apart.
    """

    def __init__(self, glimpse_size: int, size: int = 64) -> None:
        super().__init__()
        checks.at_least(1, glimpse_size=glimpse_size, size=size)
        self.projection = nn.Linear(glimpse_size, size, bias=False)
        nn.init.normal_(self.projection.weight, std=(8 * size * glimpse_size) ** -0.5)

    def points(self, glimpses: Tensor) -> Tensor:
        """See `Similarity.points`."""
        return self.projection(glimpses)


class ScaledSimilarity(Similarity):
    """`d^2` is half the mean, over features, of squared differences in units of the feature's variance.

    It has no parameters, as in the released program; there the distance is by the inverse covariance of the
    first batch's few glimpses, which is singular and is not stored. Here the variances are running means over
    the batches of training, and are. Points are the glimpses themselves: variances go on changing from frame
    to frame, and all that are compared must be measured by the same.

    Args:
        glimpse_size: D.
        momentum: weight of a new batch.
    """

    variance: Tensor

    def __init__(self, glimpse_size: int, momentum: float = 0.1) -> None:
        super().__init__()
        checks.at_least(1, glimpse_size=glimpse_size)
        checks.share(momentum=momentum)
        self.momentum = momentum
        self.register_buffer("variance", torch.ones(glimpse_size))

    def points(self, glimpses: Tensor) -> Tensor:
        """See `Similarity.points`."""
        if self.training and glimpses.shape[0] * glimpses.shape[1] > 1:
            new = glimpses.detach().flatten(0, 1).var(dim=0)
            self.variance.lerp_(new.to(self.variance), self.momentum)
        return glimpses

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """See `Similarity.forward`."""
        scale = (2 * len(self.variance) * (self.variance + 1e-6)).rsqrt()
        return super().forward(first * scale, second * scale)


class Assignment(nn.Module, ABC):
    """Weights of glimpses for workers.

    Args:
        glimpses: G.
        workers: C.
        similarity: of glimpses.
        temperature: tau; 0.5 is released.
        decay: frames in which what is remembered fades to 1/e.
    """

    def __init__(
        self,
        glimpses: int,
        workers: int,
        similarity: Similarity,
        temperature: float = 0.5,
        decay: float = 4.0,
    ) -> None:
        super().__init__()
        checks.at_least(1, glimpses=glimpses, workers=workers)
        checks.positive(temperature=temperature, decay=decay)
        self.similarity = similarity
        self.temperature, self.decay = temperature, decay
        self.first_logits = nn.Parameter(torch.randn(glimpses, workers))

    def forward(self, glimpses: Tensor, memory: GlimpseMemory | None) -> tuple[Tensor, GlimpseMemory]:
        """Weights `(B, G, C)` of a frame's glimpses `(B, G, D)`, and the memory with them; None at first."""
        points = self.similarity.points(glimpses)
        if memory is None:
            logits = self.first_logits.expand(len(glimpses), -1, -1)
            weights = self.normalised(logits / self.temperature)
            return weights, GlimpseMemory(points.unsqueeze(1), weights.unsqueeze(1))
        weights = self.normalised(self.likeness(points, memory) / self.temperature)
        return weights, memory.add(points, weights)

    def likeness(self, points: Tensor, memory: GlimpseMemory) -> Tensor:
        """How like those of each worker glimpses at points `(B, G, P)` are, `(B, G, C)`."""
        frames, per_frame = memory.points.shape[1:3]
        alike = self.similarity(points, memory.points.flatten(1, 2)).unflatten(-1, (frames, per_frame))
        age = torch.arange(frames - 1, -1, -1, device=points.device, dtype=points.dtype)
        fading = torch.exp(-age / self.decay) / per_frame
        return torch.einsum("k,bgkh,bkhc->bgc", fading, alike, memory.weights)

    @abstractmethod
    def normalised(self, logits: Tensor) -> Tensor:
        """Weights of logits `(B, G, C)`."""


class OverWorkers(Assignment):
    """Each glimpse is shared out among the workers, as in the paper."""

    def normalised(self, logits: Tensor) -> Tensor:
        """See `Assignment.normalised`."""
        return logits.softmax(dim=-1)


class OverGlimpses(Assignment):
    """Each worker takes a convex combination of the glimpses, as in the released program."""

    def normalised(self, logits: Tensor) -> Tensor:
        """See `Assignment.normalised`."""
        return logits.softmax(dim=-2)


class Uniform(Assignment):
    """All workers get all glimpses alike: no assignment, for comparison."""

    def normalised(self, logits: Tensor) -> Tensor:
        """See `Assignment.normalised`."""
        return torch.full_like(logits, 1 / logits.shape[-1])


def gathered(weights: Tensor, glimpses: Tensor) -> Tensor:
    """What each worker is given, `(B, C, D)`: the mean of glimpses `(B, G, D)` by its weights `(B, G, C)`."""
    shares = weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return shares.transpose(1, 2) @ glimpses
