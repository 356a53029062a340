"""How well objects are followed whose pixels are known: the measures of tracking, of masks for boxes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ... import checks
from .labels import check_filled, checked_identities
from .tracking_metrics import TrackingCounts, VideoOverlaps, import_scipy

__all__ = ["segment_tracking_counts"]

LEAST_PIXELS = 6
"""Masks of fewer pixels are left out."""
BACKGROUND = 0.2
"""What is found with a greater overlap with the true background than this is no object, but background."""


def segment_tracking_counts(predicted: Tensor, truth: Tensor, iou_threshold: float = 0.5) -> TrackingCounts:
    """As `tracking_counts`, of the pixels in which objects are seen instead of boxes around them.

    As in the benchmark, masks of 5 pixels or fewer are left out on both sides, and of the predicted ones
    those whose intersection over union with the true background exceeds 0.2.

    Source: Weis et al. (2021), Benchmarking Unsupervised Object Representations for Video Sequences, and its
    code, whose frames 2 to 9 of 10 are given: `predicted[:, 2:]` and `truth[:, 2:]`.

    Args:
        predicted: the identity of the object that is seen at each pixel, `(B, T, H, W)`, integers; negative
            where there is none.
        truth: the same of the true objects.
        iou_threshold: the least intersection over union of a match, in (0, 1].

    Raises:
        MissingPackageError: if SciPy is not installed.
        ValueError: if shapes do not agree, there is no pixel, the threshold is out of range, or identities
            are not integers.
    """
    checks.within("(0, 1]", iou_threshold=iou_threshold)
    import_scipy("optimize")  # raises before the work, not at the first frame that needs it
    if predicted.dim() != 4 or predicted.shape != truth.shape:
        raise ValueError(
            "`predicted` and `truth` must both have shape (B, T, H, W), "
            f"but have {tuple(predicted.shape)} and {tuple(truth.shape)}."
        )
    check_filled("predicted", predicted, "(B, T, H, W)")
    total = TrackingCounts()
    pairs = (checked_identities(name, x) for name, x in (("predicted", predicted), ("truth", truth)))
    for found, true in zip(*(x.flatten(2).numpy() for x in pairs), strict=True):
        total += _overlaps(_Segments.of(found), _Segments.of(true), iou_threshold).counts()
    return total


class _Segments(NamedTuple):
    """The pixels P of the T frames of a video."""

    numbers: npt.NDArray[np.int64]
    """1 + the number of the object of each pixel, in the order of identities, `(T, P)`; 0 is none."""
    size: int
    """Number of objects in all frames."""

    @classmethod
    def of(cls, identities: npt.NDArray[np.int64]) -> _Segments:
        names, numbers = np.unique(identities, return_inverse=True)
        none = int((names < 0).sum())
        return cls(np.maximum(numbers.reshape(identities.shape) + 1 - none, 0), len(names) - none)


def _overlaps(found: _Segments, true: _Segments, iou_threshold: float) -> VideoOverlaps:
    frames = len(found.numbers)
    shape = frames, true.size + 1, found.size + 1
    cells = (np.arange(frames)[:, None] * shape[1] + true.numbers) * shape[2] + found.numbers
    shared = np.bincount(cells.ravel(), minlength=int(np.prod(shape))).reshape(shape)
    true_pixels, found_pixels = shared.sum(2), shared.sum(1)
    overlap = shared / np.maximum(true_pixels[:, :, None] + found_pixels[:, None] - shared, 1)
    here = true_pixels[:, 1:] >= LEAST_PIXELS
    said = (found_pixels[:, 1:] >= LEAST_PIXELS) & (overlap[:, 0, 1:] <= BACKGROUND)
    objects, identities = here.any(0), said.any(0)
    here, said = here[:, objects], said[:, identities]
    overlap = overlap[:, 1:, 1:][:, objects][:, :, identities] * (here[:, :, None] & said[:, None])
    return VideoOverlaps(overlap, overlap >= iou_threshold, here, said)
