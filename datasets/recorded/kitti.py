"""KITTI tracking: labels and frames of drives through streets become clips of one object each.

Source: see `kitti_labels`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ... import checks
from ...files import user_path
from ..errors import DataError
from ..storage.generated_videos import Bytes
from ..storage.video import VideoData
from .kitti_labels import KITTI_CLASSES, KITTIClip, KITTILabel, kitti_tracks, kitti_windows, read_kitti_labels
from .target_clips import (
    Channels,
    ImageFiles,
    OnBad,
    Size,
    TargetClip,
    TargetClips,
    check_size,
    load_target_clips,
    numbered_images,
    read_frame,
    reporting,
    target_parts,
)

KITTI_SIZES: dict[int, Size] = {
    **dict.fromkeys(range(14), (375, 1242)),
    **dict.fromkeys(range(14, 18), (370, 1224)),
    18: (374, 1238),
    19: (374, 1238),
    20: (376, 1241),
}
"""Height and width of the published frames of each training drive; the labels are in their pixels."""

Part = Literal["all", "train", "test"]

# Some labels reach beyond the frame by less.
_TOLERANCE = 1.0


@dataclass(frozen=True)
class KITTIRecipe:
    """Which clips are made of the drives; by default those that HART's program trains on at the end.

    Raises:
        ValueError: if a value is out of range.
    """

    frames: int = 30
    """Most frames of a clip; at least 2. HART is trained on 5 to 30, and tested on 60."""
    part: Part = "all"
    """`train` for the first 80 % of the frames of every drive, `test` for the others; `all` does not cut."""
    size: Size = (187, 621)
    """Height and width to which frames are resized, and boxes with them."""
    grey: bool = False
    """One channel (ITU-R 601 luma) instead of three."""
    classes: tuple[str, ...] = KITTI_CLASSES
    """Objects of others are left out."""
    max_occlusion: int = 1
    """Where an object is hidden more than this it counts as absent, see `KITTILabel.occluded`."""
    max_truncation: int = 1
    """Where it is outside the frame more than this it counts as absent, see `KITTILabel.truncated`."""
    min_side: float = 0.0
    """Where its width or height is less, in pixels of the labels, it counts as absent."""

    def __post_init__(self) -> None:
        check_size(self.size)
        checks.at_least(2, self, "frames")
        checks.not_negative(self, "max_occlusion", "max_truncation", "min_side")
        if self.part not in ("all", "train", "test"):
            raise ValueError(f"`part` must be all, train or test, got {self.part!r}.")
        unknown = [kind for kind in self.classes if kind not in KITTI_CLASSES]
        if unknown or not self.classes:
            found = repr(unknown[0]) if unknown else "none"
            raise ValueError(f"`classes` must be some of {', '.join(KITTI_CLASSES)}, got {found}.")


_DEFAULT = KITTIRecipe()


def load_kitti(
    folder: str | os.PathLike[str],
    recipe: KITTIRecipe = _DEFAULT,
    *,
    label_sizes: Mapping[int, Size] | None = None,
    skip_missing: bool = False,
    skip_bad: bool = False,
) -> TargetClips:
    """Clips of one object each in memory; `kitti_parts` needs less.

    The folder holds `label_02/0000.txt` and `image_02/0000/000000.png`, perhaps in `training/`; or folders
    `0000` of a `label_02.txt` and `image_02/000000.png` each. Frames are known by the numbers in their names.

    Labels, as in `VideoData`; clips are sorted by drive, start and track, see `kitti_windows`.

    - `boxes`: one object, in pixels of the resized frames.
    - `count`: 1 in the frames of a clip; T is the length of the longest, and the others end with black frames
      without the object.
    - `visible`: the fraction of the box inside the frame.
    - `classes`: the object's place in `KITTI_CLASSES`.
    - `groups`: the drive, 0 to 20 in the training set.
    - `names`: see `KITTIClip.name`.

    Args:
        folder: where the files are.
        recipe: which clips are made.
        label_sizes: (height, width) of frames in whose pixels the labels of a drive are, for drives whose
            frames were resized after they were labelled: `KITTI_SIZES`, if they are KITTI's. By default, and
            for other drives, labels are in pixels of the frames that are there.
        skip_missing: leave out clips that lack frames, instead of stopping.
        skip_bad: leave out drives whose labels cannot be used or whose frames are missing, and clips whose
            frames cannot be used, and list them in the result, instead of stopping.

    Raises:
        DataError: if there are no drives or no clips, or labels or frames are missing or cannot be used; the
            message names the file, and the line.
    """
    find = partial(_clips, user_path(folder), recipe, label_sizes or {}, skip_missing)
    return load_target_clips(find, recipe.size, grey=recipe.grey, skip_bad=skip_bad)


def kitti_parts(
    folder: str | os.PathLike[str],
    recipe: KITTIRecipe = _DEFAULT,
    *,
    label_sizes: Mapping[int, Size] | None = None,
    skip_missing: bool = False,
    on_bad: OnBad = None,
) -> Iterator[VideoData]:
    """The clips of `load_kitti` in small parts, for `save_video_parts`.

    Args:
        folder: as in `load_kitti`.
        recipe: as in `load_kitti`.
        label_sizes: as in `load_kitti`.
        skip_missing: as in `load_kitti`.
        on_bad: is called with what is wrong with a drive or clip, which is then left out; by default a bad
            one is an error.

    Raises:
        DataError: as in `load_kitti`.
    """
    clips = _clips(user_path(folder), recipe, label_sizes or {}, skip_missing, on_bad)
    return target_parts(clips, recipe.size, grey=recipe.grey, on_bad=on_bad)


class _Drive(NamedTuple):
    """Where a drive is."""

    number: int
    labels: Path
    images: Path


def _drives(root: Path) -> list[_Drive]:
    """The drives of a folder, ascending."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder.")
    if (root / "training").is_dir():
        root = root / "training"
    if (root / "label_02").is_dir():
        places = {path: root / "image_02" / path.stem for path in (root / "label_02").glob("*.txt")}
        names = {path: path.stem for path in places}
    else:
        places = {path: path.parent / "image_02" for path in root.glob("*/label_02.txt")}
        names = {path: path.parent.name for path in places}
    drives = [_Drive(int(names[path]), path, places[path]) for path in places if names[path].isdecimal()]
    if not drives:
        raise DataError(f"{root}: expected label_02/0000.txt, or 0000/label_02.txt, there is no drive.")
    return sorted(drives)


