"""Objects as rows of a table, checked and in order: what every file of tracks is written from."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .labels import checked_identities, checked_mask

__all__ = ["ObjectsWriter", "TrackedObjects", "tracked_objects"]


class TrackedObjects(NamedTuple):
    """R objects, each in one frame, in the order of videos, frames and identities."""

    videos: npt.NDArray[np.int64]
    """Number of the video of each, `(R,)`."""
    frames: npt.NDArray[np.int64]
    """Number of its frame, `(R,)`."""
    identities: npt.NDArray[np.int64]
    """Which object it is, `(R,)`."""
    boxes: npt.NDArray[np.float32]
    """`(R, 4)`, left, top, width and height in pixels."""
    scores: npt.NDArray[np.float32] | None
    """`(R,)`."""


class ObjectsWriter(Protocol):
    """Writes tracks part by part, in whatever format; parts come in the order of videos and frames."""

    def write(
        self,
        boxes: Tensor,
        present: Tensor,
        identities: Tensor,
        scores: Tensor | None = None,
        *,
        video: int = 0,
        frame: int = 0,
    ) -> None:
        """Write a part of a video, or whole videos; arguments and errors are those of `tracked_objects`."""


def tracked_objects(
    boxes: Tensor,
    present: Tensor,
    identities: Tensor,
    scores: Tensor | None = None,
    *,
    video: int = 0,
    frame: int = 0,
) -> TrackedObjects:
    """The objects of a part of a video, or of whole videos.

    Args:
        boxes: `(T, N, 4)`, or `(B, T, N, 4)` of several videos; pixels.
        present: `(T, N)` or `(B, T, N)`, boolean or 0 and 1: which slots hold an object.
        identities: as `present`, integers; ignored where there is no object.
        scores: as `present`, real numbers.
        video: number of the video, or of the first one.
        frame: number of the first frame.

    Raises:
        ValueError: if shapes or types do not agree, an identity is twice in a frame, or the box or score of
            an object is not finite or its size is negative.
    """
    _check_layout(boxes, present, identities, scores)
    here = checked_mask("present", present)
    places = here.nonzero()[:, :-1].numpy()  # ([video], frame) of each object
    if present.dim() == 2:
        places = np.insert(places, 0, 0, axis=1)
    names = checked_identities("identities", identities)[here].numpy()
    order = np.lexsort((names, places[:, 1], places[:, 0]))
    found = TrackedObjects(
        places[order, 0] + video,
        places[order, 1] + frame,
        names[order],
        _values(boxes, here)[order],
        None if scores is None else _values(scores, here)[order],
    )
    _check_objects(found, several=present.dim() == 3)
    return found


def _values(values: Tensor, here: Tensor) -> npt.NDArray[np.float32]:
    of_objects: npt.NDArray[np.float32] = values.detach().cpu().to(torch.float32)[here].numpy()
    return of_objects


def _check_layout(boxes: Tensor, present: Tensor, identities: Tensor, scores: Tensor | None) -> None:
    shapes = [tuple(x.shape) for x in (boxes, present, identities, *([] if scores is None else [scores]))]
    if present.dim() not in (2, 3) or shapes != [(*present.shape, 4)] + [present.shape] * (len(shapes) - 1):
        raise ValueError(
            "`boxes` must have shape ([B,] T, N, 4), and `present`, `identities` and `scores` ([B,] T, N), "
            f"but have {', '.join(map(str, shapes))}."
        )


def _check_objects(found: TrackedObjects, several: bool) -> None:
    keys = np.column_stack(found[:3])
    twice = np.zeros(len(keys), dtype=bool)
    twice[1:] = (keys[1:] == keys[:-1]).all(1)
    finite = np.isfinite(found.boxes).all(1)
    if found.scores is not None:
        finite &= np.isfinite(found.scores)
    for problem, where in (
        ("is there twice", twice),
        ("has a box or score that is not finite", ~finite),
        ("has a box of negative size", (found.boxes[:, 2:] < 0).any(1)),
    ):
        if where.any():
            video, frame, identity = keys[where.argmax()].tolist()
            of_video = f" of video {video}" if several else ""
            raise ValueError(f"identity {identity} in frame {frame}{of_video} {problem}.")
