"""Frames of video files, decoded by PyAV, which comes with `pip install whatwhere[video]`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...files import import_av
from ..errors import DataError
from .folder import image_array, stack_images

VIDEO_SUFFIXES = (".avi", ".mp4", ".mpg", ".mpeg", ".mov", ".mkv", ".webm")
"""Ends of the names of video files, in lower or upper case."""


def read_video(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    channels: Literal[1, 3] | None = None,
    start: int = 0,
    stop: int | None = None,
) -> npt.NDArray[np.uint8]:
    """The frames of a video file.

    Every picture stored in the file is one frame, however long it is shown. Transparency is laid over black,
    and the camera's orientation tag is followed, in steps of 90 degrees. Where a file holds several videos,
    the first is read; sound is left alone.

    A file that ends within a frame is refused. One that ends between two frames cannot be told from a shorter
    video in most formats; give `stop` where the number of frames is known.

    Args:
        path: the file, in any format that FFmpeg decodes.
        size: (height, width) to which frames are resized by averaging over areas (box filter), without
            keeping their ratio of width to height; by default they stay as they are.
        channels: 1 makes colours grey (ITU-R 601 luma), 3 gives grey videos three equal channels; by default
            there is one channel if all colours are greys.
        start: first frame, 0-based.
        stop: the frame to stop before; by default the video is read to its end.

    Returns:
        Frames `(T, C, H, W)`, uint8, with T = `stop` - `start`.

    Raises:
        DataError: if the file is missing, cannot be read, is truncated, or has no frame `start` or fewer than
            `stop` frames; the message names the file and, where only one is at fault, the frame (0-based).
        RuntimeError: if PyAV is not installed.
        ValueError: if `size`, `channels`, `start` or `stop` are impossible.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"`size` must be two positive numbers of pixels, got {size}.")
    if channels not in (None, 1, 3):
        raise ValueError(f"`channels` must be 1 or 3, got {channels}.")
    if start < 0 or (stop is not None and stop <= start):
        raise ValueError(f"`start` must not be negative and `stop` beyond it, got {start} and {stop}.")
    arrays, count = _decode(path, start, stop, lambda picture: image_array(picture, size, channels == 1))
    if not count:
        raise DataError(f"{path}: expected a video, found no frames.")
    wanted = start + 1 if stop is None else stop
    if count < wanted:
        raise DataError(f"{path}: has {count} frames, fewer than the {wanted} asked for.")
    names = [Path(f"{path}, frame {number}") for number in range(start, count)]
    video = stack_images(arrays, names)
    return np.repeat(video, 3, axis=1) if (channels, video.shape[1]) == (3, 1) else video


def _decode(
    path: str | os.PathLike[str],
    start: int,
    stop: int | None,
    convert: Callable[[Image.Image], npt.NDArray[np.uint8]],
) -> tuple[list[npt.NDArray[np.uint8]], int]:
    """The converted frames from `start` on, and how many were decoded before `stop` or the end."""
    av = import_av()
    arrays: list[npt.NDArray[np.uint8]] = []
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
                        arrays.append(_without_colour(convert(_picture(frame))))
                    count += 1
                    if count == stop:
                        return arrays, count
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except (av.error.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}, frame {count}: cannot be read as a video ({reason}).") from error
    return arrays, count


def _picture(frame: Any) -> Image.Image:
    """A frame of PyAV as Pillow's picture, upright."""
    transparent = any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(format="rgba" if transparent else "rgb24")
    turns = round(frame.rotation / 90)  # counter-clockwise
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, turns)))


def _without_colour(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The picture `(H, W, 3)` as `(H, W)` if all of its colours are greys."""
    return image[..., 0] if image.ndim == 3 and (image == image[..., :1]).all() else image
