"""Labels of KITTI tracking, and which clips HART makes of them; frames are not needed.

Source: Geiger, Lenz and Urtasun (2012), Are we ready for Autonomous Driving? The KITTI Vision Benchmark
Suite; Kosiorek, Bewley and Posner (2017), Hierarchical Attentive Recurrent Tracking, for clips and splits.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..feeding.group_split import Rows
from ..opening.text import integer, number
from .target_clips import Boxes, annotation_lines

KITTI_CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
"""All classes; their places in this tuple are the numbers of the label `classes`."""

_COLUMNS = 17
_TRAIN_FRACTION = 0.8


class KITTILabel(NamedTuple):
    """A line of a label file: an object in a frame."""

    line: int
    """Where it stands in the file; the first line is 1."""
    frame: int
    """From 0."""
    track: int
    """Which object of the drive it is, from 0."""
    kind: str
    """One of `KITTI_CLASSES`."""
    truncated: int
    """How much is outside the frame: 0 not, 1 partly, 2 largely."""
    occluded: int
    """How much is hidden: 0 nothing, 1 a part, 2 most of it, 3 unknown."""
    box: tuple[float, float, float, float]
    """`(left, top, width, height)`, 0-based pixels."""


@dataclass(frozen=True, eq=False)
class KITTIClip:
    """An object in consecutive frames of a drive, in all of which it is labelled."""

    drive: int
    """0 to 20 in the training set."""
    track: int
    """Which object of the drive it is."""
    identity: int
    """How often it disappeared before: an object that returns has a new identity."""
    kind: str
    """One of `KITTI_CLASSES`."""
    start: int
    """Its first frame in the drive, from 0."""
    boxes: Boxes
    """`(left, top, width, height)` in each frame `(T, 4)`, 0-based pixels."""
    lines: Sequence[int]
    """Where each box stands in the label file; the first line is 1."""
    held_out: bool = False
    """Whether it is in the part of the drive that is held out for testing."""

    @property
    def stop(self) -> int:
        """The frame of the drive before which it ends."""
        return self.start + len(self.boxes)

    @property
    def name(self) -> str:
        """Drive, object, identity and first frame, for instance `0005_27.0_000280`."""
        return f"{self.drive:04}_{self.track}.{self.identity}_{self.start:06}"

    def cut(self, start: int, stop: int) -> "KITTIClip":
        """What lies in the frames from `start` on and before `stop`, which overlap it."""
        first, last = max(start, self.start), min(stop, self.stop)
        chosen = slice(first - self.start, last - self.start)
        return replace(self, start=first, boxes=self.boxes[chosen], lines=self.lines[chosen])


def read_kitti_labels(path: str | os.PathLike[str]) -> list[KITTILabel]:
    """The objects of a drive, in the order of its label file; frames are not needed.

    A line has 17 columns, separated by spaces: `frame track type truncated occluded alpha left top right
    bottom height width length x y z rotation`. The corners are taken as positions, so that a box is `right -
    left` wide. `Person`, which the files have for what their description calls `Person_sitting`, is that.
    Lines of `DontCare` are checked and left out.

    Raises:
        DataError: if the file cannot be read, or a line is not as it should be; the message names file and
            line.
    """
    labels: list[KITTILabel] = []
    kinds: dict[int, str] = {}
    lines: dict[tuple[int, int], int] = {}
    for line, text in annotation_lines(Path(path), "utf-8"):
        try:
            label = _parse(line, text.split())
            if label is None:
                continue
            if (before := lines.setdefault((label.frame, label.track), line)) != line:
                raise DataError(f"track {label.track} is in frame {label.frame} on line {before} already.")
            if (kind := kinds.setdefault(label.track, label.kind)) != label.kind:
                raise DataError(f"track {label.track} is a {label.kind}, but a {kind} before.")
        except DataError as error:
            raise DataError(f"{path}, line {line}: {error}") from None
        labels.append(label)
    return labels


def kitti_tracks(
    labels: Sequence[KITTILabel],
    drive: int,
    *,
    classes: Sequence[str] = KITTI_CLASSES,
    max_occlusion: int = 1,
    max_truncation: int = 1,
    min_side: float = 0.0,
) -> list[KITTIClip]:
    """The objects of a drive, each for as long as it is there without a gap, sorted by track and start.

    An object is absent in the frames in which it has no label, or one that is not accepted.

    Args:
        labels: of the drive.
        drive: its number.
        classes: objects of others are absent.
        max_occlusion: objects that are hidden more than this are absent, see `KITTILabel.occluded`.
        max_truncation: objects that are outside the frame more than this are absent, see
            `KITTILabel.truncated`.
        min_side: objects of which width or height is less, in pixels, are absent.
    """
    tracks: dict[int, list[KITTILabel]] = defaultdict(list)
    for label in sorted(labels, key=lambda label: (label.track, label.frame)):
        if (
            label.kind in classes
            and label.occluded <= max_occlusion
            and label.truncated <= max_truncation
            and min(label.box[2:]) >= min_side
        ):
            tracks[label.track].append(label)
    clips = []
    for track, present in tracks.items():
        gaps = [
            place for place in range(1, len(present)) if present[place].frame > present[place - 1].frame + 1
        ]
        for identity, (first, last) in enumerate(zip([0, *gaps], [*gaps, len(present)], strict=True)):
            piece = present[first:last]
            boxes, lines = np.array([label.box for label in piece]), [label.line for label in piece]
            clips.append(KITTIClip(drive, track, identity, piece[0].kind, piece[0].frame, boxes, lines))
    return clips


def kitti_windows(tracks: Sequence[KITTIClip], frames: int, *, cut: bool) -> list[KITTIClip]:
    """The clips of a drive that HART is trained and tested on, sorted by start.

    Frames without any object divide a drive into pieces. With `cut`, the first 80 % of the frames of each
    (and a single last one) are for training, and the others for testing. Each part is cut into windows of
    `frames` frames that begin `frames - frames // 2` after each other; a part that is not longer is one
    window, and an incomplete window at the end is left out. Every object in the first frame of a window gives
    a clip, which ends with the window or before the first frame in which the object is absent; clips of one
    frame are left out.

    Args:
        tracks: of one drive, see `kitti_tracks`.
        frames: T, most frames of a clip.
        cut: cut the pieces in time; clips from the later parts are `held_out`.
    """
    clips = []
    for first, stop, held_out in _stretches(tracks, cut):
        for start in window_starts(stop - first, frames):
            begin, end = first + start, min(first + start + frames, stop)
            there = [track.cut(begin, end) for track in tracks if track.start <= begin < track.stop]
            clips += [replace(clip, held_out=held_out) for clip in there if len(clip.boxes) > 1]
    return clips


def window_starts(length: int, frames: int) -> list[int]:
    """Where windows of `frames` frames begin in `length` frames, see `kitti_windows`."""
    if length <= frames:
        return [0]
    return list(range(0, length - frames + 1, frames - frames // 2))


def temporal_split(clips: Sequence[KITTIClip]) -> tuple[Rows, Rows]:
    """The clips for training and for testing of drives that were cut in time; ascending indices, int64.

    This is HART's split. All drives are in both, and some objects are too, so that it says little about other
    streets: for that there is `drive_split`.
    """
    held_out = np.array([clip.held_out for clip in clips], bool)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def drive_split(groups: Rows, test: Sequence[int]) -> tuple[Rows, Rows]:
    """The clips of all other drives, for training, and those of some; ascending indices, int64.

    Args:
        groups: the drive of each clip `(M,)`, see `VideoData.groups`.
        test: the drives to test on.

    Raises:
        ValueError: if one of `test` has no clip, or no others have.
    """
    groups = np.asarray(groups)
    missing = np.setdiff1d(test, groups)
    chosen = np.isin(groups, test)
    if len(missing) or not chosen.any() or chosen.all():
        raise ValueError(f"`test` must be some of the drives {np.unique(groups).tolist()}, got {list(test)}.")
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _parse(line: int, words: Sequence[str]) -> KITTILabel | None:
    """The object that the words of a line describe; None for `DontCare`.

    Raises:
        DataError: if they describe none.
    """
    if len(words) != _COLUMNS:
        raise DataError(f"expected {_COLUMNS} columns, got {len(words)}.")
    kind = "Person_sitting" if words[2] == "Person" else words[2]
    if kind not in (*KITTI_CLASSES, "DontCare"):
        raise DataError(f"`type` must be one of {', '.join(KITTI_CLASSES)} or DontCare, got {kind!r}.")
    try:
        frame, track, truncated, occluded = (integer(words[column]) for column in (0, 1, 3, 4))
    except ValueError:
        found = " ".join(words[:5])
        raise DataError(
            f"`frame`, `track`, `truncated` and `occluded` must be integers, got {found!r}."
        ) from None
    try:
        numbers = [number(word) for word in words[5:]]
    except ValueError as error:
        raise DataError(f"columns 6 to {_COLUMNS} must be numbers: {error}.") from None
    if frame < 0:
        raise DataError(f"`frame` must not be negative, got {frame}.")
    if kind == "DontCare":
        if track != -1:
            raise DataError(f"`track` must be -1 for DontCare, got {track}.")
        return None
    for name, value, most in (("truncated", truncated, 2), ("occluded", occluded, 3)):
        if not 0 <= value <= most:
            raise DataError(f"`{name}` must be 0 to {most}, got {value}.")
    if track < 0:
        raise DataError(f"`track` must not be negative, got {track}.")
    left, top, right, bottom = numbers[1:5]
    if right <= left or bottom <= top:
        raise DataError(f"the box (left, top, right, bottom) `{' '.join(words[6:10])}` has no area.")
    return KITTILabel(line, frame, track, kind, truncated, occluded, (left, top, right - left, bottom - top))


def _stretches(tracks: Sequence[KITTIClip], cut: bool) -> Iterator[tuple[int, int, bool]]:
    """Consecutive frames with objects: the first, the one after the last, and whether they are held out."""
    frames = sorted({frame for track in tracks for frame in range(track.start, track.stop)})
    gaps = [place for place in range(1, len(frames)) if frames[place] > frames[place - 1] + 1]
    for first, last in zip([0, *gaps], [*gaps, len(frames)], strict=True):
        if first == last:
            continue
        start, length = frames[first], last - first
        kept = round(_TRAIN_FRACTION * length) if cut else length
        if length - kept == 1:
            kept = length
        yield start, start + kept, False
        if kept < length:
            yield start + kept, start + length, True
