"""How large, how many, how bright and how fast objects are, by connected regions: a look before training.

Needs SciPy, which comes with `pip install whatwhere[metrics]`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .connected_components import ConnectedComponents, FoundComponents
from .tracking_metrics import best_matches

__all__ = [
    "ObjectStatistics",
    "Perspective",
    "Spread",
    "object_statistics",
    "objects_found",
    "perspective_of",
]

_DIRT = 0.1  # of a typical object's energy, that one has at least
_TOUCHING = 2.0  # times the median energy: what has more may be two objects that touch
_SHAPE = 1.25  # and whose sides are in another proportion than the median object's by such a factor
_FEWEST, _LINE = 30, 400  # objects that a line is drawn through
_APART = 0.1  # half frames, of two that tell a slope
_EXPLAINED = 0.6  # of how sizes differ, what perspective leaves at most
_NORMAL = 1.4826  # standard deviations of a normal, of its median absolute deviation
_FAST = 3.0  # sizes that an object moves at most from one frame to the next


class Spread(NamedTuple):
    """Quantiles of what differs from object to object."""

    low: float
    """5 % are less."""
    median: float
    """Half of them are."""
    high: float
    """5 % are more."""


class ObjectStatistics(NamedTuple):
    """Objects of some frames. Where there are none, sizes, brightness and shift are NaN."""

    width: Spread
    """Pixels; this, height, shape and energy are of objects that stand alone, see `object_statistics`."""
    height: Spread
    """Pixels."""
    shape: Spread
    """Width over height."""
    energy: Spread
    """Sum of the squares of an object's pixels, over all channels: what it is worth to explain them."""
    brightness: float
    """Mean of their brightness, in [0, 1]."""
    shift: float
    """Pixels, in each direction, that 95 % of the objects do not exceed from a frame to the next; NaN where
    there is one frame.
    """
    mean_count: float
    """Objects in a frame, on average."""
    most: int
    """Objects in a frame that 99 % of the frames do not exceed."""
    empty: float
    """Share of the frames without any."""
    ink: float
    """Share of the pixels that are brighter than the threshold."""
    frames: int
    """How many frames were looked at."""


class Perspective(NamedTuple):
    """How large objects are on a plane before a camera: in proportion to their distance below the horizon."""

    height: float
    """Pixels, of a typical object whose middle is half-way down the frame."""
    slope: float
    """By how many pixels one at the lower border is larger, positive."""
    unexplained: float
    """Median deviation of the logarithms of heights from it, over that from their median."""
    deviation: float
    """Standard deviation of these logarithms from it, 1.48 times the median one, as of a normal."""

    @property
    def horizon(self) -> float:
        """From -1 at the frame's upper border to 1 at the lower one, mostly less."""
        return -self.height / self.slope

    def row(self, height: float) -> float:
        """Where the middle of a typical object of so many pixels is, likewise."""
        return (height - self.height) / self.slope


def perspective_of(video: Tensor, threshold: float = 0.08) -> Perspective | None:
    """Whether sizes of objects of whole frames are explained by where they are; None where they are not.

    A line through heights and places by the medians of slopes and of what they leave (Theil and Sen): regions
    that are two objects, or half of one, are outvoted. Objects must be at rows at least as far apart as they
    are high, and not cut off at the border.

    Args:
        video: `(B, T, C, H, W)` in [0, 1], bright on black, of a camera that stands still.
        threshold: see `ConnectedComponents`; a low one, with which heads and feet of what is far away, a few
            faint pixels, are not missing.

    Raises:
        MissingPackageError: if SciPy is not installed.
    """
    found = objects_found(video, threshold)
    whole = _alone(_inside(found, video.shape[-2], video.shape[-1]), found)
    boxes = found.tracks.boxes[whole].double().numpy()
    if len(boxes) < _FEWEST:
        return None
    boxes = boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), _LINE)).astype(int)]
    height = boxes[:, 3]
    place = 2 * (boxes[:, 1] + height / 2) / video.shape[-2] - 1
    low, high = np.quantile(place, [0.05, 0.95])
    if (high - low) * video.shape[-2] / 2 < np.median(height):
        return None
    first, second = np.triu_indices(len(place), 1)
    way = place[first] - place[second]
    apart = np.abs(way) > _APART
    if not apart.any():
        return None
    slope = float(np.median((height[first] - height[second])[apart] / way[apart]))
    middle = float(np.median(height - slope * place))
    line = middle + slope * place
    if slope <= 0 or line.min() <= 0:
        return None
    left, all_of_it = (np.median(np.abs(np.log(height / typical))) for typical in (line, np.median(height)))
    unexplained = float(left / max(all_of_it, 1e-9))
    deviation = float(_NORMAL * left)
    return Perspective(middle, slope, unexplained, deviation) if unexplained < _EXPLAINED else None


