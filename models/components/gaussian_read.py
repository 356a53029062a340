"""The Gaussian read: a glimpse of an image through a grid of Gaussian filters, as RATM and HART take it.

Sample `r = 0 .. R - 1` of one axis is a mean over the pixels `c`, weighted by a Gaussian:

    mu_r   = g + delta (r - (R - 1) / 2)
    k_rc   = exp(-(c - mu_r)^2 / (2 sigma^2))
    F_rc   = k_rc / (sum_c' k_rc' + epsilon)

and the glimpse of image X is `F_y X F_x^T`, in every channel with the same filters (Gregor et al., *DRAW: A
Recurrent Neural Network For Image Generation*, 2015, equations 19, 20 and 25 to 27). DRAW has one stride and
one width for both axes. Here each axis has its own, as in Kahou, Michalski & Memisevic, *RATM: Recurrent
Attentive Tracking Model*, 2017, and Kosiorek, Bewley & Posner, *Hierarchical Attentive Recurrent Tracking*
(HART), 2017.

A window is the triple `(g, delta, sigma)`, in pixels. Its positions count from the *centre* of the first
pixel, those of boxes from the border of the image, as everywhere: half a pixel more. A window's box goes from
its first to its last sample, `(R - 1) delta` wide, without the skirts of the Gaussians. x comes before y.

Outside the image a sample repeats the nearest pixels while `k` of the nearest is much larger than `epsilon`,
and fades to 0 beyond: with `epsilon = 1e-8` over the distances from 5 to 7 sigma.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import Size, clip_straight_through

HART_EPSILON = 1e-8
RATM_EPSILON = 1e-4

MIN_SIGMA = 0.3
"""Windows are kept at least this wide, in pixels: narrower filters read the nearest pixel, or nothing between
two, so that a position has no gradient."""

MIN_STRIDE = 0.05
"""RATM's strides are kept at least this long, in pixels: its window could not grow again from a point."""

_DIVISIBLE_SIGMA = 1e-3
"""What `gaussian_filters` divides by at least."""

_WORTH_CUTTING = 2**14
"""Values of an image that must be out of its windows' reach for the others to be cut out before the read: to
find and copy a part takes up to the time that so many take in the product."""

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


def gaussian_filters(
    centre: Tensor, stride: Tensor, sigma: Tensor, count: int, length: int, epsilon: float = HART_EPSILON
) -> Tensor:
    """The filters F of one axis.

    Values and gradients are finite for all windows that are finite, far from the image too, where both are 0.
    Widths below 0.001 pixels count as that, with a straight-through gradient.

    Args:
        centre: g, `(...)`.
        stride: delta, `(...)`.
        sigma: `(...)`.
        count: number of samples R.
        length: number of pixels.
        epsilon: positive; what keeps the weights of samples outside the image finite.

    Returns:
        `(..., count, length)`.
    """
    samples = torch.arange(count, device=centre.device, dtype=centre.dtype) - (count - 1) / 2
    pixels = torch.arange(length, device=centre.device, dtype=centre.dtype)
    positions = centre.unsqueeze(-1) + stride.unsqueeze(-1) * samples  # positions.shape = (..., R)
    sigma = clip_straight_through(sigma, _DIVISIBLE_SIGMA)[..., None, None]
    logits = -0.5 * ((pixels - positions.unsqueeze(-1)) / sigma).square()
    # Epsilon is the weight of one more pixel, which is black. Nearly all exponentials underflow, which takes
    # PyTorch's `exp` ten times as long as `softmax`.
    return F.pad(logits, (0, 1), value=math.log(epsilon)).softmax(dim=-1)[..., :-1]


