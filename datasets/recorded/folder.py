"""Still images from a folder of picture files, or from whatever a user has."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError
from ..storage.store import load_video
from ..storage.video import VideoData

SUFFIXES = (".png", ".jpg", ".jpeg")
"""Ends of the names of files that are read, in lower or upper case."""

HDF5_SUFFIXES = (".h5", ".hdf5")
"""Ends of the names of HDF5 files."""


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
) -> FolderImages:
    """The PNG and JPEG files of a folder, sorted by name, as grey or RGB images.

    Sub-folders and other files are left alone. Transparency is laid over black, and the camera's orientation
    tag is followed.

    Args:
        folder: the folder.
        size: side, or (height, width), to which every image is resized by averaging over areas (box filter),
            without keeping its ratio of width to height; default: as they are, and then all must have the
            same size.
        grey: one channel, ITU-R 601 luma, instead of three. Where every file is grey there is one channel
            anyway.
        skip_unreadable: leave out files that cannot be read, and list them in the result, instead of
            stopping.

    Raises:
        DataError: if there is no such folder or no image in it, a file cannot be read, or images differ in
            size.
        ValueError: if `size` is not positive.
    """
    shape = (size, size) if isinstance(size, int) else size
    if shape is not None and (len(shape) != 2 or min(shape) < 1):
        raise ValueError(f"`size` must be one or two positive numbers of pixels, got {size}.")
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{folder}: no such folder.")
    names = sorted(path for path in root.iterdir() if is_image(path))
    arrays, files, skipped = [], [], []
    for path in names:
        try:
            arrays.append(read_image(path, shape, grey))
            files.append(path)
        except DataError as error:
            if not skip_unreadable:
                raise
            skipped.append(str(error))
    if not arrays:
        reason = f"none of the {len(names)} could be read" if names else "there is none"
        raise DataError(f"{folder}: expected PNG or JPEG files, {reason}.")
    return FolderImages(VideoData(stack_images(arrays, files)[:, None]), files, skipped)


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
    if Path(path).is_dir():
        return load_folder(path, size=size, grey=grey, skip_unreadable=skip_unreadable).data
    if not Path(path).exists():
        raise DataError(f"{path}: no such file or folder.")
    if Path(path).suffix.lower() not in HDF5_SUFFIXES:
        raise DataError(f"{path}: expected a folder of images, or a file whose name ends in .h5 or .hdf5.")
    if size is not None or grey or skip_unreadable:
        raise ValueError(
            "`size`, `grey` and `skip_unreadable` are for folders; an HDF5 file is read as it is."
        )
    return load_video(path)


def is_image(path: Path) -> bool:
    """Whether there is a file whose name ends as that of an image that is read."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read_image(path: Path, shape: tuple[int, int] | None, grey: bool) -> np.ndarray:
    """One image from a file, see `image_array`.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        with Image.open(path) as opened:
            return image_array(ImageOps.exif_transpose(opened), shape, grey)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error}).") from error


def image_array(image: Image.Image, shape: tuple[int, int] | None, grey: bool) -> np.ndarray:
    """One image `(H, W)` or `(H, W, 3)`, uint8, resized to `shape` (height, width) by averaging over areas.

    Transparency is laid over black. With `grey` there is one channel, ITU-R 601 luma.
    """
    image = _convert(image, grey)
    if shape is not None:
        image = image.resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(image)


def _convert(image: Image.Image, grey: bool) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would clip 16 bits to the lowest 8.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        opaque = Image.alpha_composite(black, rgba).convert("RGB")
        return opaque.convert("L") if grey or image.mode == "LA" else opaque
    return image.convert("L" if grey or image.mode in ("1", "L") else "RGB")


def stack_images(arrays: Sequence[np.ndarray], names: Sequence[Path]) -> np.ndarray:
    """Images `(M, C, H, W)`; grey ones among coloured ones get three equal channels.

    Raises:
        DataError: if they differ in size; the message has the name of the first that does.
    """
    for array, name in zip(arrays, names, strict=True):
        if array.shape[:2] != arrays[0].shape[:2]:
            (height, width), (other_height, other_width) = arrays[0].shape[:2], array.shape[:2]
            raise DataError(
                f"{name}: {other_width} x {other_height} pixels, but {names[0].name} has {width} x {height}; "
                "give a `size` to bring all images to it."
            )
    if all(array.ndim == 2 for array in arrays):
        return np.stack(arrays)[:, None]
    coloured = [array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=-1) for array in arrays]
    return np.ascontiguousarray(np.stack(coloured).transpose(0, 3, 1, 2))
