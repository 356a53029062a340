"""Places in videos that show a target, or background: what a tracker's features are trained on beforehand."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .clip_windows import ClipWindows

_ATTEMPTS = 20

_Box = npt.NDArray[np.float64]


class PatchBatch(NamedTuple):
    """Frames, a place in each, and what is there."""

    frames: Tensor
    """`(B, C, H, W)`, uint8."""
    boxes: Tensor
    """The places, `(B, 4)`, float32, `(left, top, width, height)` in pixels."""
    labels: Tensor
    """1 where the place shows a target, and 0 where it shows background, `(B,)`, int64."""


class TargetPatches:
    """Random places in videos: half show the target, as it is looked at, half something else.

    A frame in which the target is there is drawn uniformly from a video, drawn uniformly. The place of a
    target is its box, enlarged, shifted by at most a twentieth of its sides and scaled by 0.9 to 1.1. That of
    background is a box of the same size, scaled by 0.5 to 2, uniform in the frame, that shares at most
    `max_overlap` of its area with the enlarged box, or as little as was found in 20 attempts.

    RATM's authors train on pedestrians and street scenes of other data sets; this needs no others.

    Args:
        videos: with boxes.
        rows: which of them; all by default. Those that a tracker is tested on should not be among them.
        enlargement: side of a place over that of the target's box.
        max_overlap: greatest share of background that is target.
    """

    def __init__(
        self,
        videos: ClipWindows,
        rows: Sequence[int] | None = None,
        *,
        enlargement: float = 1.5,
        max_overlap: float = 0.2,
    ) -> None:
        self.videos = videos
        self.rows = np.asarray(range(len(videos)) if rows is None else rows)
        self.enlargement, self.max_overlap = enlargement, max_overlap

    def batch(self, count: int, rng: np.random.Generator) -> PatchBatch:
        """`count` places, drawn with `rng`."""
        frames, boxes, labels = [], [], rng.permutation(np.arange(count) % 2)
        for label in labels:
            shown = self.videos.frame(int(rng.choice(self.rows)), rng)
            target = _scaled(shown.box, self.enlargement)
            frames.append(shown.image)
            boxes.append(_jittered(target, rng) if label else self._background(target, rng))
        places = np.stack(boxes).astype(np.float32)
        return PatchBatch(*(torch.from_numpy(part) for part in (np.stack(frames), places, labels)))

    def _background(self, target: _Box, rng: np.random.Generator) -> _Box:
        frame = np.array(self.videos.shape[:-3:-1], dtype=np.float64)  # width, height
        found, least = target, np.inf
        for _ in range(_ATTEMPTS):
            extent = target[2:] * np.exp2(rng.uniform(-1, 1))
            box = np.concatenate([rng.uniform(-extent / 2, frame - extent / 2), extent])
            if (share := _shared(box, target)) < least:
                found, least = box, share
            if least <= self.max_overlap:
                break
        return found


def _jittered(target: _Box, rng: np.random.Generator) -> _Box:
    moved = target.copy()
    moved[:2] += rng.uniform(-0.05, 0.05, 2) * target[2:]
    return _scaled(moved, rng.uniform(0.9, 1.1))


def _scaled(box: _Box, factor: float) -> _Box:
    """The box `factor` times as large about its middle."""
    return np.concatenate([box[:2] + (1 - factor) / 2 * box[2:], factor * box[2:]])


def _shared(box: _Box, other: _Box) -> float:
    """The share of the first box's area that is the other one's too."""
    sides = np.minimum(box[:2] + box[2:], other[:2] + other[2:]) - np.maximum(box[:2], other[:2])
    return float(sides.clip(min=0).prod() / box[2:].prod())
