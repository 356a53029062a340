r"""Normalised cross-correlation: how much does every place of a picture look like a template?

With weights w of the template's cells that sum to 1, means of the pixels X below it and of the template T

$$ \bar X = \sum w X, \qquad \bar T = \sum w T $$

in each channel, and sums over cells and channels, a place has

$$ \frac{\sum w (X - \bar X)(T - \bar T)}{\sqrt{\sum w (X - \bar X)^2 \; \sum w (T - \bar T)^2}} $$

1 where the picture is the template, but for brightness and contrast. All sums are correlations of X, or of
its square, with a kernel of the template's size, done by fast Fourier transforms (Lewis, *Fast Normalized
Cross-Correlation*, 1995, whose integral images are for equal weights).
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

_FLAT = 1e-6
"""Mean square deviation of grey values in [0, 1], in all channels, below which a place has no look."""


def template_kernels(templates: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""What makes the numerator of a score of products with a picture, and the weights.

    Args:
        templates: `(..., C, h, w)`; the kernels of flat ones are 0.
        weights: `(..., h, w)`, see `normalised_cross_correlation`.

    Returns:
        Kernels `(..., C, h, w)`, and w, whose sum is 1, `(..., 1, h, w)`.
    """
    if weights is None:
        weights = torch.ones_like(templates[..., 0, :, :])
    cells = (weights / weights.sum(dim=(-2, -1), keepdim=True)).unsqueeze(-3)
    deviation = templates - (cells * templates).sum(dim=(-2, -1), keepdim=True)
    energy = (cells * deviation.square()).sum(dim=(-3, -2, -1), keepdim=True)
    flat = _FLAT * templates.shape[-3]
    return (cells * deviation / energy.clamp(min=flat).sqrt()).masked_fill(energy <= flat, 0.0), cells


def bands(weights: Tensor, length: int) -> Tensor:
    """Matrices whose product with `length` values are their weighted sums at all places.

    Args:
        weights: `(..., n)`.
        length: L, at least n.

    Returns:
        `(..., L - n + 1, L)`.
    """
    around = length - weights.shape[-1]
    return F.pad(weights, (around, around)).unfold(-1, length, 1).flip(-2)


def deviations(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    r"""$\sqrt{\sum w (X - \bar X)^2}$ at all places, which numerators of scores are divided by.

    Infinite where images are flat.

    Args:
        images: `(..., C, H, W)`; their means should be about 0, so that sums of squares cancel less.
        down: `bands` of weights of rows, whose sum is 1, `(..., 1, H - h + 1, H)`.
        across: the same of columns, `(..., 1, W - w + 1, W)`: w is the product of both.

    Returns:
        `(..., H - h + 1, W - w + 1)`.
    """
    seen = torch.cat([images, images.square().sum(dim=-3, keepdim=True)], dim=-3)
    means = down @ seen @ across.mT
    return _deviation(means)


def normalised_cross_correlation(images: Tensor, templates: Tensor, weights: Tensor | None = None) -> Tensor:
    """How much images look like templates, at all places where a template is inside.

    Leading axes are broadcast. Nothing is read from the device. Single precision is enough for patches; whole
    frames want double, as sums over all of the frame are rounded.

    Args:
        images: `(..., C, H, W)`, floating point.
        templates: `(..., C, h, w)`, at most as large.
        weights: of the templates' cells, `(..., h, w)`, not negative, for objects of other shapes than
            rectangles, or whose middle is more certain than their border; equal by default.

    Returns:
        `(..., H - h + 1, W - w + 1)`, in [-1, 1]; 0 where image or template are flat.
    """
    images = images - images.mean(dim=(-2, -1), keepdim=True)
    (height, width), (down, across) = images.shape[-2:], templates.shape[-2:]
    if down > height or across > width:
        raise ValueError(
            f"`templates` of {down} x {across} cells are larger than images of {height} x {width}"
        )
    size = fast_length(height), fast_length(width)
    seen = torch.cat([images, images.square().sum(dim=-3, keepdim=True)], dim=-3)
    kernels, cells = (torch.fft.rfft2(each, s=size).conj() for each in template_kernels(templates, weights))
    spectra = torch.fft.rfft2(seen, s=size)
    product, means = (
        torch.fft.irfft2(each, s=size)[..., : height - down + 1, : width - across + 1]
        for each in ((spectra[..., :-1, :, :] * kernels).sum(dim=-3), spectra * cells)
    )
    return (product / _deviation(means)).clamp(-1, 1)


def top_of_parabola(low: Tensor, middle: Tensor, high: Tensor) -> Tensor:
    """Where the parabola through values at -1, 0 and 1 has its top, at most there; or else the higher end."""
    bend = (low + high).sub(middle, alpha=2)
    return ((high - low) / (-2 * bend).clamp(min=2e-6)).clamp(-1, 1)


def _deviation(means: Tensor) -> Tensor:
    """Of weighted means of images and, in the last channel, of their squares; infinite where flat."""
    variance = means[..., -1, :, :] - means[..., :-1, :, :].square().sum(dim=-3)
    return variance.masked_fill(variance <= _FLAT * (means.shape[-3] - 1), torch.inf).sqrt()


@cache
def fast_length(length: int) -> int:
    """The least number from `length` on without prime factors above 5: transforms of others are slow."""
    rest = length
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    return length if rest == 1 else fast_length(length + 1)
