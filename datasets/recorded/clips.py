"""A user's own videos: frames in folders, arrays, video files, animations, or data sets in HDF5 files."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...files import user_path
from ..errors import DataError
from ..opening.claims import LIMIT, check_claim, naming
from ..opening.hdf5 import HDF5_SUFFIXES
from ..opening.picture import Picture, image_array
from ..storage.store import load_video
from ..storage.video import VideoData
from .archive_clips import find_array, load_archive
from .folder import stack_images
from .frames import Size, check_conversion, fit_frame, fit_labels
from .picture_clips import EXPECTED, PictureClip, picture_clips


def load_clips(
    path: str | os.PathLike[str],
    *,
    size: Size | None = None,
    channels: int | None = None,
    bits: int = 16,
    limit: float = LIMIT,
) -> VideoData:
    """Reads videos from a folder, an animation, a video file, an `.npz` archive, or an HDF5 file.

    **A folder** of PNG, JPEG, BMP, TIFF and WebP files is one video. Frames are in natural order:
    `frame2` comes before `frame10`. A folder without images whose sub-folders hold some is one video for each
    sub-folder, and one of video files and GIFs one for each of these, in natural order too, all of them
    equally long. Hidden files and folders are left alone. Images are read as by `load_folder`: transparency
    is laid over black, and videos are grey if every file is.

    **An animation** is one video: a GIF, an animated PNG or WebP, a TIFF of several pages. Every picture
    stored in it is one frame, however long it is shown. Transparency is laid over black. There is one channel
    if all colours are greys.

    **A video file** (`.avi`, `.mp4`, ...) is one video, see `read_video`.

    **An archive** holds an array `video`, or whatever name the only array has that is not called like a
    label; one of several is named as if the archive were a folder (`flies.npz/frames`). It is uint8, or real
    numbers in [0, 1], which are rounded to the nearest of 256 grey values:

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
        bits: of the pictures of a folder or an animation, see `load_folder`.
        limit: most bytes of memory that the videos may take as they are stored, 8 GiB; of a folder, a GIF or
            a video file, after they are resized. `open_frames` reads what is larger.

    Raises:
        DataError: if there is nothing at `path`, or it cannot be read or used; the message names the file
            and, where only one is at fault, the frame (the first is 0).
        RuntimeError: if a video file is to be read and PyAV is not installed.
        ValueError: if `size` is not positive, `channels` not 1 to 4, or `bits` not 8 to 16.
    """
    check_conversion(size, channels, bits)
    root, suffix = user_path(path), Path(path).suffix.lower()
    if found := find_array(root):
        with naming(found.archive):
            data = load_archive(found, limit)
    elif not root.exists():
        raise DataError(f"{path}: no such file or folder.")
    elif suffix in HDF5_SUFFIXES and root.is_file():
        data = load_video(root, limit=limit)
    elif clips := picture_clips(root, bits):
        data = VideoData(_load_pictures(clips, size, channels, limit))
    else:
        raise DataError(f"{path}: {EXPECTED}.")
    with naming(path):
        return _converted(data, size, channels)


def _load_pictures(
    clips: list[PictureClip], size: Size | None, channels: int | None, limit: float
) -> np.ndarray:
    """The frames of equally long videos `(M, T, C, H, W)`, resized and made grey as they are read."""
    arrays: list[Picture] = []
    names: list[Path] = []
    taken = 0
    first = clips[0].length
    for clip in clips:
        before = len(arrays)
        _require_length(clip, clip.length, clips[0], first)
        for number, picture in enumerate(clip.pictures(0)):
            arrays.append(image_array(Image.fromarray(picture), size, grey=channels == 1))
            names.append(clip.frame_name(number))
            taken += arrays[-1].nbytes
            with naming(clip.path):
                check_claim("the video", taken, clip.stored, limit, clip.ratio)
        first = first or len(arrays)
        _require_length(clip, len(arrays) - before, clips[0], first)
    stacked = stack_images(arrays, names)
    return stacked.reshape(len(clips), -1, *stacked.shape[1:])


def _require_length(clip: PictureClip, length: int | None, other: PictureClip, expected: int | None) -> None:
    if length is not None and expected is not None and length != expected:
        raise DataError(
            f"{clip.path}: {length} frames, but {other.path.name} has {expected}; "
            "videos must be equally long."
        )


def _converted(data: VideoData, size: Size | None, channels: int | None) -> VideoData:
    videos, frames, present, *old = data.shape
    new_size, new_channels = size or (old[0], old[1]), channels or present
    if (present, *old) == (new_channels, *new_size):
        return data
    video = np.empty((videos, frames, new_channels, *new_size), np.uint8)
    for row in range(videos):
        for number, frame in enumerate(data.video[row]):
            video[row, number] = fit_frame(frame, new_size, new_channels)
    return replace(data, video=video, **fit_labels(data.labels(), (old[0], old[1]), new_size))
