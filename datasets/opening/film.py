"""Pictures of video files, decoded by PyAV, which comes with `pip install whatwhere[video]`."""

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
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


_END = object()
_MISSING = 0.9
"""Frames that are missing at least where a file ends early: times are rounded."""


class FilmIndex(NamedTuple):
    """When the frames of a film are shown, in units of the file: so that reading can begin at any of them."""

    times: npt.NDArray[np.int64]
    """Of all frames, ascending."""
    keys: npt.NDArray[np.int64]
    """Of those that can be decoded without others."""


def film_index(path: str | os.PathLike[str]) -> FilmIndex | None:
    """Goes through a film without decoding it; None if it does not tell when every frame is shown.

    Raises:
        DataError: if the file is missing, cannot be read, or is truncated; a file of which only the end tells
            that frames are missing is warned of.
        RuntimeError: if PyAV is not installed.
    """
    times, keys = [], []
    with _opened(path) as container, as_data_error(f"{path}, frame 0: cannot be read as a video"):
        for packet in _packets(container, path, whole=True):
            if packet.size == 0 or packet.is_discard:  # the last one, which empties the decoder
                continue
            if packet.pts is None or packet.is_corrupt:
                return None
            times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    if not keys or len(set(times)) < len(times):
        return None
    return FilmIndex(np.sort(np.array(times)), np.sort(np.array(keys)))


def film_pictures(
    path: str | os.PathLike[str], start: int = 0, index: FilmIndex | None = None
) -> Iterator[Image.Image]:
    """The pictures of the first video of a file, upright, each decoded when it is asked for.

    Args:
        path: the file.
        start: the first one, 0-based.
        index: of the film; with it decoding begins shortly before `start`, and at the first frame without.

    Raises:
        DataError: if the file is missing, cannot be read, is truncated, or has no frame `start`.
        RuntimeError: if PyAV is not installed.
    """
    count = 0
    with _opened(path) as container:
        frames = _frames(container, path, whole=True)
        if index is not None and 0 < start < len(index.times):
            count, frames = start, _frames_from(container, path, index, start)
        while True:
            with as_data_error(f"{path}, frame {count}: cannot be read as a video"):
                frame = next(frames, _END)
                if frame is _END:
                    break
                if frame is None:
                    raise DataError(f"{path}, frame {count}: cannot be read, the file is truncated.")
                picture = _picture(frame) if count >= start else None
            if picture is not None:
                yield picture
            count += 1
    if not count:
        raise DataError(f"{path}: expected a video, found no frames.")
    if count <= start:
        raise DataError(f"{path}: has {count} frames, fewer than the {start + 1} asked for.")


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The container of a file."""
    av = import_av()
    found = user_path(path)
    if not found.exists():
        raise DataError(f"{path}: no such file.")
    if not found.is_file():  # a pipe might never end
        raise DataError(f"{path}, frame 0: cannot be read as a video, it is no file.")
    with ExitStack() as stack:
        with as_data_error(f"{path}, frame 0: cannot be read as a video"):
            # Not the path: FFmpeg would take a part before a colon for a protocol.
            stream = stack.enter_context(open(found, "rb"))
            container = stack.enter_context(av.open(stream, options=_OPTIONS, metadata_errors="replace"))
        yield container


def _frames(container: Any, path: str | os.PathLike[str], whole: bool = False) -> Iterator[Any]:
    """The frames from where the container is, and None where the file ends within one; see `_packets`."""
    for packet in _packets(container, path, whole):
        if packet.is_corrupt:
            yield None
        yield from packet.decode()


def _frames_from(container: Any, path: str | os.PathLike[str], index: FilmIndex, start: int) -> Iterator[Any]:
    """The frames from number `start` on."""
    wanted = index.times[start]
    # Where a file has its own mind of where a key frame is, from the one before.
    for key in index.keys[index.keys <= wanted][::-1]:
        container.seek(int(key), stream=container.streams.video[0])
        frames = _frames(container, path)
        for frame in frames:
            if frame is None or frame.pts is None or frame.pts > wanted:
                break
            if frame.pts == wanted:
                yield frame
                yield from frames
                return
    container.seek(0)
    for number, frame in enumerate(_frames(container, path)):
        if number >= start:
            yield frame


def _packets(container: Any, path: str | os.PathLike[str], whole: bool = False) -> Iterator[Any]:
    """Pieces of the first video of a file; a piece holds some frames, mostly one.

    Args:
        container: the file.
        path: what messages call it.
        whole: whether it is at its beginning, so that it can be said if it ends early.

    Raises:
        DataError: if there is no video, or its frames are too large.
    """
    if not container.streams.video:
        raise DataError(f"{path}: expected a video, found none in the file.")
    video = container.streams.video[0]
    with naming(path):
        check_claim("a frame", 4 * video.width * video.height, container.size, ratio=FILM_RATIO)
    pieces, end = 0, 0.0
    for packet in container.demux(video):
        if packet.size:
            pieces += 1
            shown = packet.dts if packet.pts is None else packet.pts
            end = max(end, float(((shown or 0) + (packet.duration or 0)) * packet.time_base))
        yield packet
    declared, rate = _declared_end(container), video.average_rate
    if whole and declared and rate and (declared - end) * rate >= _MISSING:
        warnings.warn(
            f"{path}: ends early, after {pieces} frames of about {round(declared * rate)} that it declares; "
            "it may be truncated.",
            stacklevel=1,  # from one place, whoever asks, so that it is shown once
        )


def _declared_end(container: Any) -> float | None:
    """When a file says that its first video ends, in seconds; None if it only seems to say so."""
    video, kind = container.streams.video[0], container.format.name
    if "mov" in kind and video.frames and video.duration:  # a fragmented one counts no frames, and is guessed
        return float((video.duration + (video.start_time or 0)) * video.time_base)
    if "matroska" not in kind:
        return None
    told = next((text for name, text in video.metadata.items() if name.upper().startswith("DURATION")), "")
    with suppress(ValueError):
        hours, minutes, seconds = map(float, told.split(":"))
        return 3600 * hours + 60 * minutes + seconds
    # That of the file is of the longest of its streams.
    return container.duration / 1e6 if len(container.streams) == 1 and container.duration else None


def _picture(frame: Any) -> Image.Image:
    """A frame of PyAV as Pillow's picture."""
    transparent = any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(format="rgba" if transparent else "rgb24")
    turns = round(frame.rotation / 90)  # counter-clockwise
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, turns)))


def frame_rate(path: str | os.PathLike[str]) -> float | None:
    """Frames per second of the first video of a file; None if it is no video file, or does not say.

    Raises:
        RuntimeError: if it is one and PyAV is not installed.
    """
    found = user_path(path)
    if found.suffix.lower() not in VIDEO_SUFFIXES or not found.is_file():
        return None
    av = import_av()
    with (
        as_data_error(f"{path}: cannot be read as a video"),
        open(found, "rb") as stream,
        av.open(stream, options=_OPTIONS, metadata_errors="replace") as container,
    ):
        rate = container.streams.video[0].average_rate if container.streams.video else None
    return float(rate) if rate else None
