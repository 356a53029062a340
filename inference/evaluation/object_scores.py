"""How well a found object fits what is seen: the score of a detection where a model draws its objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...models.components.slots import TrackedSlots
from .tracking_metrics import Tracks

__all__ = ["explained_shares", "scored_tracks"]


def explained_shares(images: Tensor, canvases: Tensor, objects: Tensor, boxes: Tensor) -> Tensor:
    r"""The share that an object explains of what is left unexplained in its box without it.

    $$1 - \frac{\sum (x - c)^2}{\sum (x - c_{-i})^2}$$

    with the image x, the canvas c, and the canvas without the object, summed over the pixels of its box. It
    is 1 for an object that is drawn as it is, and 0 for one that is not there, or that others explain as
    well; what is negative counts as 0. With Gaussian pixels the difference of the two sums is twice the
    variance times the log-likelihood ratio of having the object or not.

    Args:
        images: `(..., C, H, W)`.
        canvases: what the model draws, the same shape.
        objects: what each object adds to it, `(..., N, C, H, W)`.
        boxes: theirs, `(..., N, 4)` in pixels.

    Returns:
        `(..., N)` in [0, 1].
    """
    rest = (images - canvases).unsqueeze(-4)  # rest.shape = (..., 1, C, H, W)
    within = _within(boxes, images.shape[-2:]).unsqueeze(-3)
    with_object = (rest.square() * within).sum((-3, -2, -1))
    without = ((rest + objects).square() * within).sum((-3, -2, -1))
    return torch.where(without > 0, 1 - with_object / without.clamp(min=1e-12), 0.0).clamp(0, 1)


def scored_tracks(
    frames: Sequence[Any],
    video: Tensor,
    draw_objects: Callable[[TrackedSlots], Tensor],
    find_boxes: Callable[[TrackedSlots], Tensor],
) -> tuple[Tracks, Tensor]:
    """The boxes around drawn objects, see `videos.found_tracks`, and their scores.

    Args:
        frames: T of a model, with `slots` `(B, N, .)` and `canvas` `(B, C, H, W)`.
        video: what they are of, `(B, T, C, H, W)`.
        draw_objects: what each object adds to the canvas, see `explained_shares`.
        find_boxes: boxes around them, `(B, N, 4)`.

    Returns:
        tracks, and `explained_shares` `(B, T, N)`.
    """
    boxes, scores = [], []
    for frame, image in zip(frames, video.unbind(1), strict=True):
        boxes.append(find_boxes(frame.slots))
        objects = draw_objects(frame.slots)
        scores.append(explained_shares(image, frame.canvas, objects, boxes[-1]))
    places = torch.stack(boxes, dim=1)
    present = torch.stack([frame.slots.z_pres > 0 for frame in frames], dim=1) & (places[..., 2] > 0)
    identities = torch.stack([frame.slots.identity for frame in frames], dim=1)
    return Tracks(places, present, identities), torch.stack(scores, dim=1)


def _within(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Which pixels of frames of `size` (height, width) are in boxes `(..., 4)`: `(..., H, W)`."""
    left, top, width, height = boxes[..., None, None].unbind(-3)
    ys = torch.arange(size[0], device=boxes.device)[:, None] + 0.5
    xs = torch.arange(size[1], device=boxes.device) + 0.5
    return (xs >= left) & (xs < left + width) & (ys >= top) & (ys < top + height)
