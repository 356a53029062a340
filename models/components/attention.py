"""One spatial transformer for all models: `crop` reads a window of an image, `paste` draws into it.

A window is described by *coords* `(s_x, s_y, t_x, t_y)` on the last axis: the window spans
`[t - s, t + s]` on each axis of the image, whose own pixels span `[-1, 1]` from the centre of the
first pixel to the centre of the last (`align_corners=True`). So `s = 1, t = 0` is the whole image.
Models keep `z_where` in a parameterisation of their own; `air_inverse_scale` and `sqair_squash` map
it to coords.

Reference: Jaderberg et al., *Spatial Transformer Networks*, 2015, equations 1 and 5.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]
"""Height and width in pixels."""

MIN_SCALE = 1e-4
"""Windows are kept at least this wide: pasting divides by the scale."""


def clip_straight_through(x: Tensor, minimum: Any, maximum: Any = None) -> Tensor:
    """Clip from below, or from both sides, but differentiate as if nothing had been clipped.

    A plain `clamp` has no gradient where it is active, so a window that has once become too
    small could never grow again.

    Args:
        x: any shape.
        minimum: a number, or a tensor that broadcasts.
        maximum: likewise, or nothing.
    """
    clipped = x.clamp(minimum, maximum)
    return x + (clipped - x).detach() if x.requires_grad else clipped.detach()


def air_inverse_scale(z_where: Tensor) -> Tensor:
    """Coords of AIR's `z_where = (s, x, y)`, which parametrises the *inverse* transform.

    The object's side is `1 / s` of the image's, so `s > 1`, and its centre is `(-x / s, -y / s)`
    (Eslami et al., *Attend, Infer, Repeat*, 2016, as implemented by its successors). Their division
    is unguarded; here the relative side `1 / s` is that of `s` clipped below at 0.01, with a
    straight-through gradient, because a scale that crosses zero would mirror the object.

    Args:
        z_where: `(..., 3)`.

    Returns:
        Coords `(..., 4)` with `s_x = s_y`.
    """
    inverse, shift = z_where.split([1, 2], dim=-1)
    scale = clip_straight_through(inverse, 1e-2).reciprocal()
    return torch.cat([scale, scale, -shift * scale], dim=-1)


def coords_to_air(coords: Tensor) -> Tensor:
    """The inverse of `air_inverse_scale` for square windows: coords `(..., 4)` to `(s, x, y)`.

    The two scales are averaged, since AIR's windows have the aspect ratio of the image.
    """
    inverse = 2.0 / (coords[..., :1] + coords[..., 1:2])
    return torch.cat([inverse, -coords[..., 2:] * inverse], dim=-1)


def sqair_squash(z_where: Tensor, reach: float = 1.0) -> Tensor:
    """Coords of SQAIR's unbounded `z_where = (a_x, a_y, b_x, b_y)`: sigmoid scales, tanh shifts.

    Kosiorek et al., *Sequential Attend, Infer, Repeat*, 2018. The scale is clipped below at
    `MIN_SCALE` with a straight-through gradient.

    Args:
        z_where: `(..., 4)`.
        reach: greatest distance of a centre from the middle, see `windows.SquashedWindows`; 1 is published.
    """
    scale = clip_straight_through(z_where[..., :2].sigmoid(), MIN_SCALE)
    return torch.cat([scale, reach * (z_where[..., 2:] / reach).tanh()], dim=-1)


def interpolation_matrix(positions: Tensor, length: int) -> Tensor:
    """Weights of linear interpolation with implicit zeros outside, as a matrix.

    Row `j` holds the weights `max(0, 1 - |position_j - p|)` with which position `j` reads the
    pixels `p = 0 .. length - 1`. A position up to one pixel outside still has its partial weight.
    Only the weights of two neighbours can be positive, so only those are computed.

    Args:
        positions: `(..., M)` in pixels, not normalised.
        length: number of pixels that are read.

    Returns:
        `(..., M, length)`.
    """
    left = positions.detach().nan_to_num(0.0).floor().clamp(0, max(length - 2, 0))
    pair = torch.arange(min(length, 2), device=positions.device, dtype=positions.dtype)
    pixels = left.unsqueeze(-1) + pair
    weights = F.relu(1 - (positions.unsqueeze(-1) - pixels).abs())
    return positions.new_zeros(*positions.shape, length).scatter(-1, pixels.long(), weights)


def _unit_grid(length: int, like: Tensor) -> Tensor:
    """Normalised positions of `length` pixel centres; a single pixel sits in the middle."""
    if length == 1:
        return like.new_zeros(1)
    return torch.linspace(-1, 1, length, device=like.device, dtype=like.dtype)


def _to_pixels(normalised: Tensor, length: int) -> Tensor:
    return (normalised + 1) * ((length - 1) / 2)


def crop(images: Tensor, coords: Tensor, size: Size) -> Tensor:
    """Read the windows `coords` of `images` by bilinear interpolation, zero outside.

    Glimpse position `u` in `[-1, 1]` reads the image at `s u + t` on each axis. Several windows of
    one image cost no copy of the image.

    Args:
        images: `(B, C, H, W)`.
        coords: `(..., B, 4)`; leading axes are several windows of the same image (particles, slots).
        size: height and width of the glimpse in pixels.

    Returns:
        Glimpses `(..., B, C, *size)`.

    Raises:
        ValueError: if the shapes do not agree.
    """
    if images.dim() != 4 or coords.shape[-1:] != (4,) or coords.shape[-2:-1] != images.shape[:1]:
        raise ValueError(
            "`crop` expects `images` of shape (B, C, H, W) and `coords` of shape (..., B, 4), "
            f"but got {tuple(images.shape)} and {tuple(coords.shape)}."
        )
    height, width = size
    batch, channels = images.shape[:2]
    windows = coords.reshape(-1, batch, 4).transpose(0, 1)  # windows.shape = (B, M, 4)
    count = windows.shape[1]
    s_x, s_y, t_x, t_y = windows.split(1, dim=-1)
    xs = s_x * _unit_grid(width, coords) + t_x  # xs.shape = (B, M, w)
    ys = s_y * _unit_grid(height, coords) + t_y
    grid = torch.stack(
        [
            xs.unsqueeze(-2).expand(batch, count, height, width),
            ys.unsqueeze(-1).expand(batch, count, height, width),
        ],
        dim=-1,
    )
    glimpses = F.grid_sample(
        images, grid.reshape(batch, count * height, width, 2), padding_mode="zeros", align_corners=True
    )
    glimpses = glimpses.reshape(batch, channels, count, height, width).permute(2, 0, 1, 3, 4)
    return glimpses.reshape(*coords.shape[:-1], channels, height, width)


def paste(glimpses: Tensor, coords: Tensor, size: Size) -> Tensor:
    """Draw `glimpses` into the windows `coords` of an empty image.

    Image position `x` reads the glimpse at `(x - t) / s`, zero outside the window. The transform
    has no rotation, so it is separable: two small matrix products, which are several times faster
    than a general resampler and deterministic on every device.

    Args:
        glimpses: `(..., C, h, w)`.
        coords: `(..., 4)` with the same leading axes.
        size: height and width of the image in pixels.

    Returns:
        Images `(..., C, *size)`.

    Raises:
        ValueError: if the shapes do not agree.
    """
    if glimpses.dim() < 3 or coords.shape != (*glimpses.shape[:-3], 4):
        raise ValueError(
            "`paste` expects `glimpses` of shape (..., C, h, w) and `coords` of shape (..., 4) with equal "
            f"leading axes, but got {tuple(glimpses.shape)} and {tuple(coords.shape)}."
        )
    height, width = glimpses.shape[-2:]
    rows, columns = paste_matrices(coords, (height, width), size)
    return rows.unsqueeze(-3) @ glimpses @ columns.unsqueeze(-3).transpose(-1, -2)


def paste_matrices(coords: Tensor, glimpse_size: Size, size: Size) -> tuple[Tensor, Tensor]:
    """The two matrices of `paste`: `image = rows @ glimpse @ columns^T`.

    Args:
        coords: `(..., 4)`.
        glimpse_size: height h and width w of the glimpses.
        size: height H and width W of the image.

    Returns:
        rows `(..., H, h)` and columns `(..., W, w)`.
    """
    s_x, s_y, t_x, t_y = coords.unsqueeze(-1).unbind(-2)
    xs = _to_pixels((_unit_grid(size[1], coords) - t_x) / s_x, glimpse_size[1])
    ys = _to_pixels((_unit_grid(size[0], coords) - t_y) / s_y, glimpse_size[0])
    return interpolation_matrix(ys, glimpse_size[0]), interpolation_matrix(xs, glimpse_size[1])
