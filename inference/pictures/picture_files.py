"""Pictures and films as files, written atomically."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from ...files import atomic_write, import_av

__all__ = ["save_gif", "save_mp4", "save_picture"]


def save_picture(path: str | Path, picture: Image.Image) -> None:
    """Write a picture as a PNG file, atomically; its folder is created where it is missing.

    Raises:
        ValueError: if the name does not end in `.png`.
        OSError: if the file cannot be written; the message names it.
    """
    _save(path, ".png", picture)


def save_gif(path: str | Path, frames: Sequence[Image.Image], fps: float) -> None:
    """Write pictures as an animation that repeats for ever, atomically; its folder is created where missing.

    Args:
        path: ends in `.gif`.
        frames: pictures of equal size.
        fps: frames per second, 0.1 to 50. The format counts in hundredths of a second, so it is rounded.

    Raises:
        ValueError: if there is no frame, they differ in size, or the name or the rate is not possible.
        OSError: if the file cannot be written; the message names it.
    """
    _check_film(frames, fps, fastest=50)  # viewers slow down what is faster
    first, *others = frames
    duration = 10 * round(100 / fps)
    _save(path, ".gif", first, save_all=True, append_images=others, duration=duration, loop=0)


def save_mp4(path: str | Path, frames: Sequence[Image.Image], fps: float) -> None:
    """Write pictures as a video file, atomically; its folder is created where missing.

    Coded as H.264 where PyAV can, or else as MPEG-4. Pictures of an odd width or height get a black line.

    Args:
        path: ends in `.mp4`.
        frames: pictures of equal size.
        fps: frames per second, 0.1 to 1000.

    Raises:
        ValueError: if there is no frame, they differ in size, or the name or the rate is not possible.
        RuntimeError: if PyAV is not installed.
        OSError: if the file cannot be written; the message names it.
    """
    _check_film(frames, fps, fastest=1000)
    path = _checked_path(path, ".mp4")
    av = import_av()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    width, height = (side + side % 2 for side in frames[0].size)
    try:
        with atomic_write(path) as file, av.open(file, "w", format="mp4") as container:
            stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in frames:
                padded = frame.convert("RGB").crop((0, 0, width, height))
                container.mux(stream.encode(av.VideoFrame.from_image(padded)))
            container.mux(stream.encode())
    except (av.error.FFmpegError, OSError) as error:
        raise OSError(f"cannot write the video `{path}`: {error}") from error


def _check_film(frames: Sequence[Image.Image], fps: float, fastest: int) -> None:
    if not frames or len({frame.size for frame in frames}) > 1:
        raise ValueError(
            f"`frames` must be pictures of equal size, but got {sorted({f.size for f in frames}) or 'none'}."
        )
    if not 0.1 <= fps <= fastest:
        raise ValueError(f"`fps` must be in [0.1, {fastest}], but got {fps}.")


def _checked_path(path: str | Path, suffix: str) -> Path:
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise ValueError(f"`path` must end in `{suffix}`, but got `{path}`.")
    return path


def _save(path: str | Path, suffix: str, picture: Image.Image, **options: Any) -> None:
    path = _checked_path(path, suffix)
    try:
        with atomic_write(path) as file:
            picture.save(file, format=suffix[1:], **options)
    except OSError as error:
        raise OSError(f"cannot write the picture `{path}`: {error}") from error
