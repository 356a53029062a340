"""The windows of the Gaussian read, and how RATM and HART say where they are.

A window is the triple `(g, delta, sigma)`, in pixels, see `gaussian_read`. Its positions count from the
*centre* of the first pixel, those of boxes from the border of the image, as everywhere: half a pixel more. A
window's box goes from its first to its last sample, `(R - 1) delta` wide, without the skirts of the
Gaussians. x comes before y.

Kahou, Michalski & Memisevic, *RATM: Recurrent Attentive Tracking Model*, 2017; Kosiorek, Bewley & Posner,
*Hierarchical Attentive Recurrent Tracking* (HART), 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .attention import Size, clip_straight_through
from .constants import constant

MIN_SIGMA = 0.3
"""Windows are kept at least this wide, in pixels: narrower filters read the nearest pixel, or nothing between
two, so that a position has no gradient."""

MIN_STRIDE = 0.05
"""RATM's strides are kept at least this long, in pixels: its window could not grow again from a point."""

SigmaRule = Callable[[Tensor], Tensor]
"""Width of the Gaussians as a function of the stride, both `(..., 2)` in pixels."""

_Pair = tuple[float, float]


class GaussianWindow(NamedTuple):
    """A grid of Gaussian filters, in pixels, x before y."""

    centre: Tensor
    """Middle of the grid g, `(..., 2)`; 0 is the centre of the first pixel."""
    stride: Tensor
    """Distance delta of neighbouring samples, `(..., 2)`; a negative one mirrors the glimpse."""
    sigma: Tensor
    """Standard deviation of the Gaussians, `(..., 2)`, positive."""

    def axes(self) -> tuple[GaussianWindow, GaussianWindow]:
        """The windows of x and of y, with fields `(...)`."""
        (g_x, g_y), (delta_x, delta_y), (sigma_x, sigma_y) = (field.unbind(-1) for field in self)
        return GaussianWindow(g_x, delta_x, sigma_x), GaussianWindow(g_y, delta_y, sigma_y)


def window_to_boxes(window: GaussianWindow, size: Size) -> Tensor:
    """The boxes from the first to the last sample of windows.

    Args:
        window: fields `(..., 2)`.
        size: height and width of the glimpse.

    Returns:
        Boxes `(..., 4)`, `(left, top, width, height)`, see `boxes`.
    """
    extent = _times(window.stride, _gaps(size))
    return torch.cat([window.centre + 0.5 - extent / 2, extent], dim=-1)


def boxes_to_window(boxes: Tensor, size: Size, sigma: SigmaRule) -> GaussianWindow:
    """The windows whose first and last samples lie on the borders of boxes: inverse of `window_to_boxes`.

    Args:
        boxes: `(..., 4)`, `(left, top, width, height)` in pixels.
        size: height and width of the glimpse.
        sigma: width of the Gaussians, given the stride: `smooth_knee_sigma`, a `PolynomialSigma`, ...

    Raises:
        ValueError: if the glimpse has a single row or column.
    """
    corner, extent = boxes.split(2, dim=-1)
    stride = _times(extent, _reciprocals(_gaps(size)))
    return GaussianWindow(corner + extent / 2 - 0.5, stride, sigma(stride))


def hart_boxes(attention: Tensor, size: Size) -> Tensor:
    """The boxes of HART's attention vectors `a = (a_x, a_y, a_w, a_h)`; `boxes_to_window` makes them windows.

        left = a_x W,   top = a_y H,   width = a_w (W - 1),   height = a_h (H - 1)

    The authors' program has y before x.

    Args:
        attention: `(..., 4)`.
        size: height H and width W of the image.

    Returns:
        Boxes `(..., 4)`; not clipped, so that a size can be negative.
    """
    corner, extent = attention.split(2, dim=-1)
    return torch.cat([_times(corner, _lengths(size)), _times(extent, _gaps(size))], dim=-1)


