"""N-UCLA Multiview Action 3D: ten actions seen by three cameras, as frames with skeletons, or as videos.

Source: Wang, Nie, Xia, Wu & Zhu, *Cross-view Action Modeling, Learning and Recognition*, 2014.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ... import checks
from ...files import user_path
from ..errors import DataError
from ..feeding.action_clips import ActionFrames
from ..feeding.group_split import Rows, leave_group_out
from ..opening.claims import naming
from ..opening.picture import read_image
from ..opening.text import read_text
from .folder import as_planes
from .ntu import count_pictures, pictures_of

NUCLA_ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
"""Numbers of the actions in names; their places in this tuple are their classes."""
NUCLA_JOINTS = 20
"""Joints of the person."""
NUCLA_SIZE = (480, 640)
"""Height and width of the frames."""

_FOLDER, _VIDEO = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)$"), re.compile(r"v(\d\d)_s(\d\d)_e(\d\d)\.avi$")
_FRAME = re.compile(r"frame_(\d+)_tc_\d+_rgb\.jpg$")
# Kinect's first numbering: the middle 0 to 3; arms from 4 (left) and 8 (right), legs from 12 and 16.
_MIRRORED = (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15)
_FOCAL = 571.26  # of the first Kinect, in pixels of frames of 640 x 480


class NUCLAClip(NamedTuple):
    """One video."""

    path: Path
    """The video file, or the folder of frames."""
    frames: tuple[Path, ...]
    """The frames in order; none where there is a video file."""
    view: int
    """Camera, from 1."""
    person: int
    """From 1."""
    action: int
    """Class, from 0."""


class NUCLAActions:
    """The videos of a folder as a source of clips: `ActionSource`.

    Both published layouts are read: frames, `view_1/a01_s01_e00/frame_1_tc_123_rgb.jpg`, with skeletons
    `frame_1_tc_123_skeletons.txt` beside them; and videos, `a01/v01_s01_e00.avi`, without.

    Skeletons are in metres before the camera. They are projected into the frame by the nominal focal length
    of the first Kinect, as if its cameras for depth and colour were one; the data set tells nothing better.

    Args:
        folder: where `view_1` to `view_3`, or `a01` to `a12`, are.
        size: height and width, to which frames are resized by averaging over areas.

    Raises:
        DataError: if there are none.
    """

    def __init__(self, folder: str | os.PathLike[str], size: tuple[int, int] = (256, 256)) -> None:
        checks.at_least(1, size=size)
        root = user_path(folder)
        if not root.is_dir():
            raise DataError(f"{folder}: no such folder.")
        self.clips = _frame_clips(root) or _video_clips(root)
        """The videos, sorted by name."""
        if not self.clips:
            raise DataError(
                f"{folder}: expected frames such as view_1/a01_s01_e00/frame_1_tc_123_rgb.jpg, or videos "
                "such as a01/v01_s01_e00.avi, found none."
            )
        self.names = np.array([clip.path.relative_to(root).as_posix() for clip in self.clips])
        self.shape = (3, *size)
        self.labels: npt.NDArray[np.int64] = np.array([clip.action for clip in self.clips], np.int64)
        lengths = [len(clip.frames) or count_pictures(clip.path) for clip in self.clips]
        self.lengths: npt.NDArray[np.int64] = np.array(lengths, np.int64)

    def split(self, view: int = 3) -> tuple[Rows, Rows]:
        """The videos to train on, of the other cameras, and those to test on, of one; ascending indices.

        Raises:
            ValueError: if no video is of this camera, or all are.
        """
        return leave_group_out(np.array([clip.view for clip in self.clips]), view)

    def frames(self, index: int, numbers: npt.NDArray[np.int64]) -> ActionFrames:
        """See `ActionSource.frames`.

        Raises:
            DataError: if a frame or a skeleton cannot be read.
        """
        clip, size = self.clips[index], (self.shape[1], self.shape[2])
        if not clip.frames:
            return ActionFrames(pictures_of(clip.path, numbers, size))
        paths = [clip.frames[number] for number in numbers]
        skeletons = (path.with_name(path.name.replace("_rgb.jpg", "_skeletons.txt")) for path in paths)
        joints = np.stack([read_nucla_skeleton(path) for path in skeletons])[:, None]
        scale = np.array([size[1] / NUCLA_SIZE[1], size[0] / NUCLA_SIZE[0]], np.float32)
        video = np.stack([_colours(as_planes(read_image(path, size, False))) for path in paths])
        return ActionFrames(video, (joints + np.float32(0.5)) * scale - np.float32(0.5), _MIRRORED)


def read_nucla_skeleton(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """The joints of one frame `(20, 2)`, x and y in pixels of 640 x 480.

    The first line is a heading; then there is a line for each joint, with x, y and z in metres, commas
    between them, and what is left alone. Where the file is missing or has nothing but a heading, or a joint
    is not before the camera, nobody is there, and all are NaN.

    Raises:
        DataError: if the file is otherwise; the message names it.
    """
    nobody = np.full((NUCLA_JOINTS, 2), np.nan, np.float32)
    if not Path(path).is_file():
        return nobody
    lines = [line for line in read_text(path, "ascii").split("\n")[1:] if "," in line][:NUCLA_JOINTS]
    if not lines:
        return nobody
    with naming(path):
        try:
            x, y, z = np.array([[float(word) for word in line.split(",")[:3]] for line in lines]).T
        except ValueError:
            raise DataError("expected x, y and z of each joint, with commas between them.") from None
        if len(x) != NUCLA_JOINTS:
            raise DataError(f"expected {NUCLA_JOINTS} joints, got {len(x)}.")
    if not (z > 0).all():
        return nobody
    height, width = NUCLA_SIZE
    places = np.stack([width / 2 + _FOCAL * x / z, height / 2 - _FOCAL * y / z], axis=-1)
    return places.astype(np.float32)


def _frame_clips(root: Path) -> list[NUCLAClip]:
    clips = []
    for folder in sorted(root.glob("view_[1-9]/a*")):
        if folder.is_dir() and (found := _FOLDER.match(folder.name)) and int(found[1]) in NUCLA_ACTIONS:
            numbered = {int(name[1]): path for path in folder.iterdir() if (name := _FRAME.match(path.name))}
            if numbered:
                frames = tuple(numbered[number] for number in sorted(numbered))
                action = NUCLA_ACTIONS.index(int(found[1]))
                clips.append(NUCLAClip(folder, frames, int(folder.parent.name[5:]), int(found[2]), action))
    return clips


def _video_clips(root: Path) -> list[NUCLAClip]:
    clips = []
    for path in sorted(root.glob("a[0-9][0-9]/v*.avi")):
        action = int(path.parent.name[1:])
        if (found := _VIDEO.match(path.name)) and action in NUCLA_ACTIONS:
            clips.append(NUCLAClip(path, (), int(found[1]), int(found[2]), NUCLA_ACTIONS.index(action)))
    return clips


def _colours(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.broadcast_to(planes, (3, *planes.shape[1:]))
