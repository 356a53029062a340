"""Trackers that need no model: the first true box for ever, and two oracles told the boxes before."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.components.boxes import middles

__all__ = ["constant_velocity_boxes", "previous_boxes", "static_boxes"]


def static_boxes(boxes: Tensor) -> Tensor:
    """The first of true boxes `(B, T, 4)`, for ever."""
    return boxes[:, :1].expand_as(boxes)


def previous_boxes(boxes: Tensor, present: Tensor) -> Tensor:
    """The true box before: that of the nearest earlier frame in which the object is there.

    In the first frame it is the box itself.

    Args:
        boxes: true ones, `(B, T, 4)`.
        present: in which frames the object is there, `(B, T)`, boolean; True in the first.
    """
    return _at(boxes, _earlier(present))


def constant_velocity_boxes(boxes: Tensor, present: Tensor) -> Tensor:
    """The two true boxes before, continued: the middle goes on straight, the size is the last one.

    They are those of the two nearest earlier frames in which the object is there, however far apart. Where
    there is one only, it stays.

    Args:
        boxes: true ones, `(B, T, 4)`.
        present: in which frames the object is there, `(B, T)`, boolean; True in the first.
    """
    last = _earlier(present)
    before = last.gather(1, last)
    one, two = _at(boxes, before), _at(boxes, last)
    time = torch.arange(boxes.shape[1], device=boxes.device)
    steps = ((time - last) / (last - before).clamp(min=1)).unsqueeze(-1).to(boxes.dtype)
    middle = middles(two) + (middles(two) - middles(one)) * steps
    return torch.cat([middle - two[..., 2:] / 2, two[..., 2:]], dim=-1)


def _earlier(present: Tensor) -> Tensor:
    """The nearest earlier frame in which the object is there, `(B, T)`; 0 for the first."""
    time = torch.arange(present.shape[1], device=present.device)
    latest = torch.where(present, time, 0).cummax(dim=1).values
    return torch.cat([latest[:, :1], latest[:, :-1]], dim=1)


def _at(boxes: Tensor, frames: Tensor) -> Tensor:
    return boxes.gather(1, frames.unsqueeze(-1).expand_as(boxes))