def ratm_window(parameters: Tensor, size: Size, glimpse_size: Size) -> GaussianWindow:
    """RATM's window from the outputs of its network, as in the paper; A is the side of the image.

        g = A (g' + 1) / 2 - 1/2,   delta = (A - 1) / (R - 1) |delta'|,   sigma = |sigma'|

    The paper's g is a fraction, to be multiplied by A; 0 and 1 are taken to be the image's borders, so that
    `g' = 0` is its middle. Magnitudes and not exponentials, under which the window collapses on a pixel.
    Departure: strides are clipped below at `MIN_STRIDE` and widths at `MIN_SIGMA`, with straight-through
    gradients.

    Args:
        parameters: `(g'_x, g'_y, delta'_x, delta'_y, sigma'_x, sigma'_y)`, `(..., 6)`.
        size: height and width of the image.
        glimpse_size: height and width of the glimpse, at least 2 x 2.

    Returns:
        Windows with fields `(..., 2)`.
    """
    centre, stride, sigma = parameters.split(2, dim=-1)
    return GaussianWindow(
        _times(centre + 1, _lengths(size)) / 2 - 0.5,
        clip_straight_through(_times(stride.abs(), _ratios(size, glimpse_size)), MIN_STRIDE),
        clip_straight_through(sigma.abs(), MIN_SIGMA),
    )


def window_within_image(window: GaussianWindow, size: Size, glimpse_size: Size) -> GaussianWindow:
    """The nearest window whose middle is in the image and whose samples span no more than the image.

    A window that leaves the image, or grows without bounds, sees nothing that could bring it back. Gradients
    pass straight through.

    Args:
        window: fields `(..., 2)`.
        size: height and width of the image.
        glimpse_size: height and width of the glimpse, at least 2 x 2.
    """
    centre, stride, sigma = window
    borders = constant((size[1], size[0]), centre) - 0.5
    widest = constant(_ratios(size, glimpse_size), centre)
    return GaussianWindow(
        centre + (centre.clamp(min=-0.5).minimum(borders) - centre).detach(),
        stride + (stride.clamp(min=-widest, max=widest) - stride).detach(),
        sigma + (sigma.minimum(widest) - sigma).detach(),
    )


def ratm_parameters(window: GaussianWindow, size: Size, glimpse_size: Size) -> Tensor:
    """The parameters of a window: the inverse of `ratm_window`, for a first window that is learned.

    Args:
        window: fields `(..., 2)`, positive strides.
        size: height and width of the image.
        glimpse_size: height and width of the glimpse, at least 2 x 2.

    Returns:
        `(..., 6)`.
    """
    centre = _times(2 * window.centre + 1, _reciprocals(_lengths(size))) - 1
    stride = _times(window.stride, _reciprocals(_ratios(size, glimpse_size)))
    return torch.cat([centre, stride, window.sigma], dim=-1)


def ratm_kth_window(
    parameters: Tensor, size: Size, glimpse_size: Size, released_quirks: bool = False
) -> GaussianWindow:
    """RATM's window from the outputs of its network, as in the authors' program for KTH.

        g = A p_g - 1/2,   delta = (A - 1) / (R - 1) |p_delta|,   sigma = |p_sigma| / 2

    That program divides `A - 1` by `R - 1` as integers, and its grid lies a stride too far left and up. Under
    both, the window of a true box (`ratm_kth_parameters`) overlaps it by only 0.76 at 160 x 120 pixels.

    Args:
        parameters: `(..., 6)`, pairs as in `ratm_window`; the program's seventh, an intensity, has no effect.
        size: height and width of the image.
        glimpse_size: height and width of the glimpse, at least 2 x 2.
        released_quirks: do as the program does.

    Returns:
        Windows with fields `(..., 2)`, clipped as in `ratm_window`.
    """
    centre, stride, sigma = parameters.split(2, dim=-1)
    ratios = _ratios(size, glimpse_size)
    if released_quirks:
        ratios = float(int(ratios[0])), float(int(ratios[1]))
    stride = clip_straight_through(_times(stride.abs(), ratios), MIN_STRIDE)
    centre = _times(centre, _lengths(size)) - 0.5
    return GaussianWindow(
        centre - stride if released_quirks else centre,
        stride,
        clip_straight_through(sigma.abs() / 2, MIN_SIGMA),
    )


def ratm_kth_parameters(boxes: Tensor, size: Size, glimpse_size: Size, enlargement: float = 1.5) -> Tensor:
    """The parameters from which RATM begins on KTH: a window around a box, as `ratm_kth_window` takes it.

        p_g = (left + width / 2) / W,   p_delta = 1.5 width / W,   p_sigma = width / w,   and so for y

    The window is 1.5 times as large as the box, up to a factor of `(W - 1) / W`, because the features were
    trained on pictures of people with some room around them.

    Args:
        boxes: `(..., 4)`.
        size: height H and width W of the image.
        glimpse_size: height h and width w of the glimpse.
        enlargement: the 1.5 of the strides.

    Returns:
        `(..., 6)`.
    """
    corner, extent = boxes.split(2, dim=-1)
    fractions = _reciprocals(_lengths(size))
    parts = (
        _times(corner + extent / 2, fractions),
        _times(enlargement * extent, fractions),
        _times(extent, _reciprocals(_lengths(glimpse_size))),
    )
    return torch.cat(parts, dim=-1)


