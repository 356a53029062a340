"""Pictures of video files, decoded by PyAV, which comes with `pip install whatwhere[video]`."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
from PIL import Image

from ...files import import_av, user_path
from ..errors import DataError
from .claims import as_data_error, check_claim, naming

VIDEO_SUFFIXES = (".avi", ".mp4", ".mpg", ".mpeg", ".mov", ".mkv", ".webm")
"""Ends of the names of video files, in lower or upper case."""

FILM_RATIO = 20_000
"""How many times more a frame may take in memory than the file has bytes."""

# No playlists, whose parts are other files.
_OPTIONS = {
    "format_whitelist": "avi,mov,matroska,mpeg,mpegvideo,mpegts,m4v,mjpeg,h264,ogg,nut",
    "protocol_whitelist": "none",
}


def film_pictures(path: str | os.PathLike[str], start: int = 0) -> Iterator[Image.Image]:
    """The pictures of the first video of a file, upright, each decoded when it is asked for.

    Args:
        path: the file.
        start: the first one, 0-based.

    Raises:
        DataError: if the file is missing, cannot be read, is truncated, or has no frame `start`.
        RuntimeError: if PyAV is not installed.
    """
    av = import_av()
    count = 0
    path = user_path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file.")
    if not path.is_file():  # a pipe might never end
        raise DataError(f"{path}, frame 0: cannot be read as a video, it is no file.")
    with ExitStack() as opened:
        with as_data_error(f"{path}, frame 0: cannot be read as a video"):
            # Not the path: FFmpeg would take a part before a colon for a protocol.
            stream = opened.enter_context(open(path, "rb"))
            container = opened.enter_context(av.open(stream, options=_OPTIONS, metadata_errors="replace"))
            packets = _packets(container, path)
        while True:
            with as_data_error(f"{path}, frame {count}: cannot be read as a video"):
                packet = next(packets, None)
                if packet is None:
                    break
                if packet.is_corrupt:
                    raise DataError(f"{path}, frame {count}: cannot be read, the file is truncated.")
                frames = packet.decode()
            for frame in frames:
                if count >= start:
                    with as_data_error(f"{path}, frame {count}: cannot be read as a video"):
                        picture = _picture(frame)
                    yield picture
                count += 1
    if not count:
        raise DataError(f"{path}: expected a video, found no frames.")
    if count <= start:
        raise DataError(f"{path}: has {count} frames, fewer than the {start + 1} asked for.")


def _packets(container: Any, path: str | os.PathLike[str]) -> Iterator[Any]:
    """Pieces of the first video of a file; a piece holds some frames, mostly one.

    Raises:
        DataError: if there is no video, or its frames are too large.
    """
    if not container.streams.video:
        raise DataError(f"{path}: expected a video, found none in the file.")
    video = container.streams.video[0]
    with naming(path):
        check_claim("a frame", 4 * video.width * video.height, container.size, ratio=FILM_RATIO)
    return container.demux(video)


def _picture(frame: Any) -> Image.Image:
    """A frame of PyAV as Pillow's picture."""
    transparent = any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(format="rgba" if transparent else "rgb24")
    turns = round(frame.rotation / 90)  # counter-clockwise
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, turns)))
