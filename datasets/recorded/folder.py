"""Still images from a folder of picture files, or from whatever a user has."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ... import checks
from ...files import user_path
from ..errors import DataError
from ..opening.claims import LIMIT, as_data_error, check_claim, naming
from ..opening.hdf5 import HDF5_SUFFIXES
from ..opening.picture import IMAGE_KINDS, Picture, highest_bit, is_image, read_image
from ..storage.store import load_video
from ..storage.video import VideoData


class FolderImages(NamedTuple):
    """Images of a folder, and where they came from."""

    data: VideoData
    """The images, as videos of one frame without labels."""
    files: list[Path]
    """The file of each image."""
    skipped: list[str]
    """What was wrong with each file that was left out."""


def load_folder(
    folder: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    grey: bool = False,
    skip_unreadable: bool = False,
    bits: int = 16,
    limit: float = LIMIT,
) -> FolderImages:
    """The PNG, JPEG, BMP, TIFF and WebP files of a folder, sorted by name, as grey or RGB images.

    Sub-folders, hidden files and other files are left alone. Transparency is laid over black, and the
    camera's orientation tag is followed.

    Args:
        folder: the folder.
        size: side, or (height, width), to which every image is resized by averaging over areas (box filter),
            without keeping its ratio of width to height; default: as they are, and then all must have the
            same size.
        grey: one channel, ITU-R 601 luma, instead of three. Where every file is grey there is one channel
            anyway.
        skip_unreadable: leave out files that cannot be read, and list them in the result, instead of
            stopping.
        bits: how many bits of grey values that are stored in 16 are used; 12 for many scientific cameras.
        limit: most bytes of memory that the images may take, 8 GiB.

    Raises:
        DataError: if there is no such folder or no image in it, or images take too much memory.
        UnreadableError: if a file cannot be read.
        SizeError: if images differ in size.
        ValueError: if `size` is not positive, or `bits` not 8 to 16.
    """
    shape = (size, size) if isinstance(size, int) else size
    if shape is not None and (len(shape) != 2 or min(shape) < 1):
        raise ValueError(f"`size` must be one or two positive numbers of pixels, got {size}.")
    checks.within("[8, 16]", bits=bits)
    root = user_path(folder)
    if not root.is_dir():
        raise DataError(f"{folder}: no such folder.")
    with as_data_error(f"{folder}: cannot be read"):
        names = sorted(path for path in root.iterdir() if is_image(path))
    arrays: list[Picture] = []
    files: list[Path] = []
    skipped: list[str] = []
    taken = 0
    for path in names:
        try:
            arrays.append(read_image(path, shape, grey, bits))
            files.append(path)
        except DataError as error:
            if not skip_unreadable:
                raise UnreadableError(str(error)) from error
            skipped.append(str(error))
            continue
        taken += arrays[-1].nbytes
        with naming(folder):
            check_claim("the images", taken, taken, limit)
    if not arrays:
        reason = f"none of the {len(names)} could be read" if names else "there is none"
        raise DataError(f"{folder}: expected {IMAGE_KINDS} files, {reason}.")
    return FolderImages(VideoData(stack_images(arrays, files)[:, None]), files, skipped)


def load_pictures(
    folder: str | os.PathLike[str], *, most: int = 32, smallest: int = 1
) -> list[npt.NDArray[np.uint8]]:
    """Pictures of any sizes, of a folder and of the folders in it: something to cut objects out of.

    Of each folder at most a number of PNG and JPEG files is taken, evenly spread over their sorted names, so
    that a folder with the frames of a video counts for no more than others. Links are followed; hidden files
    and folders and other files are left alone. See `read_image`.

    Args:
        folder: the outermost folder.
        most: greatest number of pictures of one folder.
        smallest: pixels that both sides must have; others are left out with a warning.

    Returns:
        `(H, W)` or `(H, W, 3)` each, sorted by the names of their folders, and then by their own.

    Raises:
        DataError: if there is no such folder or no picture in it, or a file cannot be read.
        ValueError: if `most` is not positive.
    """
    if most < 1:
        raise ValueError(f"`most` must be positive, got {most}")
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder.")
    pictures, left_out = [], []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(place, name) for name in sorted(files) if not name.startswith(".")]
        found = [path for path in paths if is_image(path)]
        chosen = np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int).tolist()
        for number in chosen:
            path = found[number]
            picture = read_image(path, None, grey=False, bits=highest_bit(path) or 16)
            if min(picture.shape[:2]) < smallest:
                left_out.append(path)
            else:
                pictures.append(picture)
    if left_out:
        warnings.warn(
            f"{folder}: {len(left_out)} pictures have a side of less than {smallest} pixels and are left "
            f"out, the first of them is {left_out[0]}.",
            stacklevel=2,
        )
    if not pictures:
        raise DataError(
            f"{folder}: expected PNG or JPEG files, in it or in its folders, of {smallest} pixels or more, "
            "there is none."
        )
    return pictures


def load_images(
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    grey: bool = False,
    skip_unreadable: bool = False,
) -> VideoData:
    """Images from a folder of picture files (see `load_folder`), or videos and labels from an HDF5 file.

    Raises:
        DataError: if the folder or file is missing or its contents cannot be used.
        ValueError: if `path` is an HDF5 file and another argument is given: it is read as it is.
    """
    if user_path(path).is_dir():
        return load_folder(path, size=size, grey=grey, skip_unreadable=skip_unreadable).data
    if not user_path(path).exists():
        raise DataError(f"{path}: no such file or folder.")
    if Path(path).suffix.lower() not in HDF5_SUFFIXES:
        raise DataError(f"{path}: expected a folder of images, or a file whose name ends in .h5 or .hdf5.")
    if size is not None or grey or skip_unreadable:
        raise ValueError(
            "`size`, `grey` and `skip_unreadable` are for folders; an HDF5 file is read as it is."
        )
    return load_video(path)


def stack_images(arrays: Sequence[Picture], names: Sequence[Path]) -> np.ndarray:
    """Images `(M, C, H, W)`; grey ones among coloured ones get three equal channels.

    Raises:
        DataError: if they differ in size; the message has the name of the first that does.
    """
    size = arrays[0].shape[:2]
    for array, name in zip(arrays, names, strict=True):
        if array.shape[:2] != size:
            raise size_error(name, array.shape[:2], names[0], size)
    channels = 1 if all(array.ndim == 2 for array in arrays) else 3
    stacked = np.empty((len(arrays), channels, *size), np.uint8)
    for number, array in enumerate(arrays):
        stacked[number] = as_planes(array)
    return stacked


def as_planes(picture: Picture) -> np.ndarray:
    """A picture as `(1, H, W)` or `(3, H, W)`."""
    return picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)


class UnreadableError(DataError):
    """A picture of a folder cannot be read, and there was no word to leave such ones out."""


class SizeError(DataError):
    """Pictures that must have one size have not; resizing all of them helps."""


def size_error(name: Path, other: tuple[int, ...], first: Path, size: tuple[int, ...]) -> SizeError:
    """What is wrong with pictures of another size than those of the first, (height, width)."""
    (height, width), (other_height, other_width) = size, other
    return SizeError(
        f"{name}: {other_width} x {other_height} pixels, but {first.name} has {width} x {height}; "
        "all must have one size, or be resized to one."
    )
