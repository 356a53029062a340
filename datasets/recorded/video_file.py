"""All frames of video files in memory."""

import os
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..opening.film import film_pictures
from ..opening.picture import image_array, without_colour
from .folder import stack_images


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
    wanted = None if stop is None else stop - start
    pictures = (image_array(picture, size, channels == 1) for picture in film_pictures(path, start))
    arrays = [without_colour(picture) for picture in islice(pictures, wanted)]
    count = start + len(arrays)
    if stop is not None and count < stop:
        raise DataError(f"{path}: has {count} frames, fewer than the {stop} asked for.")
    names = [Path(f"{path}, frame {number}") for number in range(start, count)]
    video = stack_images(arrays, names)
    return np.repeat(video, 3, axis=1) if (channels, video.shape[1]) == (3, 1) else video
