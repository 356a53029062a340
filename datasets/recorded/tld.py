"""The sequences of Tracking-Learning-Detection, in which the target is out of view for a while.

Source: Kalal, Mikolajczyk and Matas (2012), Tracking-Learning-Detection.
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...files import user_path
from ..errors import DataError
from ..opening.picture import is_image
from ..storage.video import VideoData
from .target_clips import (
    ClipFrames,
    ImageFiles,
    OnBad,
    Size,
    TargetClip,
    TargetClips,
    VideoFile,
    check_size,
    consecutive,
    load_target_clips,
    numbered_images,
    only_film,
    read_rectangles,
    reporting,
    sequence_folders,
    target_parts,
)


def load_tld(
    folder: str | os.PathLike[str],
    *,
    size: Size = (240, 320),
    grey: bool = False,
    sequences: Sequence[str] | None = None,
    skip_bad: bool = False,
) -> TargetClips:
    """All sequences of a folder in memory; `tld_parts` needs less.

    A sequence is a folder with lines `left,top,right,bottom` in `gt.txt`, one for each frame and four times
    `NaN` where the target is out of view; its frames are image files in `img/` or beside `gt.txt`, whose
    names end with their numbers, or else one video file. Other files and folders are left alone.

    The corners are taken as positions, so that a box is `right - left` wide. (The authors' program counts
    pixels from 1 and inclusively: such boxes would begin one pixel before, and be larger by 1.)

    Labels, as in `VideoData`; the sequences are sorted by name.

    - `boxes`: one object, the target, in pixels of the resized frames; zeros where it is out of view.
    - `count`: 1 in the frames that show it; T is the length of the longest sequence, and the others end with
      black frames without the target.
    - `visible`: the fraction of the box inside the frame.
    - `groups`: the sequence, from 0.
    - `names`: the name of its folder.

    Args:
        folder: one sequence, or the folder of all.
        size: height and width to which frames are resized by averaging over areas, without keeping their
            ratio of width to height, and boxes with them.
        grey: one channel (ITU-R 601 luma) instead of three.
        sequences: the names of the sequences to take; by default all.
        skip_bad: leave out sequences that cannot be used, and list them in the result, instead of stopping.

    Raises:
        DataError: if there are no sequences, or one cannot be used: its first frame does not show the target,
            or there are not as many frames as boxes; the message names the file, and the line.
        RuntimeError: if a video file is to be read and PyAV is not installed.
        ValueError: if `size` is not positive.
    """
    check_size(size)
    return load_target_clips(
        partial(_clips, user_path(folder), sequences), size, grey=grey, skip_bad=skip_bad
    )


def tld_parts(
    folder: str | os.PathLike[str],
    *,
    size: Size = (240, 320),
    grey: bool = False,
    sequences: Sequence[str] | None = None,
    on_bad: OnBad = None,
) -> Iterator[VideoData]:
    """The sequences of `load_tld` in small parts, for `save_video_parts`.

    Args:
        folder: as in `load_tld`.
        size: as in `load_tld`.
        grey: as in `load_tld`.
        sequences: as in `load_tld`.
        on_bad: is called with what is wrong with a sequence, which is then left out; by default a bad
            sequence is an error.

    Raises:
        DataError: as in `load_tld`.
        RuntimeError: if a video file is to be read and PyAV is not installed.
        ValueError: if `size` is not positive.
    """
    check_size(size)
    return target_parts(_clips(user_path(folder), sequences, on_bad), size, grey=grey, on_bad=on_bad)


def _clips(root: Path, sequences: Sequence[str] | None, on_bad: OnBad) -> list[TargetClip]:
    clips: list[TargetClip] = []
    folders = sequence_folders(
        root, lambda path: (path / "gt.txt").exists() or (path / "img").is_dir(), sequences
    )
    for group, folder in enumerate(folders):
        with reporting(on_bad):
            corners, lines = read_rectangles(folder / "gt.txt")
            frames = _frames(folder)
            boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
            clips.append(TargetClip(folder.resolve().name, group, frames, boxes, folder / "gt.txt", lines))
    if not clips:
        raise DataError(f"{root}: none of the {len(folders)} sequences can be used.")
    return clips


def _frames(folder: Path) -> ClipFrames:
    """Image files if there are any, or else a video file."""
    for place in (folder / "img", folder):
        if place.is_dir() and any(map(is_image, place.iterdir())):
            return ImageFiles(consecutive(numbered_images(place)))
    return VideoFile(only_film(folder))
