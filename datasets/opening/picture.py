"""One picture from a file, as grey or RGB bytes."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import DataError
from .claims import DEFLATE_RATIO, UNSUSPICIOUS, as_data_error, check_claim

Picture = npt.NDArray[np.uint8]
"""Grey `(H, W)` or RGB `(H, W, 3)`."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Ends of the names of files that are read, in lower or upper case."""

IMAGE_KINDS = "PNG, JPEG, BMP, TIFF or WebP"
"""What they are called, for messages."""

# Whatever the name says: others would start other programs (EPS), or be read by rarely used code.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
# Of these a picture of one colour has no size to speak of; others reach deflate's ratio, of single bits.
_ONE_COLOUR = ("TIFF", "WEBP")
_RATIO = 8 * DEFLATE_RATIO
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def is_image(path: Path) -> bool:
    """Whether there is a file whose name ends as that of an image that is read, and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "." and path.is_file()


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image file, of which the header has been read.

    Raises:
        DataError: if it cannot be read, also when it is in the block, or holds several pictures.
    """
    with as_data_error(f"{path}: cannot be read as an image"), Image.open(path, formats=_FORMATS) as opened:
        pictures = getattr(opened, "n_frames", 1)
        if pictures > 1 and opened.format != "MPO":  # a camera's, with previews
            raise DataError(f"{path}: expected one picture, found {pictures}.")
        width, height = opened.size
        try:
            claimed, stored = width * height * len(opened.getbands()), path.stat().st_size
            free = UNSUSPICIOUS if opened.format in _ONE_COLOUR else 0
            check_claim("the image", claimed, stored, ratio=_RATIO, unsuspicious=free)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        yield opened


def read_image(path: Path, shape: tuple[int, int] | None, grey: bool, bits: int = 16) -> Picture:
    """One image from a file, upright, see `image_array`.

    Raises:
        DataError: if the file cannot be read, or has values of more than `bits` bits.
    """
    with open_image(path) as opened:
        opened.load()
        image = eight_bits(opened, bits, path)
        turn = _UPRIGHT.get(_orientation(opened.info.get("exif")))
        return image_array(image if turn is None else image.transpose(turn), shape, grey)


def highest_bit(path: Path) -> int | None:
    """How many bits the brightest pixel of an image has, at least 8; None where no more can be stored.

    Raises:
        DataError: if it cannot be read.
    """
    with open_image(path) as opened:
        return bits_of(opened)


def bits_of(image: Image.Image) -> int | None:
    """As `highest_bit`, of an image that is open; its pixels are decoded only where more can be stored."""
    if not image.mode.startswith("I"):
        return None
    image.load()
    return min(16, max(8, int(np.asarray(image).max(initial=0)).bit_length()))


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
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, rgba).convert("RGB")
    mode = "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)


def eight_bits(image: Image.Image, bits: int, path: Path) -> Image.Image:
    """The image with 8 bits to a channel: of greys with more, the highest of `bits`.

    Raises:
        DataError: if there are values of more bits, or real ones; the message names the file.
    """
    if image.mode == "F":
        raise DataError(f"{path}: expected whole numbers for pixels, found real ones; store them as .npz.")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    highest = int(values.max(initial=0))
    if highest >= 2**bits or values.min(initial=0) < 0:
        raise DataError(
            f"{path}: expected grey values of {bits} bits, from 0 to {2**bits - 1}, found "
            f"{values.min()} to {highest}."
        )
    if bits == 16 and 0 < highest < 2**12:
        several = getattr(image, "n_frames", 1) > 1
        warnings.warn(
            # Of the folder: each message is shown once, and not for each of a thousand pictures.
            f"{path if several else path.parent.absolute()}: grey values of 16 bits, of which only "
            f"{highest.bit_length()} are used, become nearly black; `bits={highest.bit_length()}`, or "
            f"`--bits {highest.bit_length()}`, uses the whole range.",
            stacklevel=2,
        )
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        values[values == transparent] = 0
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8))


def _orientation(exif: object) -> int:
    """How the camera was held, from EXIF data of which nothing else is looked at; 1, upright, by default."""
    if not isinstance(exif, bytes):
        return 1
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, start)
        for entry in range(entries):
            tag, kind = struct.unpack_from(f"{order}HH", data, start + 2 + 12 * entry)
            if tag == _ORIENTATION:
                value = struct.unpack_from(
                    f"{order}{'I' if kind == 4 else 'H'}", data, start + 10 + 12 * entry
                )
                return int(value[0])
    except struct.error:  # there is no such order, or the data end before
        pass
    return 1
