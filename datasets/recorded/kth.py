"""The KTH actions: people who walk, jog and run, with a box around the person in every frame.

The videos (Schuldt, Laptev and Caputo, 2004, Recognizing human actions: a local SVM approach) are files of
their own, `person01_walking_d1_uncomp.avi`, in one folder, each with several clips; the boxes (Jiang, Lin and
Davis, 2012, Recognizing human actions by learning and matching shape-motion prototype trees) are a text file,
`KTHBoundingBoxInfo.txt`, with one line for each clip.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...files import user_path
from ..errors import DataError
from ..opening.claims import naming
from ..opening.text import integer, read_text
from ..storage.generated_videos import Bytes
from ..storage.store import part_length
from ..storage.video import VideoData
from .video_file import read_video

KTH_ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
"""All actions; their places in this tuple are their classes."""

LOCOMOTION = ("jogging", "running", "walking")
"""The actions of people who change their place, on which RATM and HART are trained: 1,200 clips."""

SIZE = (120, 160)
"""Height and width of the frames."""

_COLUMNS = ("person", "scenario", "action", "sequence", "start", "end")
_PEOPLE, _SCENARIOS = 25, 4


@dataclass(frozen=True, eq=False)
class KTHClip:
    """A line of the annotation: a part of a video with a box in every frame."""

    line: int
    """Where it stands in the file; the first line is 1."""
    person: int
    """1 to 25."""
    scenario: int
    """1 to 4: outdoors, with changes of size, with other clothes, indoors."""
    action: str
    """One of `KTH_ACTIONS`."""
    sequence: int
    """Number of the clip in its video, from 1."""
    start: int
    """First frame in the video, 0-based."""
    boxes: npt.NDArray[np.float32]
    """`(left, top, width, height)` in each frame `(T, 4)`, float32, 0-based pixels."""

    @property
    def stop(self) -> int:
        """The frame of the video before which the clip ends."""
        return self.start + len(self.boxes)

    @property
    def video(self) -> str:
        """Name of the video's file."""
        return f"person{self.person:02}_{self.action}_d{self.scenario}_uncomp.avi"

    @property
    def name(self) -> str:
        """Name of the clip, for instance `person01_walking_d1_2`."""
        return f"person{self.person:02}_{self.action}_d{self.scenario}_{self.sequence}"


class KTHVideos(NamedTuple):
    """Clips, and what was wrong with those that are missing."""

    data: VideoData
    """The clips."""
    skipped: list[str]
    """What was wrong with each clip that was left out."""


def read_kth_annotation(path: str | os.PathLike[str]) -> list[KTHClip]:
    """The clips of an annotation file, in its order; videos are not needed.

    A line has integers `person scenario action sequence start end`, then `y1 x1 y2 x2` for each of the frames
    `start` to `end`, which count from 1 and are inclusive. Empty lines are left alone, and before the first
    clip lines that do not begin with a number, the head of the published file.

    The corners are taken as positions, so that a box is `x2 - x1` wide, as in the authors' programs of RATM
    and HART. (They go from 1 to 160 and 120: as numbers of pixels, counted from 1 and inclusive, they would
    give boxes that begin one pixel before and are larger by 1.)

    Args:
        path: the text file, compressed if its name ends in `.gz`.

    Raises:
        DataError: if the file cannot be read, or a line is not as it should be; the message names file and
            line.
    """
    clips: dict[str, KTHClip] = {}
    for line, text in enumerate(read_text(path).split("\n"), 1):
        words = text.split()
        if not words or not (clips or words[0].lstrip("+-").isdecimal()):
            continue
        with naming(f"{path}, line {line}"):
            clip = _parse(line, words)
            if clip.name in clips:
                raise DataError(f"{clip.name} is on line {clips[clip.name].line} already.")
        clips[clip.name] = clip
    if not clips:
        raise DataError(f"{path}: expected lines `{' '.join(_COLUMNS)} y1 x1 y2 x2 ...`, there is none.")
    return list(clips.values())


