"""Videos of several objects with a box for each become clips of one object each.

A scene is a folder with a table of boxes, `boxes.csv`, beside its frames: the layout to which annotations of
other formats are easily brought.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ... import checks
from ...files import user_path
from ..errors import DataError
from ..opening.picture import is_image
from ..storage.video import VideoData
from .boxes_file import TABLE, FrameBox, read_objects
from .target_clips import (
    ClipFrames,
    ImageFiles,
    OnBad,
    Size,
    TargetClip,
    TargetClips,
    VideoFile,
    check_size,
    load_target_clips,
    numbered_images,
    only_film,
    read_frame,
    reporting,
    sequence_folders,
    target_parts,
)

# The second is KITTI's.
_IMAGES = ("img", "image_02", ".")


@dataclass(frozen=True)
class SceneRecipe:
    """Which clips are made of the objects of a scene.

    Raises:
        ValueError: if a value is out of range.
    """

    frames: int = 60
    """Most frames of a clip."""
    min_frames: int = 5
    """Fewest frames of a clip; shorter ones are left out."""
    size: Size = (240, 320)
    """Height and width to which frames are resized by averaging over areas, without keeping their ratio of
    width to height, and boxes with them."""
    grey: bool = False
    """One channel (ITU-R 601 luma) instead of three."""
    min_side: float = 0.0
    """Where an object's width or height is less, in pixels of the frames before they are resized, it counts
    as absent."""
    first_number: int = 0
    """The number in the name of the image that is frame 0; 1 if the images are numbered from 1."""

    def __post_init__(self) -> None:
        check_size(self.size)
        checks.at_least(1, self, "min_frames", "frames")
        checks.not_negative(self, "min_side", "first_number")
        if self.frames < self.min_frames:
            raise ValueError(f"`frames` must be at least `min_frames`, {self.min_frames}, got {self.frames}.")


_DEFAULT = SceneRecipe()


def load_scenes(
    folder: str | os.PathLike[str],
    recipe: SceneRecipe = _DEFAULT,
    *,
    sequences: Sequence[str] | None = None,
    skip_bad: bool = False,
) -> TargetClips:
    """Clips of one object each in memory; `scene_parts` needs less.

    A scene is a folder with a table `boxes.csv` whose first line is `frame,id,x,y,w,h`, in any order; other
    columns are left alone. Columns are separated by commas, semicolons or tabs. A line is an object in a
    frame: `frame` counts from 0, `id` tells objects apart, and the box is left, top, width and height in
    0-based pixels of the frames as they are stored; all NaN or empty where the object is absent. The frames
    are image files in `img/`, `image_02/` or beside the table, whose names end with their numbers, or else
    one video file. There may be frames without boxes, but no box without a frame.

    Every object is cut where a frame lacks it, and what is left into windows of `recipe.frames` frames that
    begin where the one before ends; the last may be shorter.

    Labels, as in `VideoData`; clips are sorted by scene, first frame, and place in the table.

    - `boxes`: one object, in pixels of the resized frames.
    - `count`: 1 in the frames of a clip; T is the length of the longest, and the others end with black frames
      without the object.
    - `visible`: the fraction of the box inside the frame.
    - `groups`: the scene, from 0, sorted by name.
    - `names`: scene, object, its first frame and the one after its last, for instance
      `pets2009_s2l1/17@120-180`.

    Args:
        folder: one scene, or the folder of all.
        recipe: which clips are made.
        sequences: the names of the scenes to take; by default all.
        skip_bad: leave out scenes and clips that cannot be used, and list them in the result, instead of
            stopping.

    Raises:
        DataError: if there are no scenes or no clips, or one cannot be used; the message names the file, and
            the line.
        RuntimeError: if a video file is to be read and PyAV is not installed.
    """
    find = partial(_clips, user_path(folder), recipe, sequences)
    return load_target_clips(find, recipe.size, grey=recipe.grey, skip_bad=skip_bad)


def scene_parts(
    folder: str | os.PathLike[str],
    recipe: SceneRecipe = _DEFAULT,
    *,
    sequences: Sequence[str] | None = None,
    on_bad: OnBad = None,
    on_short: Callable[[int], object] | None = None,
) -> Iterator[VideoData]:
    """The clips of `load_scenes` in small parts, for `save_video_parts`.

    Args:
        folder: as in `load_scenes`.
        recipe: as in `load_scenes`.
        sequences: as in `load_scenes`.
        on_bad: is called with what is wrong with a scene or clip, which is then left out; by default a bad
            one is an error.
        on_short: is called once, with the number of clips that would have fewer than `recipe.min_frames`
            frames, which are left out.

    Raises:
        DataError: as in `load_scenes`.
        RuntimeError: as in `load_scenes`.
    """
    clips = _clips(user_path(folder), recipe, sequences, on_bad, on_short)
    return target_parts(clips, recipe.size, grey=recipe.grey, on_bad=on_bad)


def _clips(
    root: Path,
    recipe: SceneRecipe,
    sequences: Sequence[str] | None,
    on_bad: OnBad,
    on_short: Callable[[int], object] | None = None,
) -> list[TargetClip]:
    clips: list[TargetClip] = []
    folders = sequence_folders(
        root, lambda path: (path / TABLE).exists() or (path / "img").is_dir(), sequences
    )
    short = 0
    for group, folder in enumerate(folders):
        with reporting(on_bad):
            table, name = folder / TABLE, folder.resolve().name
            objects = read_objects(table)
            frames_of = _frames(folder, recipe)
            pieces = [piece for boxes in objects.values() for piece in _pieces(boxes, recipe)]
            kept = [piece for piece in pieces if len(piece) >= recipe.min_frames]
            short += len(pieces) - len(kept)
            # By first frame, so that clips that share frames follow each other; the sort is stable.
            kept.sort(key=lambda piece: piece[0].frame)
            clips += [_clip(piece, name, group, table, frames_of(table, piece)) for piece in kept]
    if not clips:
        reason = f"{short} are shorter than {recipe.min_frames} frames" if short else "there is none"
        raise DataError(f"{root}: expected clips in {len(folders)} scenes, {reason}.")
    if on_short is not None:
        on_short(short)
    return clips


def _clip(piece: Sequence[FrameBox], scene: str, group: int, table: Path, frames: ClipFrames) -> TargetClip:
    start, stop = piece[0].frame, piece[-1].frame + 1
    name = f"{scene}/{piece[0].identity}@{start}-{stop}"
    boxes = np.array([box.box for box in piece])
    return TargetClip(name, group, frames, boxes, table, [box.line for box in piece])


def _pieces(boxes: Sequence[FrameBox], recipe: SceneRecipe) -> Iterator[list[FrameBox]]:
    """An object's boxes in consecutive frames, at most `recipe.frames` of them at a time."""
    piece: list[FrameBox] = []
    for box in sorted(boxes, key=lambda box: box.frame):
        if min(box.box[2:]) < recipe.min_side:
            continue
        if piece and (box.frame > piece[-1].frame + 1 or len(piece) == recipe.frames):
            yield piece
            piece = []
        piece.append(box)
    if piece:
        yield piece


