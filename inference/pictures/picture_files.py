"""Pictures and films as files, written atomically."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from ...files import atomic_write, import_av
from .gif import write_gif

__all__ = ["PICTURE_FORMATS", "save_gif", "save_mp4", "save_picture"]

PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Endings of the names of pictures, in small letters, and what they stand for."""


_OPTIONS = {"libx264": {"preset": "veryfast"}}  # a third of the time, files hardly larger


def save_picture(path: str | Path, picture: Image.Image) -> None:
    """Write a picture, atomically, in the format of its name; its folder is created where it is missing.

    Raises:
        ValueError: if the name ends in none of `PICTURE_FORMATS`.
        OSError: if the file cannot be written; the message names it.
    """
    path = _checked_path(path, *PICTURE_FORMATS)
    try:
        with atomic_write(path) as file:
            picture.save(file, format=PICTURE_FORMATS[path.suffix.lower()], quality=95)  # JPEG's
    except OSError as error:
        raise OSError(f"cannot write the picture `{path}`: {error}") from error


def save_gif(path: str | Path, frames: Iterable[Image.Image], fps: float) -> None:
    """Write pictures as an animation that repeats for ever, atomically; its folder is created where missing.

    All frames have one palette, see `gif.write_gif`, and equal ones stay as many as they are.

    Args:
        path: ends in `.gif`.
        frames: pictures of equal size, at most 65535 pixels along a side. They are written as they come, and
            a number that does not depend on their length is held in memory.
        fps: frames per second, 0.1 to 50. The format counts in hundredths of a second: a frame can be shown
            one too long or too short, but the animation as a whole is not.

    Raises:
        ValueError: if there is no frame, they differ in size, or the name or the rate is not possible.
        OSError: if the file cannot be written; the message names it.
    """
    _check_fps(fps, fastest=50)  # viewers slow down what is faster
    path = _checked_path(path, ".gif")
    durations = (after - before for before, after in pairwise(round(100 * k / fps) for k in count()))
    try:
        with atomic_write(path) as file:
            write_gif(file, _of_one_size(frames, largest=65535), durations)
    except OSError as error:
        raise OSError(f"cannot write the animation `{path}`: {error}") from error


def save_mp4(path: str | Path, frames: Iterable[Image.Image], fps: float) -> None:
    """Write pictures as a video file, atomically; its folder is created where missing.

    Coded as H.264 where PyAV can, or else as MPEG-4. Pictures of an odd width or height get a black line.

    Args:
        path: ends in `.mp4`.
        frames: pictures of equal size, at most 16384 pixels along a side. They are written as they come.
        fps: frames per second, 0.1 to 1000.

    Raises:
        ValueError: if there is no frame, they differ in size, or the name or the rate is not possible.
        RuntimeError: if PyAV is not installed.
        OSError: if the file cannot be written; the message names it.
    """
    _check_fps(fps, fastest=1000)
    path = _checked_path(path, ".mp4")
    av = import_av()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    try:
        with atomic_write(path) as file, av.open(file, "w", format="mp4") as container:
            rate = Fraction(fps).limit_denominator(1000)
            stream: Any = container.add_stream(codec, rate=rate, options=_OPTIONS.get(codec, {}))
            for number, frame in enumerate(_of_one_size(frames, largest=16384)):
                width, height = (side + side % 2 for side in frame.size)
                if number == 0:
                    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                padded = frame.convert("RGB").crop((0, 0, width, height))
                container.mux(stream.encode(av.VideoFrame.from_image(padded)))
            container.mux(stream.encode())
    except (av.error.FFmpegError, OSError) as error:
        raise OSError(f"cannot write the video `{path}`: {error}") from error


def _of_one_size(frames: Iterable[Image.Image], largest: int) -> Iterator[Image.Image]:
    """The frames; an error if there is none, or one that cannot be in the same film."""
    size: tuple[int, int] | None = None
    for number, frame in enumerate(frames):
        size = size or frame.size
        if frame.size != size or max(size) > largest:
            raise ValueError(
                f"`frames` must be pictures of equal size, at most {largest} pixels along a side, but the "
                f"first has {size[0]} x {size[1]} and number {number} {frame.size[0]} x {frame.size[1]}."
            )
        yield frame
    if size is None:
        raise ValueError("`frames` must be pictures of equal size, but got none.")


def _check_fps(fps: float, fastest: int) -> None:
    if not 0.1 <= fps <= fastest:
        raise ValueError(f"`fps` must be in [0.1, {fastest}], but got {fps}.")


def _checked_path(path: str | Path, *suffixes: str) -> Path:
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"`path` must end in {' or '.join(f'`{s}`' for s in suffixes)}, but got `{path}`.")
    return path