class _DriveLabels:
    """All boxes of a drive, by which frames that were resized after they were labelled are recognised."""

    def __init__(self, path: Path, labels: Sequence[KITTILabel]) -> None:
        self.path, self.lines = path, [label.line for label in labels]
        boxes = np.array([label.box for label in labels]).reshape(-1, 4)
        self.corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)

    def check(self, size: Size) -> None:
        """Refuses boxes that are not inside frames of `size`."""
        height, width = size
        last = self.corners[:, 2:] - (width, height)
        outside = np.flatnonzero((self.corners[:, :2] < -_TOLERANCE).any(1) | (last > _TOLERANCE).any(1))
        if len(outside):
            corners = " ".join(f"{number:g}" for number in self.corners[outside[0]])
            raise DataError(
                f"{self.path}, line {self.lines[outside[0]]}: the box (left, top, right, bottom) `{corners}` "
                f"is not inside the {width} x {height} pixels of the frames; if they were resized after they "
                "were labelled, give `label_sizes`."
            )


@dataclass(frozen=True)
class _DriveFrames:
    """The frames of a clip, which must be large enough for all labels of its drive."""

    files: ImageFiles
    labels: _DriveLabels
    label_size: Size | None

    def read(self, size: Size, channels: Channels) -> tuple[Bytes, Size]:
        """See `ClipFrames`."""
        frames, stored = self.files.read(size, channels)
        self.labels.check(self.label_size or stored)
        return frames, stored


def _clips(
    root: Path, recipe: KITTIRecipe, label_sizes: Mapping[int, Size], skip_missing: bool, on_bad: OnBad
) -> list[TargetClip]:
    # Windows overlap, and objects share them: frames are remembered for as long as clips may need them.
    reader = lru_cache(maxsize=recipe.frames)(read_frame)
    drives, found, labelled = _drives(root), [], 0
    for drive in drives:
        with reporting(on_bad):
            labels = read_kitti_labels(drive.labels)
            tracks = kitti_tracks(
                labels,
                drive.number,
                classes=recipe.classes,
                max_occlusion=recipe.max_occlusion,
                max_truncation=recipe.max_truncation,
                min_side=recipe.min_side,
            )
            clips = kitti_windows(tracks, recipe.frames, cut=recipe.part != "all")
            clips = [clip for clip in clips if clip.held_out == (recipe.part == "test")]
            labelled += len(clips)
            images = numbered_images(drive.images) if drive.images.is_dir() else {}
            if not skip_missing:
                _check_frames(drive, clips, images)
            clips = [clip for clip in clips if _missing(clip, images) is None]
            checked, size = _DriveLabels(drive.labels, labels), label_sizes.get(drive.number)
            for clip in clips:
                files = ImageFiles([images[number] for number in range(clip.start, clip.stop)], reader)
                found.append(_target(clip, _DriveFrames(files, checked, size)))
    if not found:
        reason = f"none of {labelled} can be used" if labelled else "the labels have none"
        raise DataError(f"{root}: expected clips in {len(drives)} drives, {reason}.")
    return found


def _missing(clip: KITTIClip, images: Mapping[int, Path]) -> int | None:
    """The first frame of a clip that is not there."""
    return next((number for number in range(clip.start, clip.stop) if number not in images), None)


def _check_frames(drive: _Drive, clips: Sequence[KITTIClip], images: Mapping[int, Path]) -> None:
    for clip in clips:
        if (number := _missing(clip, images)) is not None:
            path, line = drive.images / f"{number:06}.png", clip.lines[number - clip.start]
            raise DataError(f"{path}: no such file, but {drive.labels}, line {line}, has an object in it.")


def _target(clip: KITTIClip, frames: _DriveFrames) -> TargetClip:
    kind, size = KITTI_CLASSES.index(clip.kind), frames.label_size
    return TargetClip(clip.name, clip.drive, frames, clip.boxes, frames.labels.path, clip.lines, kind, size)
