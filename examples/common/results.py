"""What was found in a user's images or videos: one table in a format of choice, and its summary."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor
from tqdm import tqdm

from whatwhere.inference.evaluation import (
    COCOImage,
    ObjectsWriter,
    coco_writer,
    mot_writer,
    tracked_objects,
    tracks_writer,
    write_json,
)

Format = Literal["csv", "mot", "coco"]
"""Formats of tables: this package's (`tracks_file`), the MOTChallenge's, and COCO's."""

SUFFIXES = {"csv": ".csv", "mot": ".txt", "coco": ".json"}


class Summary(NamedTuple):
    """How much was found, and how long it took."""

    videos: int
    """Number of videos."""
    frames: int
    """Frames of all of them."""
    objects: int
    """Boxes: objects, counted in every frame."""
    tracks: int
    """Different objects."""
    objects_per_frame: float
    """Mean."""
    most_in_a_frame: int
    """Greatest number of objects."""
    empty_frames: int
    """Frames without any."""
    frames_per_track: float
    """Mean number of frames in which an object was seen; NaN without one."""
    seconds: float
    """From the first frame to the last, reading and writing included."""
    frames_per_second: float
    """Of the same."""


@dataclass
class Results(ObjectsWriter):
    """A table that is being written, and what there is to be told of it."""

    table: ObjectsWriter
    """Takes the rows."""
    bar: tqdm[Any]
    """Shows how far it is."""
    started: float = field(default_factory=time.monotonic)
    _videos: set[int] = field(default_factory=set)
    _tracks: set[tuple[int, int]] = field(default_factory=set)
    _frames: int = 0
    _objects: int = 0
    _most: int = 0
    _empty: int = 0

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
        """Write a part of a video, see `ObjectsWriter`."""
        self.table.write(boxes, present, identities, scores, video=video, frame=frame)
        found = tracked_objects(boxes, present, identities, scores, video=video, frame=frame)
        counts = (present > 0).sum(-1)
        self._videos.add(video)
        self._tracks.update(zip(found.videos.tolist(), found.identities.tolist(), strict=True))
        self._frames += len(present)
        self._objects += int(counts.sum())
        self._most = max(self._most, int(counts.max()))
        self._empty += int((counts == 0).sum())
        self.bar.update(len(present))

    def summary(self) -> Summary:
        """What was written until now."""
        seconds = time.monotonic() - self.started
        tracks = len(self._tracks)
        return Summary(
            videos=len(self._videos),
            frames=self._frames,
            objects=self._objects,
            tracks=tracks,
            objects_per_frame=self._objects / self._frames if self._frames else float("nan"),
            most_in_a_frame=self._most,
            empty_frames=self._empty,
            frames_per_track=self._objects / tracks if tracks else float("nan"),
            seconds=seconds,
            frames_per_second=self._frames / max(seconds, 1e-9),
        )


@contextmanager
def results(
    path: Path,
    kind: Format,
    image: Callable[[int, int], COCOImage],
    *,
    videos: tuple[str, ...],
    scores: bool,
    files: bool = False,
    frames: int | None = None,
) -> Iterator[Results]:
    """Write what is found as it is found, with a bar that shows frames per second on a terminal.

    Args:
        path: of the table, without an ending.
        kind: its format.
        image: tells of a frame, given the numbers of video and frame.
        videos: their names; still images are in none.
        scores: whether objects have scores.
        files: whether frames are files of their own, whose names belong into a CSV.
        frames: how many there will be, if that is known.
    """
    file = table_path(path, kind)
    with ExitStack() as stack:
        if kind == "mot":
            table: ObjectsWriter = stack.enter_context(mot_writer(file, videos=max(1, len(videos))))
        elif kind == "coco":
            table = stack.enter_context(coco_writer(file, image, videos=videos))
        else:
            name = (lambda video, frame: image(video, frame).file_name) if files else None
            several = len(videos) > 1
            table = stack.enter_context(tracks_writer(file, videos=several, scores=scores, file_name=name))
        bar = stack.enter_context(
            tqdm(total=frames, unit=" frames", disable=None, dynamic_ncols=True, file=sys.stderr)
        )
        yield Results(table, bar)


def table_path(path: Path, kind: Format, videos: int = 1) -> Path:
    """The file of a table whose path has no ending yet, or the folder of those of several videos."""
    return path if kind == "mot" and videos > 1 else path.with_name(path.name + SUFFIXES[kind])


def print_summary(summary: Summary, what: str = "tracks") -> None:
    """What a user wants to know first.

    Args:
        summary: of all that was found.
        what: what different objects are called.
    """
    plural = "" if summary.videos <= 1 else f" of {summary.videos} videos"
    print(
        f"found:     {summary.objects} objects in {summary.frames} frames{plural}, "
        f"{summary.objects_per_frame:.2f} a frame, at most {summary.most_in_a_frame}"
    )
    if what == "tracks" and summary.tracks:
        print(f"tracks:    {summary.tracks}, of {summary.frames_per_track:.1f} frames on average")
    print(f"time:      {summary.seconds:.1f} s, {summary.frames_per_second:.1f} frames per second")


def write_summary(
    folder: str | os.PathLike[str], summary: Summary, what: str = "tracks", **more: Any
) -> Path:
    """Write `summary.json`: the summary, and what else is known.

    Args:
        folder: where.
        summary: of what was found.
        what: as of `print_summary`; what has no tracks is not counted as such.
        more: further numbers by name.
    """
    path, numbers = Path(folder) / "summary.json", summary._asdict()
    if what != "tracks":
        del numbers["tracks"], numbers["frames_per_track"]
    write_json(path, {**numbers, **more})
    return path
