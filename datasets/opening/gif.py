"""Pictures of animated GIFs."""

import struct
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageSequence

from ..errors import DataError

# What Pillow raises for damaged files, depending on where the damage is.
_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)


def gif_pictures(path: Path) -> Iterator[Image.Image]:
    """The pictures of a GIF, each decoded when it is asked for; one must be used before the next is.

    Raises:
        DataError: if they cannot be read.
    """
    count = 0
    try:
        with Image.open(path, formats=["GIF"]) as opened:
            for frame in ImageSequence.Iterator(opened):
                frame.load()
                yield frame
                count += 1
    except _ERRORS as error:
        raise DataError(f"{path}, frame {count}: cannot be read as a GIF ({error}).") from error