def smooth_knee_sigma(stride: Tensor) -> Tensor:
    """The width that reads like bicubic interpolation: `(0.405^8 + (0.357 delta)^8)^(1/8)` on each axis.

    Measured as the width at which a Gaussian read has the least squared difference from bicubic resampling
    with anti-aliasing: 0.405 pixels when enlarging, `0.357 delta` when shrinking, a little more in between.
    Within about 2 % of it for strides from 0.1 to 24, and sound outside.
    """
    return (0.405**8 + (0.357 * stride) ** 8) ** 0.125


class PolynomialSigma:
    """The width as a polynomial of the stride, fitted to `smooth_knee_sigma`, for each axis alone.

    HART's paper takes the width from a linear regression on powers of the stride up to the fourth, fitted
    beforehand. This fit is in least squares at the Chebyshev nodes of the range; with the defaults its error
    is at most 0.07 pixels. Strides are clipped to the range, and widths below at 0.4 pixels.

    Args:
        degree: of the polynomial.
        strides: smallest and largest stride, in pixels.
    """

    def __init__(self, degree: int = 4, strides: tuple[float, float] = (0.1, 12.0)) -> None:
        self.strides = strides
        low, high = strides
        angles = (torch.arange(50, dtype=torch.float64) + 0.5) * (torch.pi / 50)
        nodes = (low + high) / 2 + (high - low) / 2 * angles.cos()
        powers = torch.linalg.vander(nodes, N=degree + 1)
        # Python numbers serve every dtype and device.
        self.coefficients: list[float] = torch.linalg.lstsq(
            powers, smooth_knee_sigma(nodes)
        ).solution.tolist()
        """Of the powers 0, 1, ..."""

    def __call__(self, stride: Tensor) -> Tensor:
        """Widths of strides, both in pixels."""
        stride = stride.clamp(*self.strides)
        sigma = torch.zeros_like(stride)
        for coefficient in reversed(self.coefficients):
            sigma = sigma * stride + coefficient
        return sigma.clamp(min=0.4)


def released_sigma(stride: Tensor) -> Tensor:
    """The width in HART's published program: nearly constant, so that it does not suppress aliasing.

        sigma_x = 0.9230 - 0.0109 delta_x - 0.0018 delta_y
        sigma_y = 0.6122 + 0.0001 delta_x - 0.0100 delta_y

    A plane that equals the program's polynomial of both strides to 0.003 pixels for `delta_x <= 12` and
    `delta_y <= 4`, the strides that occur in images of 621 x 187 pixels; clipped below at `MIN_SIGMA`. That
    program also has its first sample 1.00 pixels right of and 0.51 below where `boxes_to_window` puts it.
    """
    x, y = stride.unbind(-1)
    sigma = torch.stack([0.9230 - 0.0109 * x - 0.0018 * y, 0.6122 + 0.0001 * x - 0.0100 * y], dim=-1)
    return sigma.clamp(min=MIN_SIGMA)


def _lengths(size: Size) -> _Pair:
    return float(size[1]), float(size[0])


def _gaps(size: Size) -> _Pair:
    """Distances from the first to the last pixel, or sample, of each axis."""
    if min(size) < 2:
        raise ValueError(f"`size` must be at least 2 x 2 for a window to span a box, but got {tuple(size)}.")
    return size[1] - 1.0, size[0] - 1.0


def _ratios(size: Size, glimpse_size: Size) -> _Pair:
    """`(A - 1) / (R - 1)` of each axis: the stride at which the grid spans the image."""
    (width, height), (columns, rows) = _gaps(size), _gaps(glimpse_size)
    return width / columns, height / rows


def _reciprocals(pair: _Pair) -> _Pair:
    return 1 / pair[0], 1 / pair[1]


def _times(pairs: Tensor, factors: _Pair) -> Tensor:
    """Multiply the last axis `(x, y)` by two numbers, without copying them to the device first."""
    return torch.stack([pairs[..., 0] * factors[0], pairs[..., 1] * factors[1]], dim=-1)
