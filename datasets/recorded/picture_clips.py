"""Videos that are stored picture by picture: folders of frames, animations, video files."""

import math
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..opening.animation import ANIMATION_RATIO, ANIMATION_SUFFIXES, animation_pictures
from ..opening.film import VIDEO_SUFFIXES, FilmIndex, film_index, film_pictures
from ..opening.picture import (
    IMAGE_KINDS,
    Picture,
    grey_by_mode,
    image_array,
    is_image,
    open_image,
    read_image,
    without_colour,
)

EXPECTED = (
    "expected a folder of frames, or a file whose name ends in .npz, .h5, .hdf5, "
    f"{', '.join(ANIMATION_SUFFIXES)}, {', '.join(VIDEO_SUFFIXES)}"
)
"""What holds videos, for messages."""


class Scan(NamedTuple):
    """What going through a clip tells."""

    length: int
    """How many frames there are."""
    grey: bool
    """Whether all of them are."""


@dataclass(frozen=True)
class PictureClip:
    """One video, of which every frame is a picture."""

    path: Path
    """The file or folder."""
    pictures: Callable[[int], Generator[Picture, None, None]]
    """Reads frame by frame, from one of a number on; those without colours are grey."""
    frame_name: Callable[[int], Path]
    """What a frame is called in messages."""
    stored: int
    """How many bytes they have in the file or files."""
    ratio: float
    """How many times more they can have in memory, see `check_claim`."""
    length: int | None = None
    """How many frames there are, where that is known without going through them."""

    def scan(self, stop: int | None = None) -> Scan:
        """Goes through the frames, or those before `stop`, without keeping any.

        Raises:
            DataError: if one cannot be read.
        """
        length, grey = 0, True
        for picture in self.pictures(0):
            length, grey = length + 1, grey and picture.ndim == 2
            if length == stop:
                break
        return Scan(length, grey)

    def count(self) -> int:
        """How many frames there are: where nothing tells it, by going through them.

        Raises:
            DataError: if one cannot be read.
        """
        return self.scan().length if self.length is None else self.length

    def anywhere(self) -> bool:
        """Whether `pictures` can begin anywhere without going through all before."""
        return self.path.suffix.lower() in (".tif", ".tiff")  # others store changes

    def keys(self) -> npt.NDArray[np.int64] | None:
        """Frames at which it can begin soonest; None where all are alike."""
        return None


@dataclass(frozen=True)
class FilmClip(PictureClip):
    """One video in a file that may tell where its frames are."""

    index: Callable[[], FilmIndex | None] = lambda: None
    """Tells."""

    def count(self) -> int:
        """How many frames there are."""
        index = self.index()
        return super().count() if index is None else len(index.times)

    def anywhere(self) -> bool:
        """Whether it tells."""
        return self.index() is not None

    def keys(self) -> npt.NDArray[np.int64] | None:
        """Frames that can be decoded without others."""
        index = self.index()
        return None if index is None else np.searchsorted(index.times, index.keys)


@dataclass(frozen=True)
class FolderClip(PictureClip):
    """One video, of which every frame is a file."""

    files: tuple[Path, ...] = ()
    """They."""

    def anywhere(self) -> bool:
        """They can be read in any order."""
        return True

    def scan(self, stop: int | None = None) -> Scan:
        """Reads the headers of the files only."""
        modes = []
        for file in self.files[:stop]:
            with open_image(file) as image:
                modes.append(grey_by_mode(image))
        return Scan(len(modes), all(modes))


def is_film(path: Path) -> bool:
    """Whether a file is called like a video file."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def picture_clips(path: Path, bits: int = 16) -> list[PictureClip]:
    """The videos of a folder, an animation, or a video file, by its name; there is none in other files.

    Args:
        path: the file or folder.
        bits: see `load_folder`.

    Raises:
        DataError: if a folder has no frames, or both frames and other videos.
    """
    if path.is_dir():
        return [
            _folder_clip(found, bits) if found.is_dir() else _film_clip(found, bits)
            for found in _videos_of_folder(path)
        ]
    return [_film_clip(path, bits)] if _is_video(path) else []


def _is_video(path: Path) -> bool:
    return path.is_file() and (is_film(path) or path.suffix.lower() in ANIMATION_SUFFIXES)  # no pipe


def _film_clip(path: Path, bits: int) -> PictureClip:
    """The video of a file."""
    frame_of, stored = partial(_frame_of, path), path.stat().st_size
    if not is_film(path):
        read = partial(animation_pictures, path, bits=bits)
        return PictureClip(path, lambda start: _as_arrays(read(start)), frame_of, stored, ANIMATION_RATIO)

    index = cache(partial(film_index, path))

    def pictures(start: int) -> Generator[Picture, None, None]:
        return _as_arrays(film_pictures(path, start, index() if start else None))

    # A film of one still picture grows by bytes.
    return FilmClip(path, pictures, frame_of, stored, math.inf, index=index)


def _as_arrays(pictures: Iterator) -> Generator[Picture, None, None]:
    return (without_colour(image_array(picture, None, grey=False)) for picture in pictures)


def _frame_of(film: Path, number: int) -> Path:
    return Path(f"{film}, frame {number}")


def _folder_clip(folder: Path, bits: int) -> PictureClip:
    files = tuple(_images(folder))
    if not files:
        videos = sum(_is_video(entry) for entry in _entries(folder))
        there = f"got {videos} videos; these are a source by themselves" if videos else "there is none"
        raise DataError(f"{folder}: expected {IMAGE_KINDS} files, {there}.")
    read = partial(read_image, shape=None, grey=False, bits=bits)
    stored = sum(file.stat().st_size for file in files)

    def pictures(start: int) -> Generator[Picture, None, None]:
        return (read(file) for file in islice(files, start, None))

    return FolderClip(folder, pictures, files.__getitem__, stored, math.inf, len(files), files)


def _videos_of_folder(root: Path) -> list[Path]:
    """The folder itself, if there are frames in it, or else the videos in it: files, or its sub-folders."""
    frames, entries = _images(root), _entries(root)
    folders = [entry for entry in entries if entry.is_dir()]
    films = [entry for entry in entries if _is_video(entry)]
    if not frames and not films and not folders:
        raise DataError(f"{root}: expected {IMAGE_KINDS} files, or videos or folders of them, there is none.")
    if (frames or films) and any(map(_images, folders)):
        kinds = "frames of one video" if frames else "video files"
        raise DataError(f"{root}: expected {kinds}, or one folder of frames for each video, found both.")
    return [root] if frames else films or folders


def _images(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if is_image(entry)]


def _entries(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, in natural order."""
    try:
        return sorted((entry for entry in folder.iterdir() if entry.name[0] != "."), key=_natural_order)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}).") from error


def _natural_order(path: Path) -> tuple[list[str | int], str]:
    """A key by which numbers in names are compared as numbers; equal ones differ in zeros or in case."""
    parts = re.split(r"(\d+)", path.name.casefold())  # words and numbers in turn, words first
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name
