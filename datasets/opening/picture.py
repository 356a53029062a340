"""One picture from a file, as grey or RGB bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ..errors import DataError

Picture = npt.NDArray[np.uint8]
"""Grey `(H, W)` or RGB `(H, W, 3)`."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Ends of the names of files that are read, in lower or upper case."""


def is_image(path: Path) -> bool:
    """Whether there is a file whose name ends as that of an image that is read, and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "." and path.is_file()


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image file, of which the header has been read.

    Raises:
        DataError: if it cannot be read, also when it is in the block.
    """
    try:
        with Image.open(path) as opened:
            yield opened
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error}).") from error


def read_image(path: Path, shape: tuple[int, int] | None, grey: bool) -> Picture:
    """One image from a file, upright, see `image_array`.

    Raises:
        DataError: if the file cannot be read.
    """
    with open_image(path) as opened:
        return image_array(ImageOps.exif_transpose(opened), shape, grey)


def image_array(image: Image.Image, shape: tuple[int, int] | None, grey: bool) -> Picture:
    """One image `(H, W)` or `(H, W, 3)`, uint8, resized to `shape` (height, width) by averaging over areas.

    Transparency is laid over black. With `grey` there is one channel, ITU-R 601 luma.
    """
    image = _convert(image, grey)
    if shape is not None:
        image = image.resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(image)


def grey_by_mode(image: Image.Image) -> bool:
    """Whether an image becomes `(H, W)`, which its header tells."""
    return image.mode in ("1", "L", "LA", "I") or image.mode.startswith("I;16")


def without_colour(image: Picture) -> Picture:
    """The picture `(H, W, 3)` as `(H, W)` if all of its colours are greys."""
    grey = image.ndim == 3 and (image == image[..., :1]).all()
    return np.ascontiguousarray(image[..., 0]) if grey else image


def _convert(image: Image.Image, grey: bool) -> Image.Image:
    grey = grey or grey_by_mode(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would clip 16 bits to the lowest 8.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, rgba).convert("RGB")
    return image.convert("L" if grey else "RGB")
