"""A user's own videos: frames in folders, arrays, video files, animated GIFs, or data sets in HDF5 files."""

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile
from PIL import Image, ImageSequence

from ..errors import DataError
from ..storage.schema import naming
from ..storage.store import load_video
from ..storage.video import LABEL_TYPES, VideoData, as_label, shape_problems
from .folder import HDF5_SUFFIXES, image_array, is_image, read_image, stack_images
from .video_file import VIDEO_SUFFIXES, read_video

_MAX_CHANNELS = 4
# What Pillow and NumPy raise for damaged files, depending on where the damage is.
_GIF_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)
_NPZ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def load_clips(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
) -> VideoData:
    """Reads videos from a folder, an `.npz` archive, an animated `.gif`, a video file, or an HDF5 file.

    **A folder** of PNG and JPEG files is one video. Frames are in natural order: `frame2` comes before
    `frame10`. A folder without images whose sub-folders hold some is one video for each sub-folder, in
    natural order too, all of them equally long. Hidden files and folders are left alone. Images are read as
    by `load_folder`: transparency is laid over black, and videos are grey if every file is.

    **A GIF** is one video. Every picture stored in it is one frame, however long it is shown. Transparency is
    laid over black. There is one channel if all colours are greys.

    **A video file** (`.avi`, `.mp4`, ...) is one video, see `read_video`.

    **An archive** holds an array `video`, or whatever name the only array has that is not called like a
    label; uint8, or real numbers in [0, 1], which are rounded to the nearest of 256 grey values:

    - 3 axes are (frames, height, width), one grey video; a last axis of length 1 to 4 is refused, since it
      must be that of the channels of one picture;
    - 4 axes of which the last has length 1 to 4 are (frames, height, width, channels), one video;
    - other 4 axes are (videos, frames, height, width), grey videos; a second axis of length 1 to 4 is
      refused, since it could as well be that of channels: give the array 5 axes;
    - 5 axes are always (videos, frames, channels, height, width).

    Arrays `count`, `classes`, `boxes`, `visible`, `groups` and `names` are the labels of `VideoData`, of any
    integer or real type; where `video` has no axis of videos, they have none. Other arrays are left alone.
    Pickled objects are never loaded.

    **An HDF5 file** (`.h5`, `.hdf5`) is read by `load_video`, with its labels.

    Args:
        path: the folder or file.
        size: (height, width) to which frames are resized by averaging over areas (box filter), without
            keeping their ratio of width to height, and boxes with them; by default they stay as they are, and
            all must have the same size.
        channels: 1 makes colours grey (ITU-R 601 luma), 3 gives grey videos three equal channels; data with
            this many channels are left as they are, and other conversions are refused. By default all are.

    Raises:
        DataError: if there is nothing at `path`, or it cannot be read or used; the message names the file
            and, where only one is at fault, the frame (the first is 0).
        RuntimeError: if a video file is to be read and PyAV is not installed.
        ValueError: if `size` is not positive, or `channels` not 1 to 4.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"`size` must be two positive numbers of pixels, got {size}.")
    if channels is not None and not 1 <= channels <= _MAX_CHANNELS:
        raise ValueError(f"`channels` must be 1 to {_MAX_CHANNELS}, got {channels}.")
    root, suffix = Path(path), Path(path).suffix.lower()
    if root.is_dir():
        data = _load_frames(root, size)
    elif not root.exists():
        raise DataError(f"{path}: no such file or folder.")
    elif suffix == ".gif":
        data = _load_gif(root, size)
    elif suffix in VIDEO_SUFFIXES:
        data = VideoData(read_video(root, size=size)[None])
    elif suffix == ".npz":
        data = _load_archive(root)
    elif suffix in HDF5_SUFFIXES:
        data = load_video(root)
    else:
        raise DataError(
            f"{path}: expected a folder of frames, or a file whose name ends in .npz, .gif, .h5, .hdf5 or "
            f"{', '.join(VIDEO_SUFFIXES)}."
        )
    with naming(path):
        return _with_channels(_resized(data, size), channels)


def _load_frames(root: Path, size: tuple[int, int] | None) -> VideoData:
    frames, folders = _images(root), [entry for entry in _entries(root) if entry.is_dir()]
    if not frames and not folders:
        raise DataError(f"{root}: expected PNG or JPEG files, or folders of them, there is none.")
    if frames and any(map(_images, folders)):
        raise DataError(
            f"{root}: expected frames of one video, or one folder of frames for each video, found both."
        )
    clips = {root: frames} if frames else {folder: _images(folder) for folder in folders}
    first = next(iter(clips))
    for folder, files in clips.items():
        if not files:
            raise DataError(f"{folder}: expected PNG or JPEG files, there is none.")
        if len(files) != len(clips[first]):
            raise DataError(
                f"{folder}: {len(files)} frames, but {first.name} has {len(clips[first])}; "
                "videos must be equally long."
            )
    names = [file for files in clips.values() for file in files]
    stacked = stack_images([read_image(name, size, grey=False) for name in names], names)
    return VideoData(stacked.reshape(len(clips), -1, *stacked.shape[1:]))


def _images(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if is_image(entry)]


def _entries(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, in natural order."""
    try:
        return sorted((entry for entry in folder.iterdir() if entry.name[0] != "."), key=_natural_order)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}).") from error


