"""The Object Tracking Benchmark (OTB-2013, OTB-100), from folders of frames and boxes.

Source: Wu, Lim and Yang (2013), Online Object Tracking: A Benchmark; (2015), Object Tracking Benchmark.
"""

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path

import numpy as np

from ...files import user_path
from ..errors import DataError
from ..storage.video import VideoData
from .target_clips import (
    Boxes,
    ImageFiles,
    OnBad,
    Size,
    TargetClip,
    TargetClips,
    check_size,
    consecutive,
    load_target_clips,
    numbered_images,
    read_rectangles,
    reporting,
    sequence_folders,
    target_parts,
)

OTB_RANGES = {
    "blurcar1": (247, 988),
    "blurcar3": (3, 359),
    "blurcar4": (18, 397),
    "david": (300, 770),
    "diving": (1, 215),
    "football1": (1, 74),
    "freeman3": (1, 460),
    "freeman4": (1, 283),
    "tiger1": (6, 354),
}
"""Numbers of the first and last frame with a box, of sequences in which these are not simply all frames."""

_ANNOTATION = re.compile(r"groundtruth_rect(?:\.?([0-9]+))?\.txt")


def load_otb(
    folder: str | os.PathLike[str],
    *,
    size: Size = (240, 320),
    grey: bool = False,
    sequences: Sequence[str] | None = None,
    skip_missing: bool = False,
    skip_bad: bool = False,
) -> TargetClips:
    """All sequences of a folder in memory; `otb_parts` needs less.

    A sequence is a folder with the frames in `img/`, whose names end with their numbers, and with lines
    `left,top,width,height` in `groundtruth_rect.txt`, separated by commas, tabs or spaces. Where it has
    several targets, `groundtruth_rect.1.txt` and so on, each is a clip of its own; empty files among these
    are left alone, and so are other files and folders.

    The files count pixels from 1: `left` and `top` become smaller by 1. Lines of four zeros, or four times
    NaN, are frames in which the target is absent. A target may be partly outside the frame.

    There must be as many frames as boxes, or a box for each frame of the sequence's `OTB_RANGES`.

    Labels, as in `VideoData`; the sequences are sorted by name.

    - `boxes`: one object, the target, in pixels of the resized frames; zeros where it is absent.
    - `count`: 1 in the frames that show it; T is the length of the longest sequence, and the others end with
      black frames without the target.
    - `visible`: the fraction of the box inside the frame.
    - `groups`: the sequence, from 0; all targets of one are one group.
    - `names`: `Basketball`, or `Jogging-1` for the first of several targets.

    Args:
        folder: one sequence, or the folder of all.
        size: height and width to which frames are resized by averaging over areas, without keeping their
            ratio of width to height, and boxes with them.
        grey: one channel (ITU-R 601 luma) instead of three.
        sequences: the names of the sequences to take, as their folders are called; by default all.
        skip_missing: where a frame of a sequence is missing, end the sequence before it, instead of stopping.
        skip_bad: leave out sequences that cannot be used, and list them in the result, instead of stopping.

    Raises:
        DataError: if there are no sequences, or one cannot be used; the message names the file, and the line.
        ValueError: if `size` is not positive.
    """
    check_size(size)
    find = partial(_clips, user_path(folder), sequences, skip_missing)
    return load_target_clips(find, size, grey=grey, skip_bad=skip_bad)


def otb_parts(
    folder: str | os.PathLike[str],
    *,
    size: Size = (240, 320),
    grey: bool = False,
    sequences: Sequence[str] | None = None,
    skip_missing: bool = False,
    on_bad: OnBad = None,
) -> Iterator[VideoData]:
    """The sequences of `load_otb` in small parts, for `save_video_parts`.

    Args:
        folder: as in `load_otb`.
        size: as in `load_otb`.
        grey: as in `load_otb`.
        sequences: as in `load_otb`.
        skip_missing: as in `load_otb`.
        on_bad: is called with what is wrong with a sequence, which is then left out; by default a bad
            sequence is an error.

    Raises:
        DataError: as in `load_otb`.
        ValueError: if `size` is not positive.
    """
    check_size(size)
    return target_parts(
        _clips(user_path(folder), sequences, skip_missing, on_bad), size, grey=grey, on_bad=on_bad
    )


def _clips(
    root: Path, sequences: Sequence[str] | None, skip_missing: bool, on_bad: OnBad
) -> list[TargetClip]:
    clips: list[TargetClip] = []
    folders = sequence_folders(
        root, lambda path: bool(_annotations(path)) or (path / "img").is_dir(), sequences
    )
    for group, folder in enumerate(folders):
        # Once for all of its targets, so that what is wrong with the frames is told once.
        with reporting(on_bad):
            annotations = _annotations(folder) or {"": folder / "groundtruth_rect.txt"}
            clips += [
                _clip(folder, number, path, group, skip_missing) for number, path in annotations.items()
            ]
    if not clips:
        raise DataError(f"{root}: none of the {len(folders)} sequences can be used.")
    return clips


def _annotations(folder: Path) -> dict[str, Path]:
    """The files of boxes by the number of their target, empty for the only one."""
    names = {path: _ANNOTATION.fullmatch(path.name) for path in folder.iterdir() if path.is_file()}
    files = {match[1] or "": path for path, match in sorted(names.items()) if match}
    # Human4 is published with an empty file beside the one of its only target.
    return {number: path for number, path in files.items() if path.read_bytes().strip()}


def _clip(folder: Path, number: str, annotation: Path, group: int, skip_missing: bool) -> TargetClip:
    boxes, lines = read_rectangles(annotation)
    if not (folder / "img").is_dir():
        raise DataError(f"{folder / 'img'}: no such folder.")
    images = numbered_images(folder / "img")
    if not images:
        raise DataError(f"{folder / 'img'}: expected image files, there is none.")
    name = folder.resolve().name
    frames = _annotated(name, len(boxes), images, skip_missing)
    if not frames:
        raise DataError(f"{annotation}: {len(boxes)} boxes, but there are {len(images)} frames.")
    return TargetClip(
        f"{name}-{number}" if number else name,
        group,
        ImageFiles(frames),
        _zero_based(boxes)[: len(frames)],
        annotation,
        lines[: len(frames)],
    )


def _annotated(name: str, boxes: int, images: dict[int, Path], skip_missing: bool) -> list[Path]:
    """The frames that the boxes belong to, with `skip_missing` perhaps fewer; none if they do not fit."""
    if len(images) == boxes:
        return consecutive(images)
    first, last = OTB_RANGES.get(name.lower(), (1, 0))
    known = last - first + 1 == boxes
    numbers = range(first, last + 1) if known else range(1, boxes + 1)
    frames = [images[number] for number in takewhile(images.__contains__, numbers)]
    complete = known and len(frames) == boxes
    return frames if complete or (skip_missing and len(frames) < boxes) else []


def _zero_based(boxes: Boxes) -> Boxes:
    """Boxes of pixels that count from 0; NaN in the place of zeros."""
    return np.where(boxes.any(axis=1, keepdims=True), boxes - (1, 1, 0, 0), np.nan)
