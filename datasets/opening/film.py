"""Pictures of video files, decoded by PyAV, which comes with `pip install whatwhere[video]`."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from ...files import import_av
from ..errors import DataError

VIDEO_SUFFIXES = (".avi", ".mp4", ".mpg", ".mpeg", ".mov", ".mkv", ".webm")
"""Ends of the names of video files, in lower or upper case."""


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
    try:
        # Not the path: FFmpeg would take a part before a colon for a protocol.
        with open(path, "rb") as stream, av.open(stream) as container:
            if not container.streams.video:
                raise DataError(f"{path}: expected a video, found none in the file.")
            for packet in container.demux(container.streams.video[0]):
                if packet.is_corrupt:
                    raise DataError(f"{path}, frame {count}: cannot be read, the file is truncated.")
                for frame in packet.decode():
                    if count >= start:
                        yield _picture(frame)
                    count += 1
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except (av.error.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}, frame {count}: cannot be read as a video ({reason}).") from error
    if not count:
        raise DataError(f"{path}: expected a video, found no frames.")
    if count <= start:
        raise DataError(f"{path}: has {count} frames, fewer than the {start + 1} asked for.")


def _picture(frame: Any) -> Image.Image:
    """A frame of PyAV as Pillow's picture."""
    transparent = any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(format="rgba" if transparent else "rgb24")
    turns = round(frame.rotation / 90)  # counter-clockwise
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, turns)))