def load_kth(
    videos: str | os.PathLike[str],
    annotation: str | os.PathLike[str],
    *,
    actions: Sequence[str] = LOCOMOTION,
    skip_bad: bool = False,
) -> KTHVideos:
    """All clips of some actions in memory: grey frames of 120 x 160 pixels.

    Labels, as in `VideoData`; the clips are sorted by person, scenario, action and sequence.

    - `boxes`: one object, the person, see `read_kth_annotation`.
    - `count` and `visible`: 1 in the frames of a clip; T is the length of the longest clip, and the others
      end with black frames without a person.
    - `classes`: the action's place in `KTH_ACTIONS`.
    - `groups`: the person, 1 to 25.
    - `names`: `person01_walking_d1_2` is clip 2 of the video `person01_walking_d1_uncomp.avi`.

    The 1,200 clips of `LOCOMOTION` take 1.1 GB of memory where pages that nothing is written to cost nothing
    (elsewhere 3.9 GB); `kth_parts` needs less.

    Args:
        videos: the folder of the video files.
        annotation: the file of boxes.
        actions: some of `KTH_ACTIONS`.
        skip_bad: leave out clips whose video is missing, cannot be read or is too short, and list them in the
            result, instead of stopping.

    Raises:
        DataError: if the annotation or a video is missing, cannot be read, is not of 160 x 120 pixels, or has
            fewer frames than the annotation; the message names file and line.
        RuntimeError: if PyAV is not installed.
        ValueError: if an action is unknown, or there are none.
    """
    skipped: list[str] = []
    clips = _chosen(videos, annotation, actions)
    on_bad = skipped.append if skip_bad else None
    (data,) = _parts(user_path(videos), annotation, clips, len(clips), on_bad)
    return KTHVideos(data, skipped)


def kth_parts(
    videos: str | os.PathLike[str],
    annotation: str | os.PathLike[str],
    *,
    actions: Sequence[str] = LOCOMOTION,
    on_bad: Callable[[str], object] | None = None,
) -> Iterator[VideoData]:
    """The clips of `load_kth` in small parts, for `save_video_parts`.

    Args:
        videos: as in `load_kth`.
        annotation: as in `load_kth`.
        actions: as in `load_kth`.
        on_bad: is called with what is wrong with a clip, which is then left out; by default a bad clip is an
            error.

    Raises:
        DataError: as in `load_kth`.
        RuntimeError: if PyAV is not installed.
        ValueError: if an action is unknown, or there are none.
    """
    clips = _chosen(videos, annotation, actions)
    rows = part_length((len(clips), _longest(clips), 1, *SIZE))
    return _parts(user_path(videos), annotation, clips, rows, on_bad)


def _parse(line: int, words: Sequence[str]) -> KTHClip:
    """The clip that the words of a line describe.

    Raises:
        DataError: if they describe none.
    """
    try:
        numbers = [integer(word) for word in words]
    except ValueError as error:
        raise DataError(f"{error}.") from None
    if len(numbers) < len(_COLUMNS):
        raise DataError(f"expected `{' '.join(_COLUMNS)}` and boxes, got {len(numbers)} numbers.")
    person, scenario, action, sequence, start, end = numbers[: len(_COLUMNS)]
    for name, value, most in (
        ("person", person, _PEOPLE),
        ("scenario", scenario, _SCENARIOS),
        ("action", action, len(KTH_ACTIONS)),
    ):
        if not 1 <= value <= most:
            raise DataError(f"`{name}` must be 1 to {most}, got {value}.")
    if sequence < 1 or start < 1:
        raise DataError(f"`sequence` and `start` must be at least 1, got {sequence} and {start}.")
    if end < start:
        raise DataError(f"`end` must not be before `start`, {start}, got {end}.")
    expected, found = 4 * (end - start + 1), len(numbers) - len(_COLUMNS)
    if found != expected:
        raise DataError(
            f"expected {expected // 4} boxes of 4 numbers for frames {start} to {end}, {expected} numbers, "
            f"got {found}, {found / 4:g} boxes."
        )
    boxes = _boxes(np.array(numbers[len(_COLUMNS) :], np.int64).reshape(-1, 4), start)
    return KTHClip(line, person, scenario, KTH_ACTIONS[action - 1], sequence, start - 1, boxes)


def _boxes(corners: npt.NDArray[np.int64], start: int) -> npt.NDArray[np.float32]:
    """Boxes `(T, 4)` of corners `y1 x1 y2 x2`.

    Raises:
        DataError: if one has no area or is not inside the frame; `start` is the number of the first frame.
    """
    first, last = corners[:, :2], corners[:, 2:]
    inside = np.all((corners >= 0) & (corners <= SIZE + SIZE), axis=1)
    wrong = np.flatnonzero(~inside | (last <= first).any(1))
    if len(wrong):
        frame = wrong[0]
        reason = "has no area" if inside[frame] else f"is not inside {SIZE[1]} x {SIZE[0]} pixels"
        raise DataError(f"box `{' '.join(map(str, corners[frame]))}` of frame {start + frame} {reason}.")
    return np.concatenate([first[:, ::-1], (last - first)[:, ::-1]], axis=1).astype(np.float32)


