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

__all__ = ["ObjectStatistics", "Spread", "object_statistics", "objects_found"]

_DIRT = 0.1  # of a typical object's energy, that one has at least
_TOUCHING = 2.0  # times the median energy: what has more may be two objects that touch
_SHAPE = 1.25  # and whose sides are in another proportion than the median object's by such a factor
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
    """Objects of some frames. All is NaN where there are none."""

    width: Spread
    """Pixels; this, height and energy are of objects that stand alone, see `object_statistics`."""
    height: Spread
    """Pixels."""
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
    height, width = video.shape[-2:]
    low, high = boxes[..., :2], boxes[..., :2] + boxes[..., 2:]
    inside = (low > 0).all(-1) & (high[..., 0] < width) & (high[..., 1] < height)
    whole = present & inside if (present & inside).any() else present
    whole = _alone(whole, boxes, energy)
    counts = present.sum(-1).flatten().double()
    return ObjectStatistics(
        width=_spread(boxes[whole][:, 2]),
        height=_spread(boxes[whole][:, 3]),
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


def _alone(whole: Tensor, boxes: Tensor, energy: Tensor) -> Tensor:
    """Which of the whole regions are one object: they have less energy than two, or the shape of one."""
    if not whole.any():
        return whole
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
