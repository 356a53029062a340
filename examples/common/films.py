"""Films of what was found: in which format, how fast, and how much of a long video."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Literal

from PIL import Image

from whatwhere.checks import FieldError
from whatwhere.datasets import Frames, frame_rate
from whatwhere.inference.pictures import save_gif, save_mp4

Animation = Literal["auto", "mp4", "gif", "none"]
"""Formats of films; `auto` is GIF for short videos, and MP4 for others where PyAV is installed."""

SHORT = 60
"""Frames up to which a film is a GIF by itself."""
LONGEST_GIF = 300
"""Frames of a GIF that nobody asked for, in place of a longer MP4."""
FPS = 8.0
"""Frames per second of what has no rate of its own."""
FASTEST_GIF = 50.0
"""Frames per second that viewers still show."""


def require_rate(animation: Animation, fps: float | None) -> None:
    """Refuse a rate that the format does not have.

    Raises:
        FieldError: if that is so.
    """
    fastest = 1000.0 if animation == "mp4" else FASTEST_GIF
    if fps is not None and not 0.1 <= fps <= fastest:
        raise FieldError("fps", f"must be in [0.1, {fastest:g}]", fps)


def write_film(
    path: Path, pages: Iterator[Image.Image], frames: Frames, animation: Animation, fps: float | None
) -> None:
    """Write a film of as many pages as the format is good for, and say where it is; others are not asked for.

    Args:
        path: of the film, without an ending.
        pages: one for each frame.
        frames: the video that it is of.
        animation: see `Animation`.
        fps: frames per second; by default those of the video, as far as the format has them.
    """
    chosen = _format(animation, frames)
    if chosen == "none":
        return
    rate = fps or frame_rate(frames.path) or FPS
    film = path.with_name(f"{path.name}.{chosen}")
    if chosen == "mp4":
        save_mp4(film, pages, rate)
        print(f"film:      {film}")
        return
    limit = None if animation == "gif" else LONGEST_GIF
    save_gif(film, islice(pages, limit), min(rate, FASTEST_GIF))
    cut = limit is not None and next(pages, None) is not None
    more = f" (of the first {limit} frames: MP4 needs pip install 'whatwhere[video]')" if cut else ""
    print(f"film:      {film}{more}")


def _is_short(frames: Frames) -> bool:
    if frames.length is not None:
        return frames.length <= SHORT
    with closing(frames.read(0)) as first:  # only reading tells
        return sum(1 for _ in islice(first, SHORT + 1)) <= SHORT


def _format(animation: Animation, frames: Frames) -> Literal["mp4", "gif", "none"]:
    if animation != "auto":
        return animation
    if _is_short(frames):
        return "gif"
    return "mp4" if importlib.util.find_spec("av") else "gif"
