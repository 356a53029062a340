"""Boxes in pixels, and what converts coords of the spatial transformer to them.

A box is `(left, top, width, height)` on the last axis, in pixels, 0-based: pixel `i` covers
`[i, i + 1)`, so a box around the pixels `a .. b` has `left = a` and `width = b - a + 1`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .attention import Size
from .constants import constant

INK = 0.1
"""What is brighter belongs to an object, as a share of its brightest pixel: faint legs do, too."""


def _spans(size: Size, like: Tensor) -> Tensor:
    """`(W - 1, H - 1)`: the distance between the first and the last pixel centre of each axis."""
    return constant((size[1] - 1, size[0] - 1), like)


def coords_to_boxes(coords: Tensor, size: Size) -> Tensor:
    """The box that a window covers.

    A window spans pixel centres from `t - s` to `t + s`, and its box the whole of these pixels:
    `width = s (W - 1) + 1`. Hence a window over `g` aligned pixels has a box of width `g`.

    Args:
        coords: `(..., 4)`, `(s_x, s_y, t_x, t_y)`, see `attention`.
        size: height and width of the image in pixels.

    Returns:
        Boxes `(..., 4)`.
    """
    span = _spans(size, coords)
    scale, shift = coords[..., :2], coords[..., 2:]
    return torch.cat([(shift - scale + 1) * span / 2, scale * span + 1], dim=-1)


def box_within_image(boxes: Tensor, size: Size) -> Tensor:
    """The nearest box whose middle is in the image and whose sides are no longer than the image's.

    A window that leaves the image, or grows without bounds, sees nothing that could bring it back. Gradients
    pass straight through.

    Args:
        boxes: `(..., 4)`, `(left, top, width, height)` in pixels.
        size: height and width of the image.
    """
    largest = constant((size[1], size[0]), boxes)
    middle = middles(boxes)
    extent = boxes[..., 2:].minimum(largest)
    inside = torch.cat([middle.clamp(min=0).minimum(largest) - extent / 2, extent], dim=-1)
    return boxes + (inside - boxes).detach() if boxes.requires_grad else inside


def ink_boxes(images: Tensor, threshold: float) -> Tensor:
    """The tight box around the pixels of each image that are brighter than `threshold`.

    Args:
        images: `(..., C, H, W)`; a pixel counts if any channel does.
        threshold: in the units of `images`.

    Returns:
        Boxes `(..., 4)` of the dtype of `images`; all zeros where no pixel is bright enough.
    """
    ink = (images > threshold).any(dim=-3)
    extents = []
    for axis in (-2, -1):  # over rows gives the columns with ink, and the other way round
        occupied = ink.any(dim=axis).to(torch.int8)
        first = occupied.argmax(dim=-1)
        last = occupied.shape[-1] - 1 - occupied.flip(-1).argmax(dim=-1)
        extents.append((first, last - first + 1))
    (left, width), (top, height) = extents
    boxes = torch.stack([left, top, width, height], dim=-1).to(images.dtype)
    return boxes * ink.flatten(-2).any(dim=-1, keepdim=True)


def object_boxes(objects: Tensor, ink: float = INK) -> Tensor:
    """Tight boxes around drawn objects: around what is brighter than a share of the brightest pixel.

    The attention window is no fair box of an object: it has a margin, and the aspect ratio of the image.

    Args:
        objects: each object alone at its place, `(..., C, H, W)`.
        ink: that share, by default a tenth.

    Returns:
        `(..., 4)`, `(left, top, width, height)` in pixels.
    """
    brightest = objects.flatten(-3).amax(-1)[..., None, None, None]
    return ink_boxes(objects / brightest.clamp(min=1e-6), ink)


def boxes_inside(boxes: Tensor, size: Size) -> Tensor:
    """What is inside an image of boxes `(..., 4)`; all zeros where nothing is.

    Args:
        boxes: `(left, top, width, height)` in pixels.
        size: height and width of the image.
    """
    border = constant((size[1], size[0]), boxes)
    start = boxes[..., :2].clamp(min=0)
    extent = torch.minimum(boxes[..., :2] + boxes[..., 2:], border) - start
    inside = (extent > 0).all(-1, keepdim=True)
    return torch.where(inside, torch.cat([start, extent], dim=-1), 0.0)


def middles(boxes: Tensor) -> Tensor:
    """The middles `(..., 2)` of boxes `(..., 4)`, x before y."""
    corner, extent = boxes.split(2, dim=-1)
    return corner + extent / 2


def areas(boxes: Tensor) -> Tensor:
    """Areas `(...)` of boxes `(..., 4)`, in square pixels."""
    # Not `prod`, whose backward pass reads from the device whether a factor is 0.
    return boxes[..., 2] * boxes[..., 3]


def intersection_areas(first: Tensor, second: Tensor) -> Tensor:
    """Areas `(...)` that boxes `(..., 4)` share, elementwise with broadcasting; sizes are not negative."""
    start = torch.maximum(first[..., :2], second[..., :2])
    end = torch.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    shared = (end - start).clamp(min=0)
    return shared[..., 0] * shared[..., 1]


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes, elementwise with broadcasting.

    Two boxes without area have an intersection over union of 0, and a finite gradient.

    Args:
        first: `(..., 4)`, `(left, top, width, height)`; sizes must not be negative.
        second: `(..., 4)`.

    Returns:
        `(...)` in `[0, 1]`.
    """
    intersection = intersection_areas(first, second)
    return _ratio(intersection, areas(first) + areas(second) - intersection)


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised intersection over union: less than 0 for boxes that are far apart, and with a gradient.

        GIoU = IoU - (C - U) / C,   U the area of the union, C that of the smallest box around both

    (Rezatofighi et al., *Generalized Intersection over Union*, 2019.)

    Args:
        first: `(..., 4)`, `(left, top, width, height)`; sizes must not be negative.
        second: `(..., 4)`.

    Returns:
        `(...)` in `(-1, 1]`; 0 where no box has an area.
    """
    intersection = intersection_areas(first, second)
    union = areas(first) + areas(second) - intersection
    start = torch.minimum(first[..., :2], second[..., :2])
    end = torch.maximum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    extent = end - start
    around = extent[..., 0] * extent[..., 1]
    return _ratio(intersection, union) - _ratio(around - union, around)


def cell_coverage(windows: Tensor, boxes: Tensor, grid: Size) -> Tensor:
    """The share of each cell that a box covers, for a grid of equal cells over a window.

    The product of two overlaps of intervals; nothing is drawn.

    Args:
        windows: `(..., 4)`, `(left, top, width, height)`, with an area.
        boxes: `(..., 4)`.
        grid: number of rows and columns.

    Returns:
        `(..., *grid)` in [0, 1].
    """
    shares = []
    for axis, count in enumerate((grid[1], grid[0])):
        side = windows[..., 2 + axis, None] / count
        start = windows[..., axis, None] + side * torch.arange(
            count, device=windows.device, dtype=windows.dtype
        )
        box_start = boxes[..., axis, None]
        end = torch.minimum(start + side, box_start + boxes[..., 2 + axis, None])
        shares.append(((end - torch.maximum(start, box_start)) / side).clamp(0, 1))
    return shares[1].unsqueeze(-1) * shares[0].unsqueeze(-2)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """`part / whole`, and 0 where the whole is 0; gradients are finite."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)
