"""Measures of how far predicted boxes overlap true ones in clips of one object, frame by frame.

Unless it says otherwise, a measure is a mean over the frames of a clip and then over clips, so that a long
clip counts for no more than a short one. The first frame counts, although the tracker is told its box. RATM's
authors report this mean (Kahou, Michalski & Memisevic, *RATM: Recurrent Attentive Tracking Model*, 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SUCCESS_THRESHOLDS", "Floats", "Overlaps", "nan_mean", "nan_means", "success_curve"]

Floats = npt.NDArray[np.float64]

SUCCESS_THRESHOLDS: tuple[float, ...] = tuple(k / 20 for k in range(21))
"""Intersections over union of a success curve: 0, 0.05, ..., 1."""


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Intersections over union with the true boxes of M clips, and the measures that are made of them."""

    by_clip: Floats
    """`(M, T)`, at least one clip, in [0, 1]; NaN where there is no true box: the object is not there, or the
    clip is over. No clip is without the object."""

    def __post_init__(self) -> None:
        there = ~np.isnan(self.by_clip)
        if self.by_clip.ndim != 2 or not len(there) or not there.any(1).all():
            raise ValueError(
                "`by_clip` must be overlaps (M, T) of at least one clip, and in every clip at least one that "
                f"is not NaN, but has shape {self.by_clip.shape} and {int(there.sum())} of them."
            )
        values = self.by_clip[there]
        if (values < 0).any() or (values > 1).any():
            raise ValueError(f"`by_clip` must be in [0, 1], but is in [{values.min()}, {values.max()}].")

    @property
    def clip_means(self) -> Floats:
        """Mean over the frames of each clip, `(M,)`."""
        return nan_means(self.by_clip, 1)

    @property
    def mean(self) -> float:
        """Mean over the frames of a clip, then over clips."""
        return nan_mean(self.clip_means)

    @property
    def without_first(self) -> float:
        """The same without the first frame; clips of a single frame do not count."""
        return nan_mean(nan_means(self.by_clip[:, 1:], 1))

    @property
    def last(self) -> float:
        """Mean over clips of the last frame in which the object is there."""
        present = ~np.isnan(self.by_clip)
        last = present.shape[1] - 1 - present[:, ::-1].argmax(1)
        return nan_mean(self.by_clip[np.arange(len(present)), last])

    @property
    def pooled(self) -> float:
        """Mean over all frames of all clips at once."""
        return nan_mean(self.by_clip)

    @property
    def by_frame(self) -> Floats:
        """Mean over the clips that have frame t, `(T,)`; NaN where none has."""
        return nan_means(self.by_clip, 0)

    @property
    def clips_by_frame(self) -> npt.NDArray[np.int64]:
        """How many clips have frame t, `(T,)`."""
        return (~np.isnan(self.by_clip)).sum(0)

    @property
    def over_time(self) -> float:
        """Mean over time of `by_frame`, as HART's authors report.

        It equals `mean` where all clips have the same frames.
        """
        return nan_mean(self.by_frame)

    @property
    def success(self) -> Floats:
        """The success curve at `SUCCESS_THRESHOLDS`, see `success_curve`."""
        return success_curve(self.by_clip)

    @property
    def auc(self) -> float:
        """Area under the success curve: its mean over the 21 thresholds.

        That is how the programs of the Online Tracking Benchmark compute it. The true boxes themselves get
        20 / 21 = 0.952, because no overlap is above 1.
        """
        return float(self.success.mean())


def success_curve(ious: npt.NDArray[np.floating], thresholds: Sequence[float] = SUCCESS_THRESHOLDS) -> Floats:
    """Share of frames whose intersection over union is above each threshold: mean over clips of their shares.

    Source: Wu, Lim & Yang, *Online Object Tracking: A Benchmark*, 2013, one-pass evaluation.

    Args:
        ious: of one clip `(T,)`, or of several `(M, T)`; NaN where there is no true box.
        thresholds: an overlap that equals one is not above it.

    Returns:
        One number a threshold; NaN if there is no frame.
    """
    ious = np.atleast_2d(ious)
    absent = np.isnan(ious)
    shares = (nan_means(np.where(absent, np.nan, ious > threshold), 1) for threshold in thresholds)
    return np.array([nan_mean(share) for share in shares])


def nan_means(values: Floats, axis: int) -> Floats:
    """Means over an axis of the numbers that are not NaN; NaN where there is none."""
    counts = (~np.isnan(values)).sum(axis)
    sums = np.where(np.isnan(values), 0, values).sum(axis)
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)


def nan_mean(values: Floats) -> float:
    """The same over all numbers of an array."""
    return float(nan_means(values.reshape(-1), 0))