def _natural_order(path: Path) -> tuple[list[str | int], str]:
    """A key by which numbers in names are compared as numbers; equal ones differ in zeros or in case."""
    parts = re.split(r"(\d+)", path.name.casefold())  # words and numbers in turn, words first
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name


def _load_gif(path: Path, size: tuple[int, int] | None) -> VideoData:
    arrays: list[np.ndarray] = []
    try:
        with Image.open(path, formats=["GIF"]) as opened:
            for frame in ImageSequence.Iterator(opened):
                arrays.append(image_array(frame, size, grey=False))
    except _GIF_ERRORS as error:
        raise DataError(f"{path}, frame {len(arrays)}: cannot be read as a GIF ({error}).") from error
    video = stack_images(arrays, [Path(f"{path}, frame {number}") for number in range(len(arrays))])
    # Pillow opens grey frames after the first as RGB.
    is_grey = (video == video[:, :1]).all()
    return VideoData(np.ascontiguousarray(video[None, :, :1] if is_grey else video[None]))


def _load_archive(path: Path) -> VideoData:
    with naming(path):
        arrays = read_archive(path, _wanted)
        name, *names = arrays
        video, has_videos = _five_axes(name, arrays[name])
        for problem in shape_problems(video.shape):
            raise DataError(problem.replace("`video`", f"`{name}`"))
        labels = {label: as_label(label, arrays[label]) for label in names}
        if not has_videos:
            labels = {label: value[None] for label, value in labels.items()}
        return VideoData(_as_bytes(name, video), **labels)


def read_archive(path: Path, choose: Callable[[list[str]], list[str]] = list) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an `.npz` archive by name: those that `choose` picks from the names, in its order.

    Raises:
        DataError: if they cannot be read. The message does not name the file.
    """
    where = ""
    try:
        with open(path, "rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise DataError("expected an .npz archive, found a single array.")
            arrays: dict[str, npt.NDArray[Any]] = {}
            for name in choose(archive.files):
                where = f"`{name}` "
                arrays[name] = np.asarray(archive[name])
            return arrays
    except DataError:
        raise
    except _NPZ_ERRORS as error:
        raise DataError(f"{where}cannot be read from an .npz archive ({error}).") from error


def _wanted(names: list[str]) -> list[str]:
    """Names of the pixels, which come first, and of the labels in an archive."""
    others = [name for name in names if name not in LABEL_TYPES]
    if "video" not in others and len(others) != 1:
        raise DataError(f"expected an array `video`, or a single array beside labels, found {sorted(names)}.")
    pixels = "video" if "video" in others else others[0]
    return [pixels, *(name for name in LABEL_TYPES if name in names)]


def _five_axes(name: str, pixels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], bool]:
    """The pixels as (videos, frames, channels, height, width), and whether they had the axis of videos."""
    shape = pixels.shape
    if len(shape) == 5:
        return pixels, True
    if len(shape) == 3 and shape[-1] > _MAX_CHANNELS:
        return pixels[None, :, None], False
    if len(shape) == 4 and shape[-1] <= _MAX_CHANNELS:
        return pixels.transpose(0, 3, 1, 2)[None], False
    if len(shape) == 4 and not 1 <= shape[1] <= _MAX_CHANNELS:
        return pixels[:, :, None], True
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


def _as_bytes(name: str, video: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Pixels `(B, T, C, H, W)` as bytes."""
    if video.dtype == np.uint8:
        return np.ascontiguousarray(video)
    if video.dtype.kind != "f":
        raise DataError(f"`{name}` must be uint8 or real numbers, got {video.dtype}.")
    bad = ~((video >= 0) & (video <= 1))  # NaN is bad too
    if bad.any():
        number, frame = np.argwhere(bad)[0, :2]
        raise DataError(
            f"`{name}` must have real values in [0, 1], "
            f"got {video[bad][0]} in frame {frame} of video {number}."
        )
    # Half precision would be too coarse.
    levels = np.multiply(video, 255, dtype=np.result_type(video, np.float32))
    return np.ascontiguousarray(np.rint(levels).astype(np.uint8))


def _resized(data: VideoData, size: tuple[int, int] | None) -> VideoData:
    height, width = data.video.shape[-2:]
    if size is None or tuple(size) == (height, width):
        return data
    planes = data.video.reshape(-1, height, width)
    resized = np.empty((len(planes), *size), np.uint8)
    for number, plane in enumerate(planes):
        resized[number] = image_array(Image.fromarray(plane), size, grey=True)
    video, boxes = resized.reshape(*data.shape[:3], *size), data.boxes
    if boxes is not None:
        factors = size[1] / width, size[0] / height
        boxes = (boxes * np.array([*factors, *factors])).astype(np.float32)
    return replace(data, video=video, boxes=boxes)


def _with_channels(data: VideoData, channels: int | None) -> VideoData:
    present = data.video.shape[2]
    if channels in (None, present):
        return data
    if (present, channels) == (1, 3):
        return replace(data, video=np.repeat(data.video, 3, axis=2))
    if (present, channels) != (3, 1):
        raise DataError(f"has {present} channels, which cannot be turned into {channels}.")
    videos, frames, _, height, width = data.video.shape
    grey = np.empty((videos * frames, height, width), np.uint8)
    for frame, pixels in enumerate(data.video.reshape(-1, 3, height, width)):
        grey[frame] = image_array(Image.fromarray(pixels.transpose(1, 2, 0).copy()), None, grey=True)
    return replace(data, video=grey.reshape(videos, frames, 1, height, width))
