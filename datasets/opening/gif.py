"""Pictures of animated GIFs."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from .claims import as_data_error, check_claim

GIF_RATIO = 20_000
"""Times more that pictures may take in memory: all after the first may change some pixels of a large one."""


def gif_pictures(path: Path) -> Iterator[Image.Image]:
    """The pictures of a GIF, each decoded when it is asked for; one must be used before the next is.

    Raises:
        DataError: if they cannot be read.
    """
    count = 0
    where = f"{path}, frame %d: cannot be read as a GIF"
    with as_data_error(where % count):
        stored = path.stat().st_size
        opened = Image.open(path, formats=["GIF"])
    with opened:
        while True:
            with as_data_error(where % count):
                try:
                    opened.seek(count)
                except EOFError:
                    if not count:
                        raise
                    return
                width, height = opened.size
                check_claim("a frame", 3 * width * height, stored, ratio=GIF_RATIO)
                opened.load()
            yield opened
            count += 1
