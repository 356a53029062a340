"""Videos in `.npz` archives, with their labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..opening.archive import Archive, open_archive
from ..opening.claims import LIMIT
from ..storage.video import LABEL_TYPES, VideoData, as_label, shape_problems

MAX_CHANNELS = 4
"""Most channels of a video."""

Bytes = npt.NDArray[np.uint8]


class ArrayPath(NamedTuple):
    """Where pixels are in an archive."""

    archive: Path
    """The file."""
    name: str | None
    """The array, where the path tells it."""


def find_array(path: Path) -> ArrayPath | None:
    """An archive, or an array of one: `flies.npz`, `flies.npz/frames`; None if the path is none of these."""
    for archive, name in ((path, None), (path.parent, path.name)):
        if archive.suffix.lower() == ".npz" and archive.is_file():
            return ArrayPath(archive, name)
    return None


class ArchiveVideos:
    """The videos of an open archive, see `load_clips`.

    Messages do not name the file.

    Args:
        archive: the archive.
        name: of the pixels' array; by default it is found.

    Raises:
        DataError: if it is not clear which array has the pixels, or what its axes are.
    """

    def __init__(self, archive: Archive, name: str | None = None) -> None:
        self._archive = archive
        self.name, self._labels = _wanted(archive.names, name)
        header = archive.header(self.name)
        if header.dtype != np.uint8 and header.dtype.kind != "f":
            raise DataError(f"`{self.name}` must be uint8 or real numbers, got {header.dtype}.")
        self.axes = _axes(self.name, header.shape)
        """What the axes of the pixels are."""
        self.shape = self.axes.full(header.shape)
        """`(M, T, C, H, W)`."""
        for problem in shape_problems(self.shape):
            raise DataError(problem.replace("`video`", f"`{self.name}`"))

    def labels(self) -> dict[str, npt.NDArray[Any]]:
        """The labels, in the types and shapes of `VideoData`.

        Raises:
            DataError: if they cannot be read.
        """
        labels = {name: as_label(name, self._archive.read(name)) for name in self._labels}
        return labels if self.axes.videos else {name: value[None] for name, value in labels.items()}

    def load(self, limit: float = LIMIT) -> VideoData:
        """All videos, in memory.

        Raises:
            DataError: if they cannot be read, take more than `limit` bytes, or do not fit their labels.
        """
        labels, video = self.labels(), np.empty(self.shape, np.uint8)
        pixels = self.axes.order(self._archive.read(self.name, limit))
        for number, frames in enumerate(pixels):
            for frame, picture in enumerate(frames):
                video[number, frame] = _as_bytes(self.name, picture, number, frame)
        return VideoData(video, **labels)

    def frames(self, number: int, start: int = 0, stop: int | None = None) -> Iterator[Bytes]:
        """The frames `(C, H, W)` of one video from `start` to `stop - 1`, each read when it is asked for.

        Raises:
            DataError: if they cannot be read.
        """
        depth = 2 if self.axes.videos else 1
        first, last = (number * self.shape[1] + at for at in (start, self.shape[1] if stop is None else stop))
        for row, picture in enumerate(self._archive.rows(self.name, depth, first, last), start):
            yield _as_bytes(self.name, self.axes.order_frame(picture), number, row)


def load_archive(found: ArrayPath, limit: float = LIMIT) -> VideoData:
    """The videos of an archive, see `load_clips`.

    Raises:
        DataError: if they cannot be used. The message does not name the file.
    """
    with open_archive(found.archive) as archive:
        return ArchiveVideos(archive, found.name).load(limit)


class Axes(NamedTuple):
    """What the axes of an array of pixels are; those of frames, height and width are always there."""

    videos: bool
    """The first is that of videos."""
    channels: int | None
    """Where that of channels is, from the end of the shape."""

    def full(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape `(M, T, C, H, W)`."""
        shape = shape if self.videos else (1, *shape)
        if self.channels == -1:
            return (*shape[:2], shape[4], *shape[2:4])
        return shape if self.channels else (*shape[:2], 1, *shape[2:])

    def order(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The array as `(M, T, C, H, W)`."""
        return self.order_frame(pixels if self.videos else pixels[None])

    def order_frame(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Pixels `(..., C, H, W)` of those of one frame, or of several."""
        if self.channels == -1:
            return np.moveaxis(pixels, -1, -3)
        return pixels if self.channels else np.expand_dims(pixels, -3)


def _wanted(names: list[str], name: str | None) -> tuple[str, list[str]]:
    """Names of the pixels and of the labels in an archive."""
    labels, others = ([each for each in names if (each in LABEL_TYPES) is label] for label in (True, False))
    if name is not None:
        if name not in names:
            raise DataError(f"expected an array `{name}`, found {sorted(names)}.")
        return name, [label for label in labels if label != name]
    if "video" not in others and len(others) != 1:
        raise DataError(
            f"expected an array `video`, or a single array beside labels, found {sorted(names)}; one of them "
            "can be named as if the archive were a folder: `FILE.npz/NAME`."
        )
    return "video" if "video" in others else others[0], labels


def _axes(name: str, shape: tuple[int, ...]) -> Axes:
    if len(shape) == 5:
        return Axes(True, -3)
    if len(shape) == 3 and shape[-1] > MAX_CHANNELS:
        return Axes(False, None)
    if len(shape) == 4 and shape[-1] <= MAX_CHANNELS:
        return Axes(False, -1)
    if len(shape) == 4 and not 1 <= shape[1] <= MAX_CHANNELS:
        return Axes(True, None)
    if len(shape) == 4:
        many, few, height, width = shape
        raise DataError(
            f"`{name}` of shape {shape} may be 1 video with {few} channels or {many} videos of {few} frames; "
            f"reshape it to {(1, *shape)} or {(many, few, 1, height, width)}."
        )
    raise DataError(
        f"`{name}` must have axes (frames, height, width), (frames, height, width, channels), "
        f"(videos, frames, height, width) or (videos, frames, channels, height, width), got shape {shape}."
    )


def _as_bytes(name: str, picture: npt.NDArray[Any], video: int, frame: int) -> Bytes:
    """The pixels of a frame as bytes."""
    if picture.dtype == np.uint8:
        return picture
    bad = ~((picture >= 0) & (picture <= 1))  # NaN is bad too
    if bad.any():
        raise DataError(
            f"`{name}` must have real values in [0, 1], "
            f"got {picture[bad][0]} in frame {frame} of video {video}."
        )
    # Half precision would be too coarse.
    levels = np.multiply(picture, 255, dtype=np.result_type(picture, np.float32))
    return np.rint(levels).astype(np.uint8)