def _frames(folder: Path, recipe: SceneRecipe) -> Callable[[Path, Sequence[FrameBox]], ClipFrames]:
    """How the frames of consecutive boxes of a table are found: from image files, or else a video file."""
    for place in (folder / name for name in _IMAGES):
        if place.is_dir() and any(map(is_image, place.iterdir())):
            # Objects share frames: they are remembered for as long as clips may need them.
            reader = lru_cache(maxsize=recipe.frames)(read_frame)
            return partial(_image_files, numbered_images(place), recipe.first_number, reader)
    film = only_film(folder)
    return lambda _, piece: VideoFile(film, piece[0].frame, piece[-1].frame + 1)


def _image_files(
    images: Mapping[int, Path],
    first: int,
    reader: Callable[..., tuple[np.ndarray, Size]],
    table: Path,
    piece: Sequence[FrameBox],
) -> ImageFiles:
    for box in piece:
        if (number := box.frame + first) not in images:
            lowest, highest = min(images), max(images)
            hint = "" if lowest <= number <= highest else "; another number can be chosen for frame 0"
            raise DataError(
                f"{table}, line {box.line}: frame {box.frame} must be image number {number}, but there are "
                f"{lowest} to {highest} in {images[lowest].parent}{hint}."
            )
    return ImageFiles([images[box.frame + first] for box in piece], reader)
