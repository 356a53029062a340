"""What the nearest neighbour tells of actions as silhouettes: a floor for whatever looks closer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["nearest_neighbours", "silhouette_features"]

_SIDE = 16
_SMALLEST = 1e-6


def silhouette_features(video: Tensor, boxes: Tensor) -> Tensor:
    """Shape and motion of one silhouette, whatever its place and size.

    Each frame's silhouette is cut out by a square about its box and averaged to 16 x 16 pixels. What is told
    are, over the frames, the mean, the mean absolute difference of one to the next, and the standard
    deviation, each scaled to length 1; and the mean distance from one to the next of the boxes' middles,
    across and down, in tenths of the mean height.

    Args:
        video: `(T, H, W)` in [0, 1], at least two frames, each with a silhouette.
        boxes: around it, `(T, 4)`, `(left, top, width, height)` in pixels.

    Returns:
        `(770,)`.

    Raises:
        ValueError: if shapes do not agree, or there are fewer than two frames.
    """
    if video.dim() != 3 or len(video) < 2 or boxes.shape != (len(video), 4):
        raise ValueError(
            "`video` must have shape (T, H, W), T at least 2, and `boxes` (T, 4), "
            f"but got {tuple(video.shape)} and {tuple(boxes.shape)}."
        )
    shapes = torch.stack([_centred(frame, box) for frame, box in zip(video, boxes, strict=True)])
    parts = [shapes.mean(0), shapes.diff(dim=0).abs().mean(0), shapes.std(0, correction=0)]
    middles = boxes[:, :2] + boxes[:, 2:] / 2
    speed = 10 * middles.diff(dim=0).abs().mean(0) / boxes[:, 3].mean()
    units = [part.flatten() / part.norm().clamp(min=_SMALLEST) for part in parts]
    return torch.cat([*units, speed])


def nearest_neighbours(features: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """The label of the nearest of all that are of another group.

    Args:
        features: `(M, F)`.
        labels: `(M,)`.
        groups: `(M,)`.

    Returns:
        `(M,)`.

    Raises:
        ValueError: if all are of one group.
    """
    if bool((groups == groups[:1]).all()):
        raise ValueError("`groups` must be at least two: neighbours are of another one.")
    distances = torch.cdist(features.double(), features.double())
    same = groups[:, None] == groups
    return labels[distances.masked_fill(same, torch.inf).argmin(dim=1)]


def _centred(frame: Tensor, box: Tensor) -> Tensor:
    """The square about a box, averaged to 16 x 16 pixels."""
    left, top, width, height = box.tolist()
    side = max(round(max(width, height)), 1)
    row, column = round(top + (height - side) / 2), round(left + (width - side) / 2)
    rows, columns = frame.shape
    padded = F.pad(
        frame, (max(0, -column), max(0, column + side - columns), max(0, -row), max(0, row + side - rows))
    )
    row, column = max(row, 0), max(column, 0)
    return F.adaptive_avg_pool2d(padded[None, row : row + side, column : column + side], _SIDE)[0]
