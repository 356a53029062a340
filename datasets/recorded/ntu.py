"""NTU RGB+D: videos of 60 (or 120) actions with the joints of up to two people, read as they are needed.

Source: Shahroudy, Liu, Ng & Wang, *NTU RGB+D: A Large Scale Dataset for 3D Human Activity Analysis*, 2016.
"""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ... import checks
from ...files import user_path
from ..errors import DataError
from ..feeding.action_clips import ActionFrames
from ..feeding.group_split import Rows
from ..opening.claims import naming
from ..opening.film import film_pictures
from ..opening.text import read_text

NTU_JOINTS = 25
"""Joints of a person."""
NTU_SIZE = (1080, 1920)
"""Height and width of the videos, which the joints' places are measured in."""
CROSS_SUBJECT = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
"""People to train on in the protocol cross-subject; all others, the fortieth too, are for testing."""
CROSS_VIEW = (2, 3)
"""Cameras to train on in the protocol cross-view."""

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_PEOPLE = 2
_COLUMNS = 12
# Kinect's second numbering: spine and head 0 to 3 and 20; arms from 4 (left) and 8 (right), legs from 12 and
# 16; tip of the hand and thumb 21, 22 (left) and 23, 24 (right).
_MIRRORED = (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22)


class NTUClip(NamedTuple):
    """One video."""

    video: Path
    """`S001C002P003R002A013_rgb.avi`."""
    skeleton: Path | None
    """`S001C002P003R002A013.skeleton`, where there is one."""
    camera: int
    """C, from 1."""
    person: int
    """P, from 1."""
    action: int
    """A - 1, from 0."""


class NTUActions:
    """The videos of a folder, however deep, as a source of clips: `ActionSource`.

    Videos are those whose names say scene, camera, person, repetition and action, as published, and end in
    `.avi`; beside them, or anywhere in the folder, are the skeletons, `.skeleton`. Videos without one, of
    which there are 302, are left out, unless none has one.

    The first skeleton's frames tell how long a video is, so that none is opened before it is needed. Frames
    of all videos are resized to `size` by averaging over areas.

    Args:
        folder: where they are.
        size: height and width; 256 x 256 is published.

    Raises:
        DataError: if there are none, or a skeleton cannot be read.
    """

    def __init__(self, folder: str | os.PathLike[str], size: tuple[int, int] = (256, 256)) -> None:
        checks.at_least(1, size=size)
        root = user_path(folder)
        if not root.is_dir():
            raise DataError(f"{folder}: no such folder.")
        skeletons = {path.stem: path for path in root.rglob("*.skeleton")}
        clips = [
            NTUClip(path, skeletons.get(found[0]), int(found[2]), int(found[3]), int(found[5]) - 1)
            for path in sorted(root.rglob("*.avi"))
            if (found := _NAME.match(path.name))
        ]
        if not clips:
            raise DataError(f"{folder}: expected videos such as S001C002P003R002A013_rgb.avi, found none.")
        self.clips = [clip for clip in clips if clip.skeleton] if skeletons else clips
        """The videos, sorted by name."""
        if not self.clips:
            raise DataError(f"{folder}: no skeleton belongs to a video, by their names.")
        self.names = np.array([clip.video.stem for clip in self.clips])
        self.shape = (3, *size)
        self.labels: npt.NDArray[np.int64] = np.array([clip.action for clip in self.clips], np.int64)
        self.lengths: npt.NDArray[np.int64] = np.array([_length(clip) for clip in self.clips], np.int64)

    def split(self, protocol: Literal["cross-subject", "cross-view"]) -> tuple[Rows, Rows]:
        """The videos to train and to test on, ascending indices.

        Raises:
            ValueError: if it is another protocol.
        """
        checks.one_of(("cross-subject", "cross-view"), protocol=protocol)
        people = protocol == "cross-subject"
        of = np.array([clip.person if people else clip.camera for clip in self.clips])
        train = np.isin(of, CROSS_SUBJECT if people else CROSS_VIEW)
        return np.flatnonzero(train), np.flatnonzero(~train)

    def frames(self, index: int, numbers: npt.NDArray[np.int64]) -> ActionFrames:
        """See `ActionSource.frames`.

        Raises:
            DataError: if the video or its skeleton cannot be read, or has fewer frames.
        """
        clip, size = self.clips[index], (self.shape[1], self.shape[2])
        video = pictures_of(clip.video, numbers, size)
        if clip.skeleton is None:
            return ActionFrames(video)
        joints = read_ntu_skeleton(clip.skeleton)[numbers]
        scale = np.array([size[1] / NTU_SIZE[1], size[0] / NTU_SIZE[0]], np.float32)
        return ActionFrames(video, (joints + np.float32(0.5)) * scale - np.float32(0.5), _MIRRORED)


