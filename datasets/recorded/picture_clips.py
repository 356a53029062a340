"""Videos that are stored picture by picture: folders of frames, animated GIFs, video files."""

import math
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ..opening.film import VIDEO_SUFFIXES, film_pictures
from ..opening.gif import GIF_RATIO, gif_pictures
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
    "expected a folder of frames, or a file whose name ends in .npz, .gif, .h5, .hdf5 or "
    f"{', '.join(VIDEO_SUFFIXES)}"
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
    pictures: Callable[[], Generator[Picture, None, None]]
    """Reads from the first frame on, frame by frame; those without colours are grey."""
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
        for picture in self.pictures():
            length, grey = length + 1, grey and picture.ndim == 2
            if length == stop:
                break
        return Scan(length, grey)


@dataclass(frozen=True)
class FolderClip(PictureClip):
    """One video, of which every frame is a file."""

    files: tuple[Path, ...] = ()
    """They."""

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
    """The videos of a folder, a GIF, or a video file, by its name; there is none in other files.

    Args:
        path: the file or folder.
        bits: see `load_folder`.

    Raises:
        DataError: if a folder has no frames, or both frames and folders of them.
    """
    if path.is_dir():
        return [_folder_clip(folder, bits) for folder in _folders_of_frames(path)]
    if not path.is_file():  # a pipe might never end
        return []
    if path.suffix.lower() == ".gif":
        return [_film(path, gif_pictures)]
    return [_film(path, film_pictures)] if is_film(path) else []


def _film(path: Path, read: Callable[[Path], Iterator]) -> PictureClip:
    def pictures() -> Generator[Picture, None, None]:
        return (without_colour(image_array(picture, None, grey=False)) for picture in read(path))

    ratio = GIF_RATIO if read is gif_pictures else math.inf  # a film of one still picture grows by bytes
    return PictureClip(path, pictures, partial(_frame_of, path), path.stat().st_size, ratio)


def _frame_of(film: Path, number: int) -> Path:
    return Path(f"{film}, frame {number}")


def _folder_clip(folder: Path, bits: int) -> PictureClip:
    files = tuple(_images(folder))
    if not files:
        raise DataError(f"{folder}: expected {IMAGE_KINDS} files, there is none.")
    read = partial(read_image, shape=None, grey=False, bits=bits)
    stored = sum(file.stat().st_size for file in files)
    return FolderClip(
        folder, lambda: (read(file) for file in files), files.__getitem__, stored, math.inf, len(files), files
    )


def _folders_of_frames(root: Path) -> list[Path]:
    """The folder itself, if there are frames in it, or else its sub-folders."""
    frames, folders = _images(root), [entry for entry in _entries(root) if entry.is_dir()]
    if not frames and not folders:
        raise DataError(f"{root}: expected {IMAGE_KINDS} files, or folders of them, there is none.")
    if frames and any(map(_images, folders)):
        raise DataError(
            f"{root}: expected frames of one video, or one folder of frames for each video, found both."
        )
    return [root] if frames else folders


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
