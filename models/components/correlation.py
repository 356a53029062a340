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
from torch import Tensor

_FLAT = 1e-6
"""Mean square deviation of grey values in [0, 1], in all channels, below which a place has no look."""


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
    channels, height, width = images.shape[-3:]
    down, across = templates.shape[-2:]
    if down > height or across > width:
        raise ValueError(
            f"`templates` of {down} x {across} cells are larger than images of {height} x {width}"
        )
    if weights is None:
        weights = torch.ones_like(templates[..., 0, :, :])
    weights = weights / weights.sum(dim=(-2, -1), keepdim=True)
    cells = weights.unsqueeze(-3)
    deviation = templates - (cells * templates).sum(dim=(-2, -1), keepdim=True)
    kernel = cells * deviation
    energy = (kernel * deviation).sum(dim=(-3, -2, -1))[..., None, None]
    images = images - images.mean(dim=(-2, -1), keepdim=True)  # sums of squares cancel less
    if (down, across) == (height, width):
        product, square, means = (
            (x * w).sum(dim=(-2, -1), keepdim=True)
            for x, w in ((images, kernel), (images.square(), cells), (images, cells))
        )
        product, square = product.sum(dim=-3), square.sum(dim=-3)
    else:
        size = _fast_length(height), _fast_length(width)
        spectrum, spread = torch.fft.rfft2(images, s=size), torch.fft.rfft2(cells, s=size).conj()
        products = (spectrum * torch.fft.rfft2(kernel, s=size).conj()).sum(dim=-3)
        squares = torch.fft.rfft2(images.square().sum(dim=-3), s=size) * spread.squeeze(-3)
        product, square, means = (
            torch.fft.irfft2(each, s=size)[..., : height - down + 1, : width - across + 1]
            for each in (products, squares, spectrum * spread)
        )
    variance = square - means.square().sum(dim=-3)
    flat = _FLAT * channels
    score = product / (variance.clamp(min=flat) * energy.clamp(min=flat)).sqrt()
    return score.masked_fill((variance <= flat) | (energy <= flat), 0.0).clamp(-1, 1)


@cache
def _fast_length(length: int) -> int:
    """The least number from `length` on without prime factors above 5: transforms of others are slow."""
    rest = length
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    return length if rest == 1 else _fast_length(length + 1)