def pictures_of(path: Path, numbers: npt.NDArray[np.int64], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Some frames of a film `(n, 3, *size)`, of ascending numbers; those after are not decoded.

    Raises:
        DataError: if it cannot be read, or has fewer frames.
    """
    wanted, found = set(numbers.tolist()), []
    with closing(film_pictures(path)) as pictures:  # type: ignore[type-var]
        for number, picture in enumerate(pictures):
            if number in wanted:
                small = picture.convert("RGB").resize((size[1], size[0]), Image.Resampling.BOX)
                found.append(np.asarray(small).transpose(2, 0, 1))
            if number >= numbers[-1]:
                break
    if len(found) < len(wanted):
        raise DataError(f"{path}: has fewer frames than the {int(numbers[-1]) + 1} that are expected.")
    return np.stack(found)


def count_pictures(path: Path) -> int:
    """How many frames a film has, which only decoding it tells.

    Raises:
        DataError: if it cannot be read.
    """
    return sum(1 for _ in film_pictures(path))


def read_ntu_skeleton(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """The joints of up to two people `(T, 2, 25, 2)`, x and y in pixels of the colour videos.

    People are in the order in which the file has them, others than the first two are left out; who is not
    there is NaN. Coordinates that the file has as NaN are 0, as in the released program.

    Raises:
        DataError: if the file cannot be read; the message names the line.
    """
    text = read_text(user_path(path), "ascii").splitlines()
    lines = enumerate(text, start=1)
    with naming(path):
        frames = _count(lines, "frames", len(text))
        joints = np.full((frames, _PEOPLE, NTU_JOINTS, 2), np.nan, np.float32)
        for frame in range(frames):
            for person in range(_count(lines, "bodies", len(text))):
                _numbers(lines, 1)  # what is known of the body as a whole
                count = _numbers(lines, 1)[0]
                if count != NTU_JOINTS:
                    raise DataError(f"frame {frame} must have {NTU_JOINTS} joints, got {count:g}.")
                places = np.array([_numbers(lines, _COLUMNS)[5:7] for _ in range(NTU_JOINTS)], np.float32)
                if person < _PEOPLE:
                    joints[frame, person] = np.nan_to_num(places, posinf=0.0, neginf=0.0)
    return joints


def _length(clip: NTUClip) -> int:
    if clip.skeleton is None:
        return count_pictures(clip.video)
    with open(clip.skeleton, "rb") as file:
        head = file.readline(32)
    try:
        length = int(head)
    except ValueError:
        length = 0
    if length < 1:
        raise DataError(f"{clip.skeleton}: expected a number of frames in line 1, got {head[:20]!r}.")
    return length


def _count(lines: Iterator[tuple[int, str]], what: str, limit: int) -> int:
    """The number in the next line, of what takes a line each of a file that has `limit`."""
    value = _numbers(lines, 1)[0]
    if not (0 <= value <= limit and value.is_integer()):
        raise DataError(f"expected a number of {what} from 0 to {limit}, got {value:g}.")
    return int(value)


def _numbers(lines: Iterator[tuple[int, str]], least: int) -> list[float]:
    """The numbers of the next line."""
    number, line = next(lines, (0, None))
    if line is None:
        raise DataError("ends before all of its frames.")
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) < least:
        raise DataError(f"line {number}: expected at least {least} numbers, got {line[:40]!r}.")
    return values