def _chosen(
    videos: str | os.PathLike[str], annotation: str | os.PathLike[str], actions: Sequence[str]
) -> list[KTHClip]:
    """The clips of `actions`, sorted."""
    unknown = [action for action in actions if action not in KTH_ACTIONS]
    if unknown or not actions:
        found = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"`actions` must be some of {', '.join(KTH_ACTIONS)}, got {found}.")
    if not user_path(videos).is_dir():
        raise DataError(f"{videos}: no such folder.")
    clips = [clip for clip in read_kth_annotation(annotation) if clip.action in actions]
    if not clips:
        raise DataError(f"{annotation}: expected clips of {', '.join(actions)}, there is none.")
    return sorted(clips, key=lambda clip: (clip.person, clip.scenario, clip.action, clip.sequence))


def _longest(clips: Iterable[KTHClip]) -> int:
    return max(len(clip.boxes) for clip in clips)


def _parts(
    folder: Path,
    annotation: str | os.PathLike[str],
    clips: Sequence[KTHClip],
    rows: int,
    on_bad: Callable[[str], object] | None,
) -> Iterator[VideoData]:
    """The clips with their frames, `rows` at a time."""
    readable = _readable(folder, annotation, clips, on_bad)
    frames, some = _longest(clips), False
    while True:
        # Pages to which nothing is written cost no memory on most systems.
        video = np.zeros((rows, frames, 1, *SIZE), np.uint8)
        present: list[KTHClip] = []
        for clip, pixels in itertools.islice(readable, rows):
            video[len(present), : len(pixels)] = pixels
            present.append(clip)
        if not present:
            break
        some = True
        yield _with_labels(video[: len(present)], present)
    if not some:
        raise DataError(f"{folder}: none of the {len(clips)} clips could be read.")


def _readable(
    folder: Path,
    annotation: str | os.PathLike[str],
    clips: Sequence[KTHClip],
    on_bad: Callable[[str], object] | None,
) -> Iterator[tuple[KTHClip, Bytes]]:
    """The clips whose frames `(T, 1, H, W)` can be read, and these; a video is read once."""
    for name, of_video in itertools.groupby(clips, key=lambda clip: clip.video):
        video = _Video(folder / name)
        for clip in of_video:
            try:
                yield clip, video.frames(clip)
            except DataError as error:
                problem = f"{annotation}, line {clip.line}: {error}"
                if on_bad is None:
                    raise DataError(problem) from error
                on_bad(problem)


class _Video:
    """A video file that is read when it is first needed; what is wrong with it is an error for each clip."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: Bytes | DataError | None = None

    def frames(self, clip: KTHClip) -> Bytes:
        if self.content is None:
            self.content = self._read()
        if isinstance(self.content, DataError):
            raise self.content
        if len(self.content) < clip.stop:
            raise DataError(
                f"{self.path}: has {len(self.content)} frames, "
                f"but frames {clip.start + 1} to {clip.stop} are asked for."
            )
        return self.content[clip.start : clip.stop]

    def _read(self) -> Bytes | DataError:
        try:
            pixels = read_video(self.path, channels=1)
        except DataError as error:
            return error
        height, width = pixels.shape[2:]
        if (height, width) != SIZE:
            return DataError(f"{self.path}: expected {SIZE[1]} x {SIZE[0]} pixels, got {width} x {height}.")
        return pixels


def _with_labels(video: Bytes, clips: Sequence[KTHClip]) -> VideoData:
    boxes = np.zeros((*video.shape[:2], 1, 4), np.float32)
    for row, clip in enumerate(clips):
        boxes[row, : len(clip.boxes), 0] = clip.boxes
    present = boxes[..., 2] > 0
    return VideoData(
        video,
        count=present.sum(-1),
        classes=np.array([[KTH_ACTIONS.index(clip.action)] for clip in clips], np.int64),
        boxes=boxes,
        visible=present.astype(np.float32),
        groups=np.array([clip.person for clip in clips], np.int64),
        names=np.array([clip.name for clip in clips]),
    )
