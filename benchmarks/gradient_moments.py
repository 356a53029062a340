r"""Signal, noise and bias of a gradient estimator, from draws of a vector too long to be kept.

For a random gradient g of a group of parameters

$$ \text{SNR} = \frac{\|E g\|}{\sqrt{\operatorname{tr} \operatorname{Var} g}} $$

is the ratio of Rainforth et al. (*Tighter Variational Bounds are Not Necessarily Better*, 2018), taken of the
whole group by norms: a mean of the ratios of single parameters would count those that nothing depends on as
much as others, and is inflated by the noise of every mean. `||mean||^2` of n draws overestimates `||E g||^2`
by `tr Var g / n`, which is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Blocks(NamedTuple):
    """Moments of one group of parameters in G blocks of draws; P parameters."""

    draws: Tensor
    """How many; shape (G,)."""
    mean: Tensor
    """Their mean; shape (G, P)."""
    scatter: Tensor
    """Their summed squared distance from it, of all parameters together; shape (G,)."""


class Moments(NamedTuple):
    """Mean and variance of n draws of a gradient."""

    draws: float
    """n."""
    mean: Tensor
    """Shape (P,)."""
    variance: float
    """tr Var of a single draw, unbiased."""

    @property
    def squared_norm(self) -> float:
        """Unbiased estimate of `||E g||^2`; it may be negative."""
        return _squared(self.mean) - self.variance / self.draws


class Ratio(NamedTuple):
    """Signal over noise."""

    squared: float
    """Estimate of its square; negative where noise hides the signal."""
    squared_error: float
    """Standard error of the square, by the jackknife over blocks: it is that of signal and noise."""
    squared_error_of_zero: float
    """Standard error of the square if there were no signal."""

    @property
    def value(self) -> float:
        """The ratio, 0 where its square is estimated as negative."""
        return math.sqrt(max(0.0, self.squared))

    @property
    def limit(self) -> float:
        """What the ratio does not exceed where no signal is seen."""
        return math.sqrt(max(0.0, self.squared) + 2 * self.squared_error_of_zero)

    @property
    def is_seen(self) -> bool:
        """Whether there is a signal, by two standard errors."""
        return self.squared > 2 * self.squared_error_of_zero


class Bias(NamedTuple):
    """Squared distance of an expectation from a reference, as a part of the reference's squared norm."""

    squared: float
    """Estimate; it may be negative."""
    squared_error: float
    """Standard error it would have without bias, from products of differences in distinct blocks."""

    @property
    def value(self) -> float:
        """Relative bias, 0 where its square is estimated as negative."""
        return math.sqrt(max(0.0, self.squared))

    @property
    def limit(self) -> float:
        """What the relative bias does not exceed, by two standard errors of its square."""
        return math.sqrt(max(0.0, self.squared) + 2 * self.squared_error)

    @property
    def is_seen(self) -> bool:
        """Whether there is a bias, by four standard errors: dozens of cells are tested."""
        return self.squared > 4 * self.squared_error


class GradientMoments:
    """Moments of a stream of gradients, by Welford's method, in blocks that draws are dealt to in turn.

    The blocks are there for standard errors: draws themselves are not kept.

    Args:
        sizes: number of parameters of each group.
        blocks: G, at least 2; every block needs draws.
    """

    def __init__(self, sizes: Mapping[str, int], blocks: int = 8) -> None:
        if blocks < 2:
            raise ValueError(f"`blocks` must be at least 2, got {blocks}")
        self._sizes = dict(sizes)
        self._count = torch.zeros(blocks, dtype=torch.float64)
        self._mean = torch.zeros(blocks, sum(sizes.values()))
        self._scatter = torch.zeros(blocks, len(sizes), dtype=torch.float64)
        self._next = 0

    def add(self, gradient: Mapping[str, Tensor]) -> None:
        """Take in one draw: a vector for each group."""
        block, self._next = self._next, (self._next + 1) % len(self._count)
        value = torch.cat([gradient[name] for name in self._sizes])
        self._count[block] += 1
        delta = value - self._mean[block]
        self._mean[block] += delta / float(self._count[block])
        products = delta.mul_(value.sub_(self._mean[block])).split(list(self._sizes.values()))
        self._scatter[block] += torch.stack([product.sum().double() for product in products])

    def blocks(self, name: str) -> Blocks:
        """The moments of a group.

        Raises:
            ValueError: there are fewer than two draws in a block.
        """
        if self._count.min() < 2:
            raise ValueError(f"every block needs 2 draws, got {self._count.int().tolist()}")
        index = list(self._sizes).index(name)
        mean = self._mean.split(list(self._sizes.values()), dim=1)[index]
        return Blocks(self._count, mean, self._scatter[:, index])


def merge(blocks: Blocks, without: int | None = None) -> Moments:
    """Moments of all draws, or of those that are not in block `without`."""
    kept = [index for index in range(len(blocks.draws)) if index != without]
    draws, means = blocks.draws[kept], blocks.mean[kept]
    total = float(draws.sum())
    mean = (draws / total).to(means.dtype) @ means
    between = sum(float(n) * _squared(block_mean - mean) for n, block_mean in zip(draws, means, strict=True))
    return Moments(total, mean, (float(blocks.scatter[kept].sum()) + between) / (total - 1))


def signal_to_noise(blocks: Blocks) -> Ratio:
    """Signal over noise of a single draw; 0 where there is no noise and no signal."""

    def squared(moments: Moments) -> float:
        return moments.squared_norm / moments.variance if moments.variance > 0 else 0.0

    number = len(blocks.draws)
    without = torch.tensor([squared(merge(blocks, index)) for index in range(number)], dtype=torch.float64)
    error = math.sqrt((number - 1) * float(without.var(correction=0)))
    moments = merge(blocks)
    _, norm_error = _squared_expectation(blocks.mean)
    of_zero = norm_error / moments.variance if moments.variance > 0 else 0.0
    return Ratio(squared(moments), error, of_zero)


def relative_bias(blocks: Blocks, references: Sequence[Blocks]) -> Bias | None:
    """Bias against the mean of independent estimators that have none.

    Args:
        blocks: the estimator in question.
        references: others, with as many blocks; they are averaged in inverse proportion to the variances of
            their means.

    Returns:
        The bias, or None where the references do not show a signal to compare it with.
    """
    moments, others = merge(blocks), [merge(reference) for reference in references]
    precision = torch.tensor([other.draws / other.variance for other in others], dtype=torch.float64)
    shares = (precision / precision.sum()).to(blocks.mean.dtype)
    reference = _weighted([other.mean for other in others], shares)
    noise = 1 / float(precision.sum())
    norm, norm_error = _squared_expectation(_weighted([other.mean for other in references], shares))
    if norm <= 2 * norm_error:
        return None
    norm = _squared(reference) - noise
    distance = _squared(moments.mean - reference) - moments.variance / moments.draws - noise
    _, error = _squared_expectation(blocks.mean - _weighted([other.mean for other in references], shares))
    return Bias(distance / norm, error / norm)


def _squared_expectation(means: Tensor) -> tuple[float, float]:
    """Estimate `||E m||^2` of independent rows m by products of distinct ones, and the standard error.

    The error is that for `E m = 0`, where the products are uncorrelated.
    """
    products = (means @ means.T).double()
    first, second = torch.triu_indices(len(means), len(means), offset=1)
    distinct = products[first, second]
    return float(distinct.mean()), float(distinct.std()) / math.sqrt(len(distinct))


def _weighted(values: Sequence[Tensor], shares: Tensor) -> Tensor:
    return torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum(0)


def _squared(vector: Tensor) -> float:
    return float(vector @ vector)
