"""How well a model that has followed objects goes on without seeing them, beside a straight line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ...checks import at_least
from ...models.components.boxes import boxes_inside, iou, middles
from ...models.components.slots import TrackedSlots
from ..local_parameters import local_parameters
from .tracking_metrics import best_matches
from .videos import Program, Videos, true_tracks

__all__ = ["ContinuationReport", "evaluate_continuation", "reflected_line"]


@dataclass(frozen=True)
class ContinuationReport:
    """Mean distances, in pixels, between where objects are and where they are said to be, frames later."""

    given: int
    """Frames that were seen."""
    later: tuple[int, ...]
    """How many frames after the last one seen."""
    distance: tuple[float, ...]
    """Of one draw of the model, for each of these; NaN where it has kept no object."""
    straight: tuple[float, ...]
    """Of `reflected_line`, which is told the last two true places."""
    kept: tuple[float, ...]
    """Share of the objects that the model still has; both distances are those of these."""
    objects: int
    """Objects in sight in the last frame seen, and found there, with an overlap of one half; there in the
    frame before, too. Those that are no longer there in a later frame do not count in it.
    """


@torch.no_grad()
def evaluate_continuation(
    model: Any,
    guide: Program,
    data: Iterable[Videos],
    given: int,
    later: Sequence[int],
    find_boxes: Callable[[TrackedSlots], Tensor],
) -> ContinuationReport:
    """Follow objects for some frames, let the model go on alone, and measure how far off they are.

    Args:
        model: as `models.SQAIR`, with `generate`.
        guide: as `guides.SQAIRGuide`.
        data: batches of videos with boxes of whole objects, of at least `given + max(later)` frames; a box
            without a width, or that is not a number, says that there is no object.
        given: frames that the guide sees, at least 2.
        later: after how many more frames places are compared.
        find_boxes: boxes of whole objects, those out of sight included, `model.decoder.whole_boxes`.

    Raises:
        ValueError: if there are no videos, they are too short or have no boxes, or a number is too small.
    """
    at_least(2, given=given)
    at_least(1, later=later)
    far = max(later)
    distances: list[list[Tensor]] = [[] for _ in later]
    straight: list[list[Tensor]] = [[] for _ in later]
    kept: list[list[Tensor]] = [[] for _ in later]
    objects = 0
    with local_parameters(model, guide):
        for batch in data:
            boxes = future_boxes(batch, given + far)
            trace = poutine.trace(guide).get_trace(batch.video[:, :given])
            frames = model.generate(len(batch.video), given + far, trace, discover=False)
            last = frames[given - 1].slots
            matched = _matched(find_boxes(last), last, batch, boxes, given - 1)
            matched = _existing(matched, boxes, given - 2)
            objects += len(matched)
            for n, steps in enumerate(later):
                slots, t = frames[given - 1 + steps].slots, given - 1 + steps
                there = _existing(matched, boxes, t)
                found, here = _followed(find_boxes(slots), slots, last, there)
                videos, rows = there[:, 0], there[:, 2]
                true = middles(boxes[videos, t, rows].to(found))
                size = batch.video.shape[-2], batch.video.shape[-1]
                line = reflected_line(boxes[videos, given - 2 : given, rows].to(found), steps, size)
                distances[n].append((middles(found) - true).norm(dim=-1)[here])
                straight[n].append((middles(line) - true).norm(dim=-1)[here])
                kept[n].append(here.float())
    if not distances[0]:
        raise ValueError("`data` has no videos.")
    return ContinuationReport(given, tuple(later), _means(distances), _means(straight), _means(kept), objects)


def reflected_line(boxes: Tensor, steps: int, size: tuple[int, int]) -> Tensor:
    """Where boxes are that go on with constant velocity, and turn round at the borders: `(..., 4)`.

    It is the top-left corner that stays within the frame, as that of `MovingDigitsRecipe`.

    Args:
        boxes: the last two true ones, `(..., 2, 4)`.
        steps: frames after them.
        size: height and width of the frame.
    """
    before, last = boxes[..., :2].unbind(-2)
    border = boxes.new_tensor([size[1], size[0]])
    corner = (last + steps * (last - before)) % (2 * border)
    return torch.cat([border - (border - corner).abs(), boxes[..., 1, 2:]], dim=-1)


def _means(parts: Sequence[Sequence[Tensor]]) -> tuple[float, ...]:
    return tuple(float(torch.cat(list(part)).mean()) for part in parts)


def future_boxes(batch: Videos, frames: int) -> Tensor:
    """The true boxes, if they are known and go far enough.

    Raises:
        ValueError: if not.
    """
    if batch.boxes is None:
        raise ValueError("`data` has no boxes, so it is not known where objects go.")
    if batch.video.shape[1] < frames:
        raise ValueError(f"`data` must have videos of at least {frames} frames, got {batch.video.shape[1]}.")
    return batch.boxes


def exists(boxes: Tensor, t: int) -> Tensor:
    """Whether there is an object in frame t, `(B, M)`, by boxes `(B, T, M, 4)`."""
    return boxes[:, t, :, 2] > 0  # not where it is NaN


def _existing(matched: Tensor, boxes: Tensor, t: int) -> Tensor:
    """Those rows of `_matched` whose true object is there in frame t."""
    return matched[exists(boxes, t)[matched[:, 0], matched[:, 2]].to(matched.device)]


def _matched(found: Tensor, slots: TrackedSlots, batch: Videos, boxes: Tensor, t: int) -> Tensor:
    """Which objects are found in frame t: rows of video, slot and true object, `(M, 3)`."""
    size = batch.video.shape[-2], batch.video.shape[-1]
    true = true_tracks(boxes[:, t : t + 1].to(found), _frame(batch, t))
    overlap = iou(boxes_inside(found, size).unsqueeze(2), true.boxes[:, 0].unsqueeze(1)).double()
    may = (overlap >= 0.5) & (slots.z_pres.unsqueeze(2) > 0) & true.present[:, 0].unsqueeze(1)
    pairs = [best_matches(o.cpu().numpy(), m.cpu().numpy()) for o, m in zip(overlap, may, strict=True)]
    rows = [(video, i, j) for video, matches in enumerate(pairs) for i, j in matches.items()]
    return torch.tensor(rows, device=found.device, dtype=torch.long).reshape(-1, 3)


def _frame(batch: Videos, t: int) -> Videos:
    present = None if batch.present is None else batch.present[:, t : t + 1]
    return Videos(batch.video[:, t : t + 1], present=present)


def _followed(
    boxes: Tensor, slots: TrackedSlots, last: TrackedSlots, matched: Tensor
) -> tuple[Tensor, Tensor]:
    """Boxes `(M, 4)` of matched objects in a later frame, and whether they are still there, `(M,)`."""
    videos, before = matched[:, 0], matched[:, 1]
    same = (slots.identity[videos] == last.identity[videos, before].unsqueeze(1)) & (slots.z_pres[videos] > 0)
    return boxes[videos, same.int().argmax(1)], same.any(1)
