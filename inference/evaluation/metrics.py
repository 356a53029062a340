"""How well inferred counts and boxes agree with the truth.

Everything here is a function of tensors and knows no model. Objects are padded to a fixed number of
slots, and a mask tells which slots hold an object; boxes are `(left, top, width, height)` in pixels, as
in `models.components.boxes`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ... import checks
from ...models.components.boxes import iou
from .labels import checked_boxes, checked_counts, checked_mask

__all__ = [
    "CountReport",
    "Detections",
    "Matches",
    "TrueBoxes",
    "average_precision",
    "count_report",
    "match_boxes",
]


class CountReport(NamedTuple):
    """How often the number of objects is right, and how it is wrong."""

    accuracy: float
    """Fraction of images whose count is right."""
    confusion: list[list[int]]
    """`confusion[t][p]` images have `t` objects and were said to have `p`; square."""


class TrueBoxes(NamedTuple):
    """The annotated objects of M images, in up to G slots."""

    boxes: Tensor
    """`(M, G, 4)`, pixels."""
    present: Tensor
    """`(M, G)`, boolean or 0 and 1: which slots hold an object."""


class Detections(NamedTuple):
    """The objects a model found in M images, in up to N slots."""

    boxes: Tensor
    """`(M, N, 4)`, pixels."""
    present: Tensor
    """`(M, N)`, boolean or 0 and 1: which slots hold a detection."""
    scores: Tensor
    """`(M, N)`: confidence, the higher the surer, comparable between images; only its order matters. Ignored
    where there is no detection."""


class Matches(NamedTuple):
    """Which true box each detection was paired with."""

    partner: Tensor
    """`(M, N)` int64: slot of the true box, -1 for a false or absent detection."""
    overlap: Tensor
    """`(M, N)` float64: intersection over union with the partner, 0 where there is none."""


def count_report(predicted: Tensor, true: Tensor, max_count: int) -> CountReport:
    """Compare the numbers of objects.

    Args:
        predicted: counts of any shape, integers (of an integer or a floating-point type).
        true: counts of the same shape.
        max_count: the confusion matrix has the counts `0 .. max_count`, and more where greater ones occur.

    Raises:
        ValueError: if the shapes differ, there are no counts, or some are not integers from 0 to
            `LARGEST_COUNT`.
    """
    if predicted.shape != true.shape or not predicted.numel():
        raise ValueError(
            "`predicted` and `true` must be counts of equal shape, at least one each, "
            f"but got {tuple(predicted.shape)} and {tuple(true.shape)}."
        )
    columns, rows = (
        checked_counts(name, counts).flatten() for name, counts in (("predicted", predicted), ("true", true))
    )
    size = 1 + max(max_count, int(columns.max()), int(rows.max()))
    confusion = torch.bincount(rows * size + columns, minlength=size * size).reshape(size, size)
    return CountReport((rows == columns).double().mean().item(), confusion.tolist())


def match_boxes(predicted: Detections, truth: TrueBoxes, iou_threshold: float = 0.5) -> Matches:
    """Pair detections with true boxes, the surest first, each true box at most once.

    In every image the detections choose in the order of their scores, those of equal score in the order
    of their slots. Each takes the true box that it overlaps most among those not yet taken, if their
    intersection over union is at least `iou_threshold`. (This is COCO's rule. PASCAL VOC's differs where
    objects overlap: there a detection whose best box is taken is false, even if it fits another as well.)

    A detection whose box is not finite matches nothing.

    Raises:
        ValueError: if shapes do not agree, the threshold is not in `(0, 1]`, a mask is not of 0 and 1, the
            score of a detection is NaN, or a true box is not finite or of negative size.
    """
    return _match(*_checked(predicted, truth, iou_threshold), iou_threshold)


def average_precision(predicted: Detections, truth: TrueBoxes, iou_threshold: float = 0.5) -> float:
    r"""Area under the precision-recall curve of all detections of all images, sorted by score.

    For every score that occurs, the detections of at least that score have a precision `p`, the fraction
    of them that match a true box, and a recall `r`, the fraction of true boxes that they match. With the
    scores numbered from the highest down and `r_0 = 0`,

    $$\text{AP} = \sum_k (r_k - r_{k-1}) \max_{l \ge k} p_l$$

    so precision is made monotone first: "all-point interpolation", PASCAL VOC's measure since 2010
    (Everingham and Winn, *The PASCAL Visual Object Classes Challenge 2012 Development Kit*, section
    3.4.1). Detections of equal score enter the curve together, so their order does not matter; if all
    scores are equal, the average precision is precision times recall.

    Args:
        predicted: detections of M images.
        truth: the true boxes of the same images.
        iou_threshold: the least intersection over union of a match, see `match_boxes`.

    Returns:
        A number in [0, 1]: 0 if there are no detections, NaN if there are no true boxes, for then the
        recall is not defined.

    Raises:
        ValueError: see `match_boxes`.
    """
    predicted, truth = _checked(predicted, truth, iou_threshold)
    total = int(truth.present.sum())
    if total == 0:
        return math.nan
    matches = _match(predicted, truth, iou_threshold)
    scores, order = predicted.scores[predicted.present].sort(descending=True)
    hits = (matches.partner >= 0)[predicted.present][order].cumsum(0)
    last = torch.ones_like(hits, dtype=torch.bool)  # of the detections of one score
    last[:-1] = scores[1:] != scores[:-1]
    hits, rank = hits[last].double(), 1 + last.nonzero().squeeze(-1)
    precision = (hits / rank).flip(0).cummax(0).values.flip(0)
    steps = torch.diff(hits, prepend=hits.new_zeros(1)) / total
    return (steps * precision).sum().item()


def _match(predicted: Detections, truth: TrueBoxes, iou_threshold: float) -> Matches:
    images, slots = predicted.present.shape
    partner = torch.full((images, slots), -1)
    overlap = torch.zeros(images, slots, dtype=torch.float64)
    if not truth.present.any():
        return Matches(partner, overlap)
    overlaps = _overlaps(predicted.boxes, truth.boxes)  # overlaps.shape = (M, N, G)
    free = truth.present.clone()
    image = torch.arange(images)
    for slot in predicted.scores.argsort(dim=-1, descending=True, stable=True).unbind(-1):
        best, box = overlaps[image, slot].masked_fill(~free, -1).max(dim=-1)
        match = (best >= iou_threshold) & predicted.present[image, slot]
        free[image[match], box[match]] = False
        partner[image[match], slot[match]] = box[match]
        overlap[image[match], slot[match]] = best[match]
    return Matches(partner, overlap)


def _overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every pair, `(M, N, G)`; 0 where a box is not finite or of negative size."""
    return iou(boxes.unsqueeze(-2), others.unsqueeze(-3))


