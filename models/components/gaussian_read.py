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

`gaussian_windows` says what a window `(g, delta, sigma)` is, and how the trackers make it.

Outside the image a sample repeats the nearest pixels while `k` of the nearest is much larger than `epsilon`,
and fades to 0 beyond: with `epsilon = 1e-8` over the distances from 5 to 7 sigma.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import Size, clip_straight_through
from .gaussian_windows import GaussianWindow
from .precision import without_autocast

HART_EPSILON = 1e-8
RATM_EPSILON = 1e-4


_DIVISIBLE_SIGMA = 1e-3
"""What `gaussian_filters` divides by at least."""

_LEAST_WEIGHT = 1e-22
"""Weights that are below it, whatever the others are, are 0."""

_WORTH_CUTTING = 2**16
"""Values of an image that must be out of its windows' reach for the others to be cut out before the read: to
find and copy a part takes up to the time that so many take in the product."""


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
    samples = torch.arange(-(count - 1) / 2, count / 2, device=centre.device, dtype=centre.dtype)
    pixels = torch.arange(length, device=centre.device, dtype=centre.dtype)
    centre, stride, sigma = (field[..., None, None] for field in (centre, stride, sigma))
    sigma = clip_straight_through(sigma, _DIVISIBLE_SIGMA)
    positions = torch.addcmul(centre, stride, samples[:, None])  # positions.shape = (..., R, 1)
    # Many processors take twenty times as long for a product with numbers that have nearly underflown.
    least = math.log(epsilon * _LEAST_WEIGHT)
    logits = F.threshold(-0.5 * ((pixels - positions) / sigma).square(), least, -math.inf)
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
    with without_autocast(images.device):
        window = GaussianWindow(*(field.to(dtype) for field in window))
        part = _part_within_reach(images, window, size, epsilon)
        if part is not None:
            height, width = part.size
            window = window._replace(centre=window.centre - window.centre.new_tensor(part.corners))
        # rows.shape = (..., B, h, H), columns.shape = (..., B, w, W)
        if size[0] == size[1] and height == width:
            columns, rows = gaussian_filters(*window, size[0], height, epsilon).unbind(-3)
        else:
            x, y = window.axes()
            rows = gaussian_filters(*y, size[0], height, epsilon)
            columns = gaussian_filters(*x, size[1], width, epsilon)
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