def object_statistics(video: Tensor, threshold: float = 0.25) -> ObjectStatistics:
    """What connected regions say about the objects of videos.

    The typical object is the one below which half of the energy of all regions is, so that specks, of which
    there may be many, do not matter. What has less than a tenth of its energy does not count, and what is cut
    off at the border has no size, unless everything is. Nor has what holds as much as two and has another
    shape: objects that touch are one region, and windows that have its size would hold both; what is near a
    camera is as large, but of the same shape.

    Args:
        video: `(B, T, C, H, W)` in [0, 1], bright on black.
        threshold: see `ConnectedComponents`.

    Raises:
        MissingPackageError: if SciPy is not installed.
        ValueError: see `ConnectedComponents`.
    """
    found = objects_found(video, threshold)
    (boxes, present, _), energy = found.tracks, found.energies.double()
    frames, ink = math.prod(video.shape[:2]), video.amax(2) > threshold
    inside = _inside(found, video.shape[-2], video.shape[-1])
    whole = _alone(inside if inside.any() else present, found)
    counts = present.sum(-1).flatten().double()
    return ObjectStatistics(
        width=_spread(boxes[whole][:, 2]),
        height=_spread(boxes[whole][:, 3]),
        shape=_spread(boxes[whole][:, 2] / boxes[whole][:, 3]),
        energy=_spread(energy[whole]),
        brightness=float(found.scores[present].mean()),
        shift=_shift(boxes.double().numpy(), present.numpy()),
        mean_count=float(counts.mean()),
        most=math.ceil(float(counts.quantile(0.99))),
        empty=float((counts == 0).double().mean()),
        ink=float(ink.double().mean()),
        frames=frames,
    )


def objects_found(video: Tensor, threshold: float = 0.25) -> FoundComponents:
    """The objects that count in `object_statistics`."""
    found = ConnectedComponents(threshold)(video)
    energies = found.energies.double()
    real = found.tracks.present & (energies >= _DIRT * _typical(energies))
    return found._replace(tracks=found.tracks._replace(present=real))


def _inside(found: FoundComponents, height: int, width: int) -> Tensor:
    """Which objects are not cut off at the border of the frame."""
    boxes, present, _ = found.tracks
    low, high = boxes[..., :2], boxes[..., :2] + boxes[..., 2:]
    return present & (low > 0).all(-1) & (high[..., 0] < width) & (high[..., 1] < height)


def _alone(whole: Tensor, found: FoundComponents) -> Tensor:
    """Which of the whole regions are one object: they have less energy than two, or the shape of one."""
    if not whole.any():
        return whole
    boxes, energy = found.tracks.boxes, found.energies.double()
    shape = (boxes[..., 2] / boxes[..., 3].clamp(min=1)).clamp(min=1e-6).log()
    alike = (shape - shape[whole].median()).abs() < math.log(_SHAPE)
    return whole & (alike | (energy < _TOUCHING * energy[whole].median()))


def _typical(energy: Tensor) -> float:
    """The energy below which half of all is."""
    ordered = energy.flatten().sort().values
    total = ordered.cumsum(0)
    if not total.numel() or total[-1] <= 0:
        return 0.0
    return float(ordered[int(torch.searchsorted(total, total[-1] / 2))])


def _spread(values: Tensor) -> Spread:
    if not values.numel():
        return Spread(math.nan, math.nan, math.nan)
    return Spread(*values.double().quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist())


def _shift(boxes: npt.NDArray[np.float64], present: npt.NDArray[np.bool_]) -> float:
    """See `ObjectStatistics.shift`: objects are matched so that they move least in total."""
    shifts: list[npt.NDArray[np.float64]] = []
    for video, there in zip(boxes, present, strict=True):
        for t in range(len(video) - 1):
            before, after = video[t, there[t]], video[t + 1, there[t + 1]]
            if len(before) and len(after):
                shifts.append(_shifts(before, after))
    moved = np.concatenate(shifts) if shifts else np.zeros(0)
    return float(np.quantile(moved, 0.95)) if len(moved) else math.nan


def _shifts(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centres = [boxes[:, :2] + boxes[:, 2:] / 2 for boxes in (before, after)]
    apart = np.abs(centres[0][:, None] - centres[1]).max(-1)
    far = _FAST * max(float(before[:, 2:].max()), 1.0)
    matches = best_matches(1 - apart / far, apart < far)
    return np.array([apart[first, second] for first, second in matches.items()])
