"""One video of a user's, read as it goes: memory holds some of its frames, whatever its length."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ... import checks
from ...files import user_path
from ..errors import DataError
from ..opening.archive import open_archive
from ..opening.claims import naming
from ..opening.hdf5 import HDF5_SUFFIXES
from ..opening.picture import image_array
from ..storage.store import VideoStore
from ..storage.video import FRAME_LABELS
from .archive_clips import MAX_CHANNELS, ArchiveVideos, ArrayPath, find_array
from .folder import as_planes, size_error
from .picture_clips import EXPECTED, PictureClip, picture_clips
from .target_clips import check_size

Bytes = npt.NDArray[np.uint8]
Size = tuple[int, int]
Reading = Generator[Bytes, None, None]

_BLOCK = 16  # frames that are read at once from a file of many


@dataclass(frozen=True, eq=False)
class Frames:
    """A video that is read as it goes, from its first frame, each time that it is asked for.

        video = open_frames("street.mp4", channels=3)
        for block in video.blocks(16):
            ...  # (n, 3, H, W), uint8

    Here n is 16, and less at the end.
    """

    path: Path
    """The file or folder."""
    stored_size: Size
    """(height, width) of the frames in the file."""
    size: Size
    """(height, width) of the frames that are given: another one where they are resized."""
    channels: int
    """Their number of channels, 1 to 4."""
    length: int | None
    """How many frames there are; None if only reading all of them would tell."""
    labels: dict[str, npt.NDArray[Any]]
    """The video's labels, see `VideoData`, without the axis of videos: `boxes` are `(T, N, 4)`, in pixels of
    the frames that are given. There are none where `length` is None.
    """
    read: Callable[[int], Reading]
    """Starts to read at a frame, the first being 0: that one and those after it `(C, H, W)` in order."""
    count: Callable[[], int]
    """Tells `length`, where need be by reading all frames."""
    anywhere: bool
    """Whether `read` can begin anywhere without going through all frames before."""
    keys: npt.NDArray[np.int64] | None
    """Frames at which `read` begins soonest, ascending; None where all are alike."""
    region: npt.NDArray[np.float32]
    """The part of the user's own frames that is shown: `(left, top, width, height)` in their pixels. It is
    all of them, but for clips that were cut out, see `VideoData.regions`.
    """

    def __iter__(self) -> Iterator[Bytes]:
        return self.read(0)

    def window(self, start: int, stop: int) -> Bytes:
        """Frames `start` to `stop - 1`, `(n, C, H, W)`, without reading many more; fewer at the end.

        Raises:
            DataError: if one cannot be read, or `start` is beyond the end.
        """
        with closing(self.read(start)) as frames:
            found = list(islice(frames, stop - start))
        if not found:
            raise DataError(f"{self.path}: has no frame {start}.")
        return np.stack(found)

    def part(self, start: int, stop: int) -> "Frames":
        """Frames `start` to `stop - 1` as a video of their own.

        Raises:
            DataError: if there are no such frames.
        """
        length = self.count()
        if not 0 <= start < stop <= length:
            raise DataError(f"{self.path}: has {length} frames, no part {start} to {stop}.")

        def read(at: int) -> Reading:
            with closing(self.read(start + at)) as frames:
                yield from islice(frames, stop - start - at)

        labels = {
            name: value[start:stop] if name in FRAME_LABELS else value for name, value in self.labels.items()
        }
        length = stop - start
        return replace(self, length=length, labels=labels, read=read, count=lambda: length, keys=None)

    def in_source(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Boxes `(..., 4)` in frames as they are given, in pixels of the user's own frames."""
        return _moved(boxes, (0.0, 0.0, self.size[1], self.size[0]), self.region)

    def from_source(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Boxes `(..., 4)` in pixels of the user's own frames, in those of frames as they are given."""
        return _moved(boxes, self.region, (0.0, 0.0, self.size[1], self.size[0]))

    def blocks(self, most: int = 16) -> Iterator[Bytes]:
        """All frames in order, `(n, C, H, W)`, uint8: `most` at a time, and the last ones.

        Raises:
            DataError: if a frame cannot be read, or has another size; the message names the file and, where
                it can, the frame (the first is 0).
            ValueError: if `most` is not positive.
        """
        if most < 1:
            raise ValueError(f"`most` must be at least 1, got {most}.")
        return self._blocks(most)

    def _blocks(self, most: int) -> Iterator[Bytes]:
        with closing(self.read(0)) as frames:
            while block := list(islice(frames, most)):
                yield np.stack(block)


def open_frames(
    path: str | os.PathLike[str],
    *,
    video: int = 0,
    size: Size | None = None,
    channels: int | None = None,
    bits: int = 16,
    stop: int | None = None,
) -> Frames:
    """Opens one video of whatever `load_clips` reads, without reading more of it than must be.

    The frames are those that `load_clips` would give, but a clip of a data set that is shorter than T stops
    at its own end: frames that are black and in which no label says that there is an object are left out
    after the last other one.

    Only the first frame is read, or header of a file, with these exceptions: where `channels` is not given,
    a film or an animation is read once to see whether there are colours in it; and one of several videos in
    an `.npz` archive to find its end. An archive's array in Fortran's order is copied to a temporary file.

    Args:
        path: a folder, an animation, a video file, an `.npz` archive, or an HDF5 file, see `load_clips`.
        video: which of several.
        size: as in `load_clips`.
        channels: as in `load_clips`.
        bits: as in `load_clips`.
        stop: the frame to stop before, if the video does not end earlier.

    Raises:
        DataError: if there is nothing at `path`, or it cannot be read or used, or has no such video; the
            message names the file.
        RuntimeError: if a video file is to be read and PyAV is not installed.
        ValueError: if `size`, `channels`, `bits`, `stop` or `video` is impossible.
    """
    check_conversion(size, channels, bits)
    if video < 0 or (stop is not None and stop < 1):
        raise ValueError(f"`video` must not be negative and `stop` at least 1, got {video} and {stop}.")
    root, suffix = user_path(path), Path(path).suffix.lower()
    if found := find_array(root):
        opened = _from_archive(found, video)
    elif not root.exists():
        raise DataError(f"{path}: no such file or folder.")
    elif suffix in HDF5_SUFFIXES and root.is_file():
        opened = _from_store(root, video)
    elif clips := picture_clips(root, bits):
        with naming(path):
            _check_number(video, len(clips))
        opened = _from_pictures(clips[video], size, channels, stop)
    else:
        raise DataError(f"{path}: {EXPECTED}.")
    return _converted(opened, size, channels, stop)


def count_videos(path: str | os.PathLike[str]) -> int:
    """How many videos `open_frames` finds at a path.

    Raises:
        DataError: see `open_frames`.
    """
    root, suffix = user_path(path), Path(path).suffix.lower()
    if found := find_array(root):
        with naming(found.archive), open_archive(found.archive) as archive:
            return ArchiveVideos(archive, found.name).shape[0]
    if not root.exists():
        raise DataError(f"{path}: no such file or folder.")
    if suffix in HDF5_SUFFIXES and root.is_file():
        return len(VideoStore(root))
    if clips := picture_clips(root):
        return len(clips)
    raise DataError(f"{path}: {EXPECTED}.")


def size_of_all(videos: Iterable[Frames]) -> Size:
    """Height and width of the frames of videos, one or more, which must be those of the first.

    Raises:
        SizeError: if they are not; the message has the name of the first that differs.
    """
    rest = iter(videos)
    first = next(rest)
    for video in rest:
        if video.size != first.size:
            raise size_error(video.path, video.size, first.path, first.size)
    return first.size


def holds_arrays(path: Path) -> bool:
    """Whether a file of arrays is at a path, which tells how many channels they have."""
    return find_array(path) is not None or (path.suffix.lower() in HDF5_SUFFIXES and path.is_file())


def check_conversion(size: Size | None, channels: int | None, bits: int) -> None:
    """Refuses what frames cannot become.

    Raises:
        ValueError: if `size` is not two positive numbers, `channels` not 1 to 4, or `bits` not 8 to 16.
    """
    if size is not None:
        check_size(size)
    if channels is not None and not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"`channels` must be 1 to {MAX_CHANNELS}, got {channels}.")
    checks.within("[8, 16]", bits=bits)


