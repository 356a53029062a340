"""Pictures of files that hold several: animated GIF, PNG and WebP, and TIFF with several pages."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from .claims import as_data_error, check_claim
from .picture import bits_of, eight_bits

ANIMATION_SUFFIXES = (".gif", ".png", ".apng", ".webp", ".tif", ".tiff")
"""Ends of the names of files that are read as a video, in lower or upper case."""

ANIMATION_RATIO = 20_000
"""Times more that pictures may take in memory: all after the first may change some pixels of a large one."""

_FORMATS = {".gif": "GIF", ".png": "PNG", ".apng": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}


def animation_pictures(path: Path, start: int = 0, bits: int = 16) -> Iterator[Image.Image]:
    """The pictures of a file, each decoded when it is asked for; one must be used before the next is.

    Args:
        path: the file; its name tells what it is.
        start: the first one, 0-based.
        bits: see `read_image`.

    Raises:
        DataError: if they cannot be read, or have values of more than `bits` bits.
    """
    kind, count = _FORMATS[path.suffix.lower()], 0

    def where() -> str:
        return f"{path}, frame {count}: cannot be read as a {kind.title() if kind == 'WEBP' else kind}"

    with as_data_error(where()):
        stored = path.stat().st_size
        opened = Image.open(path, formats=[kind])
    with opened:
        while True:
            with as_data_error(where()):
                try:
                    opened.seek(count)
                except EOFError:
                    if not count:
                        raise
                    return
                width, height = opened.size
                check_claim("a frame", 3 * width * height, stored, ratio=ANIMATION_RATIO)
                if count < start:  # the next may change some of its pixels only
                    count += 1
                    continue
                opened.load()
                picture = eight_bits(opened, bits, path)
            yield picture
            count += 1


def most_bits(path: Path, most: int) -> int | None:
    """As `highest_bit`, of some pictures of a file, of which the first tells how all are stored.

    Args:
        path: the file.
        most: pictures that are looked at, evenly spread over the file.

    Raises:
        DataError: if one cannot be read.
    """
    kind = _FORMATS[path.suffix.lower()]
    with as_data_error(f"{path}: cannot be read as a {kind}"), Image.open(path, formats=[kind]) as opened:
        if not opened.mode.startswith("I"):  # others would have to be gone through to be counted
            return None
        count, stored, found = getattr(opened, "n_frames", 1), path.stat().st_size, [8]
        for number in range(0, count, -(-count // most)):
            opened.seek(number)
            check_claim("a frame", 3 * opened.width * opened.height, stored, ratio=ANIMATION_RATIO)
            found.append(bits_of(opened) or 8)
        return max(found)
