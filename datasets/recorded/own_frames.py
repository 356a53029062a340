"""The frames of a user's videos as they are: what they are called, and their pixels, whatever their sizes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...files import user_path
from ..opening.picture import image_array, read_image
from .folder import as_planes
from .frames import open_frames
from .picture_clips import FolderClip, PictureClip, picture_clips


def frame_names(path: str | os.PathLike[str], video: int = 0) -> Callable[[int], str]:
    """Names by the number of the frame: of a folder those of its files, of others one that is made up.

    Args:
        path: see `open_frames`.
        video: which of several.
    """
    root, clip = user_path(path), _clip(path, video)
    if isinstance(clip, FolderClip):
        return lambda frame: os.fspath(clip.files[frame].relative_to(root))
    name = video_name(path, video)
    return lambda frame: f"{name}/{frame:06d}"


def video_name(path: str | os.PathLike[str], video: int = 0) -> str:
    """The name of one of the videos of a path."""
    clip = _clip(path, video)
    return f"{Path(path).name}/{video}" if clip is None else clip.path.name


def own_frames(
    path: str | os.PathLike[str], video: int = 0, stop: int | None = None, bits: int = 16
) -> Iterator[npt.NDArray[np.uint8]]:
    """The frames of a user's video as they are, in colour, `(3, H, W)`; those of a folder may differ in size.

    Args:
        path: see `open_frames`.
        video: which of several.
        stop: the frame to stop before.
        bits: see `load_folder`.

    Raises:
        DataError: if one cannot be read.
    """
    clip = _clip(path, video)
    if not isinstance(clip, FolderClip):
        yield from open_frames(path, video=video, channels=3, bits=bits, stop=stop)
        return
    for file in clip.files[:stop]:
        picture = Image.fromarray(read_image(file, None, grey=False, bits=bits))
        yield as_planes(image_array(picture.convert("RGB"), None, grey=False))


def _clip(path: str | os.PathLike[str], video: int) -> PictureClip | None:
    """One of the videos of a path that are stored picture by picture."""
    clips = picture_clips(user_path(path))
    return clips[video] if video < len(clips) else None