def fit_frame(frame: Bytes, size: Size, channels: int) -> Bytes:
    """A frame `(C, H, W)` with another number of channels and another size, `(channels, *size)`.

    Raises:
        DataError: if C is neither `channels`, nor 1 or 3 like them.
    """
    present = len(frame)
    if (present, channels) == (3, 1):
        frame = image_array(Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))), None, True)[None]
    elif present != channels and (present, channels) != (1, 3):
        raise DataError(f"has {present} channels, which cannot be turned into {channels}.")
    if frame.shape[1:] != tuple(size):
        planes = (image_array(Image.fromarray(np.ascontiguousarray(plane)), size, True) for plane in frame)
        frame = np.stack(list(planes))
    return np.broadcast_to(frame, (channels, *size))


def _converted(opened: Frames, size: Size | None, channels: int | None, stop: int | None) -> Frames:
    """Frames of another size and number of channels, and only those before `stop`."""
    new_size, new_channels = size or opened.size, channels or opened.channels
    with naming(opened.path):
        fit_frame(np.zeros((opened.channels, 1, 1), np.uint8), (1, 1), new_channels)

    def read(start: int) -> Reading:
        with closing(opened.read(start)) as frames:
            for frame in islice(frames, None if stop is None else max(0, stop - start)):
                yield fit_frame(frame, new_size, new_channels)

    def count() -> int:
        frames = opened.count() if opened.length is None else opened.length
        return frames if stop is None else min(frames, stop)

    length = opened.length if stop is None or opened.length is None else min(opened.length, stop)
    labels = {
        name: value[:length] if name in FRAME_LABELS else value for name, value in opened.labels.items()
    }
    labels |= fit_labels(labels, opened.size, new_size)
    return replace(
        opened, size=new_size, channels=new_channels, length=length, labels=labels, read=read, count=count
    )


