"""Frames of a user's video as a model sees them: of its size and colours, and prepared."""

import os
from collections.abc import Iterator, Sized
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ... import checks
from ...files import user_path
from ..feeding.preparation import Preparation
from ..opening.animation import most_bits
from ..opening.picture import highest_bit, open_image
from .frames import Bytes, Frames, Reading, Size, holds_arrays, open_frames
from .picture_clips import FilmClip, FolderClip, PictureClip, picture_clips

SAMPLE = 48
"""Frames of a video from which its ground and levels are found."""

_FOR_COLOUR = 12
_SAMPLE_BYTES = 2**27
_BLOCK = 16


@dataclass(frozen=True)
class FrameRecipe:
    """What becomes of the frames of a user's video.

    Raises:
        ValueError: if a value is out of range, or two sizes are given.
    """

    resize: Size | None = None
    """Height and width that frames get by averaging over areas, without keeping their ratio."""
    scale: float | None = None
    """Factor of height and width, in the place of `resize`."""
    grey: bool = False
    """One channel (ITU-R 601 luma) instead of three."""
    bits: int = 16
    """How many bits of grey values that are stored in 16 are used."""
    prepare: Preparation = Preparation()
    """What is done to pixels."""

    def __post_init__(self) -> None:
        checks.positive(self, "resize", "scale")
        checks.within("[8, 16]", self, "bits")
        if self.resize is not None and self.scale is not None:
            raise ValueError("`resize` and `scale` are two ways to tell a size: give one of them")

    def size(self, stored: Size) -> Size:
        """Height and width of frames that are stored with these."""
        if self.resize is not None:
            return self.resize
        height, width = (max(1, round(side * (self.scale or 1.0))) for side in stored)
        return height, width


def open_fitted(
    path: str | os.PathLike[str],
    recipe: FrameRecipe,
    *,
    video: int = 0,
    channels: int | None = None,
    stop: int | None = None,
    ground_stop: int | None = None,
) -> Frames:
    """Opens one video of whatever `open_frames` does, whose frames are given as a recipe says.

    Whether a film or a folder has colours is looked up in some of its frames, not in all.

    Args:
        path: see `open_frames`.
        recipe: what becomes of frames.
        video: which of several.
        channels: of the frames; by default 1 if the recipe or the frames are grey, and else those there are.
        stop: the frame to stop before.
        ground_stop: the frame before which the frames end from which the ground is found, see `prepared`.

    Raises:
        DataError: see `open_frames`; or the picture of the background cannot be used.
        RuntimeError: see `open_frames`.
    """
    opened_as = partial(open_frames, path, video=video, bits=recipe.bits, stop=stop)
    channels = 1 if recipe.grey else channels
    if channels is None and not holds_arrays(user_path(path)):
        sample = sample_frames(opened_as(channels=3, size=recipe.resize), most=_FOR_COLOUR)
        channels = 1 if (sample == sample[:, :1]).all() else 3
    opened = opened_as(channels=channels)
    size = recipe.size(opened.size)
    if recipe.resize is not None or size != opened.size:  # others need not have the first one's size
        opened = opened_as(channels=channels, size=size)
    return prepared(opened, recipe.prepare, ground_stop)


def sample_frames(frames: Frames, stop: int | None = None, most: int = SAMPLE) -> Bytes:
    """Frames from all over a video, about evenly spread, the first one first: `(n, C, H, W)`.

    Args:
        frames: the video.
        stop: the frame to stop before.
        most: of them, and fewer where they are large.

    Raises:
        DataError: if one cannot be read.
    """
    return _frames_at(frames, sample_places(frames, stop, most))