def _checked(predicted: Detections, truth: TrueBoxes, iou_threshold: float) -> tuple[Detections, TrueBoxes]:
    """The arguments on the CPU: boxes and scores in double precision, masks as booleans, no NaN scores."""
    checks.within("(0, 1]", iou_threshold=iou_threshold)
    for name, boxes in (("predicted", predicted), ("truth", truth)):
        slots = boxes.present.shape
        if len(slots) != 2 or any(x.shape != slots for x in boxes[1:]) or boxes.boxes.shape != (*slots, 4):
            raise ValueError(
                f"`{name}` must hold boxes (M, N, 4) and for each of them presence and score (M, N), "
                f"but got the shapes {[tuple(x.shape) for x in boxes]}."
            )
    if len(predicted.present) != len(truth.present):
        raise ValueError(
            f"`predicted` and `truth` must be of the same images, but are of {len(predicted.present)} "
            f"and {len(truth.present)}."
        )
    here, true_here = (
        checked_mask(f"{name}.present", boxes.present)
        for name, boxes in (("predicted", predicted), ("truth", truth))
    )
    scores = predicted.scores.detach().cpu().double().masked_fill(~here, -math.inf)
    if scores.isnan().any():
        raise ValueError("`predicted.scores` must be numbers where a detection is present, but some are NaN.")
    true_boxes = checked_boxes("truth.boxes", truth.boxes, true_here)
    return Detections(predicted.boxes.detach().cpu().double(), here, scores), TrueBoxes(true_boxes, true_here)
