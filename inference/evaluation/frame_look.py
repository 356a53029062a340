"""What frames look like, in three numbers, by which those that a model does not know can be told."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from ...checks import MissingPackageError
from .connected_components import ConnectedComponents
from .labels import check_filled

__all__ = ["FrameLook", "frame_look"]

_CONTRAST = 0.2
_LEAST_AREA = 2  # pixels; single ones are noise


class FrameLook(NamedTuple):
    """What frames look like; grey values are in [0, 1]."""

    background: float
    """The median grey value, mean over frames."""
    ink: float
    """Share of the pixels that are brighter or darker than that by more than 0.2, in a channel at least."""
    side: float
    """The side of a typical region of such pixels, the square root of the area of its box: the median, in
    pixels. NaN where there is none, or SciPy is not installed.
    """


def frame_look(frames: Tensor) -> FrameLook:
    """Look at frames.

    Args:
        frames: `(F, C, H, W)` in [0, 1].

    Raises:
        ValueError: if there are none, or they have another shape.
    """
    check_filled("frames", frames, "(F, C, H, W)")
    background = frames.flatten(1).median(dim=1).values
    distance = (frames - background[:, None, None, None]).abs().amax(1, keepdim=True)
    return FrameLook(
        background.double().mean().item(),
        (distance > _CONTRAST).double().mean().item(),
        _side(distance),
    )


def _side(distance: Tensor) -> float:
    components = ConnectedComponents(threshold=_CONTRAST, least_area=_LEAST_AREA)
    try:
        tracks = components(distance.clamp(0, 1).unsqueeze(1)).tracks  # each frame is a video
    except MissingPackageError:
        return math.nan
    sides = tracks.boxes[tracks.present][:, 2:].prod(-1).sqrt()
    return sides.median().item() if len(sides) else math.nan