def sample_places(frames: Frames, stop: int | None = None, most: int = SAMPLE) -> list[int]:
    """The numbers of the frames that `sample_frames` takes, ascending."""
    size = frames.channels * frames.size[0] * frames.size[1]
    number = max(3, min(most, _SAMPLE_BYTES // size))
    length = frames.count()
    length = length if stop is None else min(length, stop)
    return _spread(frames, length, number).tolist()


def _frames_at(frames: Frames, places: list[int]) -> Bytes:
    """The frames of some numbers, which ascend, `(n, C, H, W)`."""
    if _in_order(frames, places):
        return np.concatenate(list(_at(frames, places)))
    return np.concatenate([frames.window(place, place + 1) for place in places])


def sample_clips(video: Frames, frames: int, stop: int, most: int = SAMPLE) -> Bytes:
    """Short clips from all over a video, about evenly spread: `(n, T, C, H, W)`.

    Args:
        video: it.
        frames: of each clip, T.
        stop: the frame to stop before.
        most: clips.

    Raises:
        DataError: if a frame cannot be read.
    """
    size = frames * video.channels * video.size[0] * video.size[1]
    number = max(3, min(most, _SAMPLE_BYTES // size))
    starts = _spread(video, stop - frames + 1, number)
    wanted = np.unique(np.add.outer(starts, np.arange(frames)))
    if _in_order(video, starts):
        found = dict(zip(wanted.tolist(), _at(video, wanted.tolist()), strict=True))
        return np.stack([np.concatenate([found[s + t] for t in range(frames)]) for s in starts.tolist()])
    return np.stack([video.window(start, start + frames) for start in starts.tolist()])


def middle_size(path: str | os.PathLike[str]) -> Size | None:
    """Median height and width of a user's pictures, where they have different ones, and None otherwise.

    Raises:
        DataError: if one cannot be read.
    """
    sizes = []
    for file in _picture_files(_picture_clips(path)):
        with open_image(file) as image:
            sizes.append(image.size[::-1])
    if len(set(sizes)) < 2:
        return None
    height, width = np.median(np.array(sizes), axis=0).round().astype(int).tolist()
    return height, width


def used_bits(path: str | os.PathLike[str]) -> int | None:
    """How many of 16 bits the grey values of a user's pictures have; None where they are not stored in 16.

    The brightest pixel of some pictures tells, evenly spread over a folder, or over a file of several.

    Raises:
        DataError: if one cannot be read.
    """
    clips = _picture_clips(path)
    files = _picture_files(clips)
    chosen = np.unique(np.linspace(0, len(files) - 1, _FOR_COLOUR).astype(int)).tolist() if files else []
    found = [highest_bit(files[number]) for number in chosen]
    animations = (clip.path for clip in clips if not isinstance(clip, FolderClip | FilmClip))
    found += [most_bits(animation, _FOR_COLOUR) for animation in animations]
    return max((bits for bits in found if bits is not None), default=None)


def _picture_clips(path: str | os.PathLike[str]) -> list[PictureClip]:
    root = user_path(path)
    return [] if holds_arrays(root) else picture_clips(root)


def _picture_files(clips: list[PictureClip]) -> list[Path]:
    return [file for clip in clips if isinstance(clip, FolderClip) for file in clip.files]


def prepared(frames: Frames, preparation: Preparation, stop: int | None = None) -> Frames:
    """A video whose frames are prepared as they are read.

    Args:
        frames: as they are stored.
        preparation: what is done; the ground is that of this video.
        stop: the frame before which the frames end that it is found from, unless it is a running one.

    Raises:
        DataError: if a frame, or the picture of the background, cannot be read.
    """
    if not preparation.changes:
        return frames
    # How light has changed is not known before one is there; no label is looked at.
    places = sample_places(frames, None if preparation.background == "running" else stop)
    prepare = preparation.of(_frames_at(frames, places), places)

    def read(start: int) -> Reading:
        with closing(frames.read(start)) as stored:
            while block := list(islice(stored, _BLOCK)):
                yield from prepare(np.stack(block), start)
                start += len(block)

    return replace(frames, read=read)


def _spread(frames: Frames, stop: int, number: int) -> npt.NDArray[np.int64]:
    """Numbers of frames from all over a video, those at which reading begins soonest where these are many."""
    places = np.unique(np.linspace(0, max(stop, 1) - 1, number).round().astype(np.int64))
    if frames.keys is None:
        return places
    soonest = np.unique(frames.keys[np.searchsorted(frames.keys, places, side="right") - 1])
    return soonest if len(soonest) > number // 2 else places


def _in_order(frames: Frames, places: Sized) -> bool:
    """Whether so many frames are found soonest by going through all."""
    return not frames.anywhere or (frames.keys is not None and len(frames.keys) <= len(places))


def _at(frames: Frames, places: list[int]) -> Iterator[Bytes]:
    """The frames of some numbers, which ascend, `(1, C, H, W)` each, by going through all."""
    wanted = set(places)
    with closing(frames.read(0)) as stored:
        for number, frame in enumerate(islice(stored, places[-1] + 1)):
            if number in wanted:
                yield frame[None]
