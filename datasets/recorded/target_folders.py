"""Sequences in the layouts of VOT, LaSOT and GOT-10k: a folder of frames with a box or polygon for each.

Sources: Kristan et al. (2016), A Novel Performance Evaluation Methodology for Single-Target Trackers (VOT);
Fan et al. (2019), LaSOT: A High-quality Benchmark for Large-scale Single Object Tracking; Huang, Zhao and
Huang (2021), GOT-10k: A Large High-Diversity Benchmark for Generic Object Tracking in the Wild.
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...files import user_path
from ..errors import DataError
from ..opening.picture import is_image
from ..opening.text import read_text
from ..storage.video import VideoData
from .target_clips import (
    ImageFiles,
    OnBad,
    Size,
    TargetClip,
    TargetClips,
    check_size,
    consecutive,
    load_target_clips,
    numbered_images,
    read_regions,
    reporting,
    sequence_folders,
    target_parts,
)

_REGIONS = "groundtruth.txt"
_IMAGES = ("img", "color", ".")  # of LaSOT, of VOT since 2018, of VOT before and GOT-10k
_ABSENCE = ("absence.label", "full_occlusion.txt", "out_of_view.txt")  # of GOT-10k, of LaSOT


def load_target_folders(
    folder: str | os.PathLike[str],
    *,
    size: Size = (240, 320),
    grey: bool = False,
    sequences: Sequence[str] | None = None,
    origin: float = 0.0,
    skip_bad: bool = False,
) -> TargetClips:
    """All sequences of a folder in memory; `target_folder_parts` needs less.

    A sequence is a folder with a file `groundtruth.txt`, of a line for each frame: `left,top,width,height`,
    the corners `x1,y1,x2,y2,x3,y3,...` of a polygon, of which the box around it is taken, or NaN as many
    times where the target is absent. The frames are image files in `img/`, `color/` or beside it, whose names
    end with their numbers. In frames that have a 1 in `absence.label`, `full_occlusion.txt` or
    `out_of_view.txt`, where there are such files, the target is absent too. Other files are left alone.

    These are the layouts of VOT (boxes and polygons, not masks), LaSOT and GOT-10k. A box of zeros, or one
    without an area, stands for no target.

    Labels, as in `VideoData`, are those of `load_otb`; the sequences are sorted by name.

    Args:
        folder: one sequence, or the folder of all, or of folders of them (LaSOT's categories).
        size: height and width to which frames are resized by averaging over areas, without keeping their
            ratio of width to height, and boxes with them.
        grey: one channel (ITU-R 601 luma) instead of three.
        sequences: the names of the sequences to take; by default all.
        origin: the coordinates of the first pixel's left upper corner; 1 where pixels count from 1.
        skip_bad: leave out sequences that cannot be used, and list them in the result, instead of stopping.

    Raises:
        DataError: if there are no sequences, or one cannot be used: its first frame does not show the target,
            or there are not as many frames as lines; the message names the file, and the line.
        ValueError: if `size` is not positive.
    """
    check_size(size)
    find = partial(_clips, user_path(folder), sequences, origin)
    return load_target_clips(find, size, grey=grey, skip_bad=skip_bad)


def target_folder_parts(
    folder: str | os.PathLike[str],
    *,
    size: Size = (240, 320),
    grey: bool = False,
    sequences: Sequence[str] | None = None,
    origin: float = 0.0,
    on_bad: OnBad = None,
) -> Iterator[VideoData]:
    """The sequences of `load_target_folders` in small parts, for `save_video_parts`.

    Args:
        folder: as in `load_target_folders`.
        size: as in `load_target_folders`.
        grey: as in `load_target_folders`.
        sequences: as in `load_target_folders`.
        origin: as in `load_target_folders`.
        on_bad: is called with what is wrong with a sequence, which is then left out; by default a bad
            sequence is an error.

    Raises:
        DataError: as in `load_target_folders`.
        ValueError: if `size` is not positive.
    """
    check_size(size)
    clips = _clips(user_path(folder), sequences, origin, on_bad)
    return target_parts(clips, size, grey=grey, on_bad=on_bad)


def _clips(root: Path, sequences: Sequence[str] | None, origin: float, on_bad: OnBad) -> list[TargetClip]:
    clips: list[TargetClip] = []
    folders = sequence_folders(root, lambda path: (path / _REGIONS).exists(), sequences)
    for group, folder in enumerate(folders):
        with reporting(on_bad):
            clips.append(_clip(folder, group, origin))
    if not clips:
        raise DataError(f"{root}: none of the {len(folders)} sequences can be used.")
    return clips


def _clip(folder: Path, group: int, origin: float) -> TargetClip:
    annotation = folder / _REGIONS
    boxes, lines = read_regions(annotation)
    boxes = boxes - (origin, origin, 0, 0)
    boxes[~(boxes[:, 2:] > 0).all(1) | _absent(folder, len(boxes))] = np.nan
    for place in (folder / name for name in _IMAGES):
        if place.is_dir() and any(map(is_image, place.iterdir())):
            frames = consecutive(numbered_images(place))
            return TargetClip(folder.resolve().name, group, ImageFiles(frames), boxes, annotation, lines)
    raise DataError(f"{folder}: expected image files in img/, color/ or beside {_REGIONS}, there is none.")


def _absent(folder: Path, frames: int) -> npt.NDArray[np.bool_]:
    """In which frames the target is said to be absent, `(T,)`."""
    absent = np.zeros(frames, bool)
    for path in (folder / name for name in _ABSENCE):
        if not path.is_file():
            continue
        words = read_text(path).replace(",", " ").split()
        if len(words) != frames or not {"0", "1"}.issuperset(words):
            raise DataError(f"{path}: expected {frames} times 0 or 1, as there are lines in {_REGIONS}.")
        absent |= np.array(words) == "1"
    return absent