class _Part(NamedTuple):
    """What is read of each image: a rectangle around all that its windows reach, as large for each image."""

    corners: list[tuple[int, int]]
    """Left and top, by image."""
    size: Size
    """Height and width."""

    def of(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Copy it from images `(B, C, H, W)`: `(B, C, *size)`."""
        height, width = self.size
        part = images.new_empty(*images.shape[:2], height, width, dtype=dtype)
        for i, (left, top) in enumerate(self.corners):
            part[i] = images[i, :, top : top + height, left : left + width]
        return part


def _part_within_reach(images: Tensor, window: GaussianWindow, size: Size, epsilon: float) -> _Part | None:
    """The part of the images outside which no pixel makes a difference; None stands for whole images.

    Where it is depends on the windows' values: a CPU knows them, but an accelerator would have to be waited
    for, and a graph that is traced must serve other values too. Images with gradients stay whole.
    """
    batch, channels, height, width = images.shape
    if channels * height * width < _WORTH_CUTTING or not window.centre.numel():
        return None
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if images.device.type != "cpu" or traced or images.requires_grad:
        return None
    # Beyond so many sigmas weights vanish in the rounding of `epsilon`, by which at least they are divided.
    sigmas = math.sqrt(-2 * (math.log(epsilon) + math.log(torch.finfo(window.centre.dtype).eps)))
    # Python takes less time for so few numbers than PyTorch. windows.shape = (B, ..., 2, 3)
    windows = torch.stack(window, dim=-1).detach().reshape(-1, batch, 2, 3).transpose(0, 1).tolist()
    columns = [_reach([x for x, _ in group], size[1], width, sigmas) for group in windows]
    rows = [_reach([y for _, y in group], size[0], height, sigmas) for group in windows]
    part_width, part_height = (1 + max(last - first for first, last in spans) for spans in (columns, rows))
    if channels * (height * width - part_height * part_width) < _WORTH_CUTTING:
        return None
    corners = [
        (min(left, width - part_width), min(top, height - part_height))
        for (left, _), (top, _) in zip(columns, rows, strict=True)
    ]
    return _Part(corners, (part_height, part_width))


def _reach(axes: list[list[float]], count: int, length: int, sigmas: float) -> tuple[int, int]:
    """The first and the last pixel of one axis of an image that windows reach.

    Args:
        axes: centre, stride and sigma of each window.
        count: number of samples.
        length: number of pixels.
        sigmas: how far Gaussians reach.
    """
    edges = []
    for centre, stride, sigma in axes:
        reach = abs(stride) * (count - 1) / 2 + sigmas * max(sigma, _DIVISIBLE_SIGMA)
        edges += [centre - reach, centre + reach]
    # In this order of arguments what is no number becomes the last pixel.
    pixels = [int(max(0.0, min(length - 1.0, edge))) for edge in edges]
    return min(pixels), max(pixels)


class _PixelsTimesFilters(torch.autograd.Function):
    """`pixels @ filters^T`, for parts of images and for images of integers.

    Autograd would keep what was cut out and converted, four bytes a pixel and time step. This keeps the
    images, which are the caller's own memory, and does it once more in the backward pass, which costs a small
    part of the product.
    """

    @staticmethod
    def forward(images: Tensor, filters: Tensor, part: _Part | None) -> Tensor:
        return _pixels(images, part, filters.dtype) @ filters.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, _Part | None], output: Tensor) -> None:
        images, _, ctx.part = inputs
        ctx.save_for_backward(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        (images,) = ctx.saved_tensors
        return None, gradient.mT @ _pixels(images, ctx.part, gradient.dtype), None


def _pixels(images: Tensor, part: _Part | None, dtype: torch.dtype) -> Tensor:
    """Rows of pixels `(B, C * H, W)`, of a part or of whole images."""
    return (images.to(dtype) if part is None else part.of(images, dtype)).flatten(1, 2)


def gaussian_read(
    images: Tensor, window: GaussianWindow, size: Size, epsilon: float = HART_EPSILON
) -> Tensor:
    """Read `window` of `images` through Gaussian filters: two products of matrices per image.

    The result has the dtype of the window, and at least single precision, under `torch.autocast` too. The
    frames of a video may stay uint8: the one that is read is converted inside, no copy of it is kept for the
    backward pass, and only the glimpse is divided by 255.

    On a CPU only the part of an image that the Gaussians reach is looked at: the cost is that of the window,
    not of the frame, and other pixels would change the glimpse by less than its rounding. On an accelerator,
    whose values are not known to the program, all pixels are looked at; as they are in small images, in
    those with gradients, and in traced graphs.

    Args:
        images: `(B, C, H, W)`, floating point of any range, or uint8, which stands for grey values in [0, 1].
        window: fields `(..., B, 2)`; leading axes are several windows of the same image.
        size: height h and width w of the glimpse.
        epsilon: see `gaussian_filters`; the models use `HART_EPSILON` and `RATM_EPSILON`.

    Returns:
        Glimpses `(..., B, C, *size)`.

    Raises:
        ValueError: if the shapes do not agree, or the images are integers other than uint8.
    """
    shape = window.centre.shape
    if (
        images.dim() != 4
        or shape[-2:] != (images.shape[0], 2)
        or any(field.shape != shape for field in window)
    ):
        raise ValueError(
            "`gaussian_read` expects `images` of shape (B, C, H, W) and three fields of `window` of shape "
            f"(..., B, 2), but got {tuple(images.shape)} and {[tuple(field.shape) for field in window]}."
        )
    if not images.is_floating_point() and images.dtype != torch.uint8:
        raise ValueError(f"`images` must be floating point or uint8, but got {images.dtype}.")
    dtype = torch.promote_types(window.centre.dtype, torch.float32)
    batch, channels, height, width = images.shape
    with torch.autocast(images.device.type, enabled=False):
        window = GaussianWindow(*(field.to(dtype) for field in window))
        part = _part_within_reach(images, window, size, epsilon)
        if part is not None:
            height, width = part.size
            window = window._replace(centre=window.centre - window.centre.new_tensor(part.corners))
        x, y = window.axes()
        rows = gaussian_filters(*y, size[0], height, epsilon)  # rows.shape = (..., B, h, H)
        columns = gaussian_filters(*x, size[1], width, epsilon)  # columns.shape = (..., B, w, W)
        # All windows of an image are one product with it. Columns come first: the cheaper order for images
        # that are wider than high.
        count = shape[:-2].numel()
        columns = columns.reshape(count, batch, size[1], width).transpose(0, 1).flatten(1, 2)
        if columns.requires_grad and (part is not None or not images.is_floating_point()):
            read = _PixelsTimesFilters.apply(images, columns, part)
        else:
            read = _pixels(images, part, dtype) @ columns.mT
        read = read.reshape(batch, channels, height, count, size[1]).permute(3, 0, 2, 1, 4)
        glimpses = rows @ read.reshape(*shape[:-1], height, channels * size[1])
        glimpses = glimpses.unflatten(-1, (channels, size[1])).transpose(-2, -3)
    return glimpses if images.is_floating_point() else glimpses / 255


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


def hart_attention(boxes: Tensor, size: Size) -> Tensor:
    """HART's attention vectors for boxes: the inverse of `hart_boxes`.

    Args:
        boxes: `(..., 4)`.
        size: height and width of the image, at least 2 x 2.
    """
    corner, extent = boxes.split(2, dim=-1)
    parts = _times(corner, _reciprocals(_lengths(size))), _times(extent, _reciprocals(_gaps(size)))
    return torch.cat(parts, dim=-1)


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
    borders = centre.new_tensor([size[1], size[0]]) - 0.5
    widest = centre.new_tensor(_ratios(size, glimpse_size))
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