def fit_labels(labels: Mapping[str, Any], old: Size, new: Size) -> dict[str, Any]:
    """Those of some labels that depend on the size of frames, of frames that become as large as `new`."""
    fitted: dict[str, Any] = {}
    if "boxes" in labels:
        fitted["boxes"] = fit_boxes(labels["boxes"], old, new)
    if "segments" in labels:
        fitted["segments"] = fit_segments(labels["segments"], new)
    return fitted


def fit_segments(segments: Bytes, size: Size) -> Bytes:
    """Segments `(..., H, W)` of frames that become as large as `size`: those of the nearest pixels."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, segments.shape[-2:], strict=True)
    )
    return segments[..., rows[:, None], columns]


def fit_boxes(boxes: npt.NDArray[np.float32], old: Size, new: Size) -> npt.NDArray[np.float32]:
    """Boxes `(..., 4)` in frames that become as large as `new`."""
    factors = new[1] / old[1], new[0] / old[0]
    return (boxes * np.array([*factors, *factors])).astype(np.float32)


def _from_pictures(clip: PictureClip, size: Size | None, channels: int | None, stop: int | None) -> Frames:
    length, grey = clip.length, channels == 1
    if channels is None:
        length, grey = clip.scan(stop)
    with closing(clip.pictures(0)) as pictures:
        height, width = next(pictures).shape[:2]

    def read(start: int) -> Reading:
        with closing(clip.pictures(start)) as pictures:
            for number, picture in enumerate(pictures, start):
                if size is None and picture.shape[:2] != (height, width):
                    found = picture.shape[:2]
                    raise size_error(clip.frame_name(number), found, clip.frame_name(0), (height, width))
                yield as_planes(picture)

    channels, stored = 1 if grey else 3, (height, width)
    return Frames(
        clip.path,
        stored,
        stored,
        channels,
        length,
        {},
        read,
        clip.count,
        clip.anywhere(),
        clip.keys(),
        _whole(stored),
    )


def _from_archive(found: ArrayPath, number: int) -> Frames:
    path = found.archive
    with naming(path), open_archive(path) as archive:
        videos = ArchiveVideos(archive, found.name)
        _check_number(number, videos.shape[0])
        labels = {name: value[number] for name, value in videos.labels().items()}
        length = videos.shape[1]
        if videos.axes.videos:
            bright = (frame + 1 for frame, pixels in enumerate(videos.frames(number)) if pixels.any())
            length = _clip_end(length, labels, lambda: max(bright, default=0))

    def read(start: int) -> Reading:
        with naming(path), open_archive(path) as archive:
            yield from ArchiveVideos(archive, found.name).frames(number, start, length)

    return _of_arrays(path, videos.shape, length, labels, read, anywhere=False)


def _from_store(path: Path, number: int) -> Frames:
    store = VideoStore(path)
    with naming(path):
        _check_number(number, len(store))
    labels = {name: value[number] for name, value in store.labels().items()}
    frames, step = store.shape[1], max(_BLOCK, store.chunk_frames)

    def last_bright() -> int:
        for start in reversed(range(0, frames, step)):
            bright = store.frames(number, start + step, start).any((1, 2, 3))
            if bright.any():
                return start + int(np.flatnonzero(bright)[-1]) + 1
        return 0

    length = _clip_end(frames, labels, last_bright)
    store.close()

    def read(start: int) -> Reading:
        for first in range(start, length, step):
            yield from store.frames(number, min(first + step, length), first)

    return _of_arrays(path, store.shape, length, labels, read, anywhere=True)


def _of_arrays(
    path: Path,
    shape: tuple[int, ...],
    length: int,
    labels: dict[str, npt.NDArray[Any]],
    read: Callable[[int], Reading],
    anywhere: bool,
) -> Frames:
    channels, *size = shape[2:]
    stored = (size[0], size[1])
    area = labels.pop("regions", _whole(stored))
    return Frames(path, stored, stored, channels, length, labels, read, lambda: length, anywhere, None, area)


def _moved(
    boxes: npt.ArrayLike,
    old: Sequence[float] | npt.NDArray[np.float32],
    new: Sequence[float] | npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:
    """Boxes `(..., 4)` where a region has become another; a negative width stands for a mirrored one."""
    x, y, w, h = np.moveaxis(np.asarray(boxes, np.float64), -1, 0)
    across, down = float(new[2]) / float(old[2]), float(new[3]) / float(old[3])
    side = x + w if across < 0 else x  # the right side is the left one
    left, top = float(new[0]) + across * (side - float(old[0])), float(new[1]) + down * (y - float(old[1]))
    return np.stack([left, top, abs(across) * w, down * h], -1)


def _whole(size: Size) -> npt.NDArray[np.float32]:
    """The region of a frame that is all of it."""
    return np.array([0, 0, size[1], size[0]], np.float32)


def _check_number(video: int, videos: int) -> None:
    if video >= videos:
        raise DataError(f"expected a video {video}, there are {videos}, and the first is 0.")


def _clip_end(frames: int, labels: dict[str, npt.NDArray[Any]], last_bright: Callable[[], int]) -> int:
    """Frames of a clip of a data set, without black ones at the end where no object is.

    Args:
        frames: of the clip and what it is filled up with.
        labels: of the clip.
        last_bright: after how many frames all are black.
    """
    shown = np.zeros(frames, bool)
    for name in FRAME_LABELS.keys() & labels.keys():
        shown |= labels[name].reshape(frames, -1).any(1)
    last_shown = int(shown.nonzero()[0].max(initial=-1)) + 1
    end = frames if last_shown == frames else max(last_shown, last_bright())
    return end or frames  # where all are black, nothing tells what is not meant
