r"""Discriminative correlation filters: ridge regressions, one for each frequency.

A filter answers looks f^l, l = 1 .. d, with a given picture g, mostly a peak. With transforms F^l and G

$$ A^l = \bar G F^l, \qquad B = \sum_k \bar F^k F^k, \qquad
   y = \mathcal F^{-1} \frac{\sum_l \bar A^l Z^l}{B + \lambda} $$

is the answer to looks with transforms Z^l: g, moved as they are. What is around the object is looked at too,
so that a filter learns what tells them apart. A and B may follow a video by a running mean.

Sources: Bolme, Beveridge, Draper & Lui, *Visual Object Tracking using Adaptive Correlation Filters*, 2010,
and, for several channels in this form, Danelljan, Häger, Khan & Felsberg, *Accurate Scale Estimation for
Robust Visual Tracking*, 2014.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class RidgeFilter(NamedTuple):
    """The two sums of filters, on one axis or two."""

    numerator: Tensor
    """Conjugate of A, complex, `(B, d, ...)`."""
    denominator: Tensor
    """B, `(B, ...)`, not negative."""

    @classmethod
    def learned(cls, spectra: Tensor, label: Tensor) -> RidgeFilter:
        """The filters that answer looks with `label`.

        Args:
            spectra: transforms of the looks, `(B, d, ...)`.
            label: transform of the answer, `(...)`.
        """
        conjugate = spectra.conj()
        return cls(label * conjugate, (spectra * conjugate).real.sum(dim=1))

    def towards(self, other: RidgeFilter, rate: Tensor | float) -> RidgeFilter:
        """A step of the running mean; `rate` in [0, 1], a number or `(B,)`."""
        axes = [1] * (self.denominator.dim() - 1)
        rates = torch.as_tensor(rate).to(self.denominator).reshape(-1, *axes)
        return RidgeFilter(
            self.numerator + rates.unsqueeze(1) * (other.numerator - self.numerator),
            self.denominator.lerp(other.denominator, rates),
        )

    def answer(self, spectra: Tensor, regularisation: float) -> Tensor:
        """The transform of the answer to looks, `(B, ...)`; 0 where what was learned is flat, and B all 0.

        Args:
            spectra: transforms of the looks, `(B, d, ...)`.
            regularisation: lambda, in units of the mean of B.
        """
        mean = self.denominator.mean(dim=tuple(range(1, self.denominator.dim())), keepdim=True)
        power = self.denominator.add(mean, alpha=regularisation)
        total = (self.numerator * spectra).sum(dim=1)
        return total / power.clamp(min=torch.finfo(power.dtype).tiny)


def peak_at_corner(length: int, width: float) -> Tensor:
    """A Gaussian with its top in place 0, `(length,)`, that goes on at the other end."""
    steps = torch.arange(length) - length // 2
    return (-0.5 * (steps / width) ** 2).exp().roll(-(length // 2))
