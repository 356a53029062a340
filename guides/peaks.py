"""Where in images most is bright, as seen through windows of the size of an object."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.components.attention import Size, crop
from ..models.components.constants import constant
from .second_look import centre_of_ink

SMOOTHING = 0.2
"""Standard deviation of the filter over the side of a window: an object's ink is gathered, and that of one
that touches it is not."""

FARTHEST = 1.3
"""Centres stay within this distance from the middle of an image, whose border is at 1."""

OUTERMOST, INNER = 0.02, 0.8
"""Share of the ink that is passed over in search of where it begins, since it may be noise; and how far from
there the centre of a window is, over half the window: an object does not fill it."""

_DENSE = 256
"""Up to this length a product with a matrix is faster than a convolution on a CPU, up to six times."""


def peak_of_ink(images: Tensor, size: tuple[float, float], glimpse_size: Size, steps: int = 2) -> Tensor:
    """Centre of the window that holds most ink, in each image, `(R, 2)`, x and y in [-1, 1] and a bit more.

    The maximum of the image filtered by a normal of a fifth of the window, refined by *mean shift*: the
    window is moved to the centre of the ink in it, where its own weight makes it stay with one object
    (Comaniciu and Meer, 2002; the kernel is flat).

    Args:
        images: `(R, C, H, W)`, not negative.
        size: width and height of the window relative to those of the image.
        glimpse_size: height and width in samples of the window in which the centre is found.
        steps: of mean shift.
    """
    ink = images.mean(1)
    for axis, relative in ((-1, size[0]), (-2, size[1])):
        length = ink.shape[axis]
        ink = smooth(ink, SMOOTHING * relative * (length - 1), axis)
    height, width = ink.shape[-2:]
    best = ink.flatten(1).argmax(1)
    x, y = best % width, best.div(width, rounding_mode="floor")
    centre = torch.stack([x * (2 / max(1, width - 1)), y * (2 / max(1, height - 1))], dim=-1) - 1
    centre = centre.to(images.dtype)
    window = constant(size, images).expand_as(centre)
    for _ in range(steps):
        seen = crop(images, torch.cat([window, centre], dim=-1), glimpse_size)
        centre = (centre + window * centre_of_ink(seen)).clamp(-FARTHEST, FARTHEST)
    return centre


def edge_of_ink(
    images: Tensor, size: tuple[float, float], glimpse_size: Size, axis: int, last: bool, steps: int = 2
) -> Tensor:
    """Centre of the window that ends where the ink of an image does, at one of its four sides, `(R, 2)`.

    The window that holds most ink may lie between two objects; what is outermost belongs to one. Along the
    other axis it is moved to the centre of its ink, from where the outermost ink is.

    Args:
        images: `(R, C, H, W)`, not negative.
        size: width and height of the window relative to those of the image.
        glimpse_size: height and width in samples of the window in which the centre is found.
        axis: 0 for the left or right side, 1 for the upper or lower.
        last: whether it is the right, or lower.
        steps: of the movement along the other axis.
    """
    ink = images.mean(1)
    ink = ink.transpose(-1, -2) if axis == 0 else ink  # ink.shape = (R, along, across)
    ink = ink.flip(-2) if last else ink
    along, across = (torch.linspace(-1, 1, n, device=ink.device, dtype=ink.dtype) for n in ink.shape[-2:])
    lines = ink.sum(-1)
    passed = lines.cumsum(-1)
    least = OUTERMOST * passed[:, -1:]
    start = (passed <= least).sum(-1).clamp(max=len(along) - 1)
    outer = (ink * (passed - lines <= least).unsqueeze(-1)).sum(-2)  # up to the line where it begins
    beside = (outer * across).sum(-1) / outer.sum(-1).clamp(min=1e-6)
    inwards = along[start] + size[axis] * INNER
    centre = torch.stack([-inwards if last else inwards, beside], dim=-1)
    centre = centre if axis == 0 else centre.flip(-1)
    window = constant(size, images).expand_as(centre)
    free = constant((float(axis == 1), float(axis == 0)), centre)
    for _ in range(steps):
        seen = crop(images, torch.cat([window, centre], dim=-1), glimpse_size)
        centre = (centre + free * window * centre_of_ink(seen)).clamp(-FARTHEST, FARTHEST)
    return centre


def start_of_ink(
    images: Tensor, size: tuple[float, float], glimpse_size: Size, side: tuple[int, bool] | None = None
) -> Tensor:
    """Where to look first: most ink, or the outermost at a side, `axis` and `last` of `edge_of_ink`."""
    if side is None:
        return peak_of_ink(images, size, glimpse_size)
    return edge_of_ink(images, size, glimpse_size, *side)


def window_at(windows: Any, size: tuple[float, float], centre: Tensor) -> Tensor:
    """`z_where` of windows of one size around centres, `(R, D)`.

    Args:
        windows: what `z_where` means, and by how much windows grow there: `inverse` and `growth`.
        size: width and height relative to those of the image, where they grow by one.
        centre: x and y, `(R, 2)`.
    """
    sizes = windows.growth(centre[..., 1:]) * constant(size, centre)
    where: Tensor = windows.inverse(torch.cat([sizes, centre], dim=-1))
    return where


def smooth(values: Tensor, scale: float, axis: int) -> Tensor:
    """Convolve with a normal of standard deviation `scale` along an axis, -1 or -2; zero beyond the border.

    Args:
        values: `(R, H, W)`.
        scale: in pixels.
        axis: -1 for x, -2 for y.
    """
    reach, length = max(1, math.ceil(3 * scale)), values.shape[axis]
    kernel = _normal(torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype), scale)
    if length > _DENSE:
        along_x = axis == -1
        return F.conv2d(
            values.unsqueeze(1),
            (kernel / kernel.sum()).view(1, 1, *((1, -1) if along_x else (-1, 1))),
            padding=(0, reach) if along_x else (reach, 0),
        ).squeeze(1)
    grid = torch.arange(length, device=values.device, dtype=values.dtype)
    off = grid - grid.unsqueeze(-1)
    matrix = _normal(off, scale) * (off.abs() <= reach) / kernel.sum()
    return values @ matrix if axis == -1 else matrix @ values


def _normal(offsets: Tensor, scale: float) -> Tensor:
    return (-0.5 * (offsets / max(scale, 1e-3)).square()).exp()
