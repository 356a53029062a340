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
from typing import NamedTuple

import torch
from torch import Tensor

_FLAT = 1e-6
"""Mean square deviation of grey values in [0, 1], in all channels, below which a place has no look."""


class Templates(NamedTuple):
    """Templates that images of one size are compared with: what of them can be computed once."""

    kernels: Tensor
    r"""Transforms of $w (T - \bar T) / \sqrt{\sum w (T - \bar T)^2}$, conjugate, `(..., C, N, M)`; of flat
    templates 0."""
    spread: Tensor
    """Transforms of w, conjugate, `(..., 1, N, M)`."""
    size: tuple[int, int]
    """Rows and columns of what is transformed, a little more than those of the images."""
    places: tuple[int, int]
    """Rows and columns of the scores."""

    @classmethod
    def prepared(cls, templates: Tensor, weights: Tensor | None, height: int, width: int) -> Templates:
        """Templates for images of a height and width, see `normalised_cross_correlation`."""
        down, across = templates.shape[-2:]
        if down > height or across > width:
            raise ValueError(
                f"`templates` of {down} x {across} cells are larger than images of {height} x {width}"
            )
        kernels, cells = template_kernels(templates, weights)
        size = _fast_length(height), _fast_length(width)
        transformed, spread = (
            torch.fft.rfft2(each, s=size).conj().resolve_conj() for each in (kernels, cells)
        )
        return cls(transformed, spread, size, (height - down + 1, width - across + 1))

    def scores(self, images: Tensor) -> Tensor:
        """How much images look like the templates, see `normalised_cross_correlation`.

        Args:
            images: `(..., C, H, W)`; their means should be about 0, so that sums of squares cancel less.
        """
        product, deviation = self.parts(images)
        return (product / deviation).clamp(-1, 1)

    def parts(self, images: Tensor) -> tuple[Tensor, Tensor]:
        r"""Numerator and denominator of `scores`.

        They are $\sum w (X - \bar X) (T - \bar T)$, of templates whose deviation is 1, and
        $\sqrt{\sum w (X - \bar X)^2}$.
        """
        seen = torch.cat([images, images.square().sum(dim=-3, keepdim=True)], dim=-3)
        spectra = torch.fft.rfft2(seen, s=self.size)
        product = self._at_places((spectra[..., :-1, :, :] * self.kernels).sum(dim=-3))
        means = self._at_places(spectra * self.spread)
        variance = means[..., -1, :, :] - means[..., :-1, :, :].square().sum(dim=-3)
        flat = _FLAT * images.shape[-3]
        return product.masked_fill(variance <= flat, 0.0), variance.clamp(min=flat).sqrt()

    def _at_places(self, spectra: Tensor) -> Tensor:
        rows, columns = self.places
        return torch.fft.irfft2(spectra, s=self.size)[..., :rows, :columns]


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


def normalised_cross_correlation(images: Tensor, templates: Tensor, weights: Tensor | None = None) -> Tensor:
    """How much images look like templates, at all places where a template is inside.

    Leading axes are broadcast. Nothing is read from the device. Single precision is enough for patches; whole
    frames want double, as sums over all of the frame are rounded. `Templates` are for many images.

    Args:
        images: `(..., C, H, W)`, floating point.
        templates: `(..., C, h, w)`, at most as large.
        weights: of the templates' cells, `(..., h, w)`, not negative, for objects of other shapes than
            rectangles, or whose middle is more certain than their border; equal by default.

    Returns:
        `(..., H - h + 1, W - w + 1)`, in [-1, 1]; 0 where image or template are flat.
    """
    prepared = Templates.prepared(templates, weights, images.shape[-2], images.shape[-1])
    return prepared.scores(images - images.mean(dim=(-2, -1), keepdim=True))


@cache
def _fast_length(length: int) -> int:
    """The least number from `length` on without prime factors above 5: transforms of others are slow."""
    rest = length
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    return length if rest == 1 else _fast_length(length + 1)
