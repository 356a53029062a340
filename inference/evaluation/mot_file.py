"""Tracks as the MOTChallenge's programs read them: a file of text for each video.

Every line is one object in one frame,

    frame,id,left,top,width,height,confidence,-1,-1,-1

(Leal-Taixe et al., *MOTChallenge 2015: Towards a Benchmark for Multi-Target Tracking*, section 3.3). Frames,
identities and pixels count from 1 there: the top left corner of the top left pixel is (1, 1). The confidence
is the score, or 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from ... import checks
from ...files import atomic_write
from .tracked_objects import ObjectsWriter, TrackedObjects, tracked_objects
from .tracks_file import shortest

__all__ = ["MOTWriter", "mot_writer"]

_FIRST = 1  # what counting begins with
_NOT_IN_3D = ["-1"] * 3


@contextmanager
def mot_writer(path: str | os.PathLike[str], *, videos: int = 1) -> Iterator[MOTWriter]:
    """Write tracks part by part; every file atomically.

    Args:
        path: the file; its folder is created where it is missing. Of several videos each has a file of its
            own, in a folder of this name without its ending: `tracks/0001.txt` is the first one.
        videos: how many there are; a video without objects has an empty file.

    Raises:
        OSError: if a file cannot be written.
        ValueError: if `videos` is not positive.
    """
    checks.whole(videos=videos)
    checks.at_least(1, videos=videos)
    with MOTWriter(Path(path), videos) as writer:
        yield writer


class MOTWriter(ObjectsWriter):
    """What `mot_writer` gives."""

    def __init__(self, path: Path, videos: int) -> None:
        self._path, self._videos = path, videos
        self._opened, self._number = ExitStack(), -1
        self._file: BinaryIO

    def __enter__(self) -> MOTWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self._go_to(self._videos - 1)
        self._opened.__exit__(*error)

    def write(self, boxes: Tensor, *args: Any, video: int = 0, **kwargs: Any) -> None:
        """Write a part of a video, or whole videos, see `ObjectsWriter`.

        Raises:
            ValueError: also if there are no so many videos, or the file of one before is complete.
        """
        last = video + (max(len(boxes) - 1, 0) if boxes.dim() == 4 else 0)
        if not max(self._number, 0) <= video <= last < self._videos:
            raise ValueError(
                f"parts of {self._videos} videos must come in their order, and the next be of video "
                f"{max(self._number, 0)} or a later one, got video {last}."
            )
        found = tracked_objects(boxes, *args, video=video, **kwargs)
        for number in range(video, last + 1):
            self._go_to(number)
            self._file.write(_lines(found, found.videos == number).encode())

    def _go_to(self, video: int) -> None:
        """Open the file of a video; it and those before it are complete otherwise."""
        while self._number < video:
            self._opened.close()
            self._number += 1
            self._file = self._opened.enter_context(atomic_write(self._path_of(self._number)))

    def _path_of(self, video: int) -> Path:
        if self._videos == 1:
            return self._path
        return self._path.with_suffix("") / f"{video + _FIRST:04d}{self._path.suffix}"


def _lines(found: TrackedObjects, here: np.ndarray) -> str:
    """The lines of those objects that are `here`."""
    keys = np.column_stack([found.frames[here], found.identities[here]]) + _FIRST
    boxes = found.boxes[here] + np.array([_FIRST, _FIRST, 0, 0], np.float32)
    scores = np.ones(len(boxes), np.float32) if found.scores is None else found.scores[here]
    numbers = shortest(np.column_stack([boxes, scores]))
    rows = zip(keys.astype(str).tolist(), numbers, strict=True)
    return "".join(",".join([*key, *number, *_NOT_IN_3D]) + "\n" for key, number in rows)
