"""What loaders of single-object tracking data share: clips of one target each, in files of their own.

Clips differ in length and in the size of their frames; here they become videos of one length and one size.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import DataError
from ..opening.claims import as_data_error, naming
from ..opening.film import VIDEO_SUFFIXES
from ..opening.picture import image_array, is_image, read_image
from ..opening.text import number as parse_number
from ..opening.text import read_text
from ..storage.generated_videos import Bytes
from ..storage.store import part_length
from ..storage.video import VideoData
from .video_file import read_video

Size = tuple[int, int]
Channels = Literal[1, 3]
Boxes = npt.NDArray[np.float64]
OnBad = Callable[[str], object] | None


class TargetClips(NamedTuple):
    """Clips, and what was wrong with those that are missing."""

    data: VideoData
    """The clips."""
    skipped: list[str]
    """What was wrong with each clip or sequence that was left out."""


class ClipFrames(Protocol):
    """The frames of a clip, wherever they are."""

    def read(self, size: Size, channels: Channels) -> tuple[Bytes, Size]:
        """All frames `(T, C, *size)`, resized by averaging over areas, and the (height, width) they had.

        Raises:
            DataError: if they cannot be read, or differ in size; the message names the file.
        """


def read_frame(path: Path, size: Size, channels: Channels) -> tuple[Bytes, Size]:
    """A frame `(C, *size)` from an image file, and the (height, width) it had there.

    Raises:
        DataError: if the file cannot be read.
    """
    grey = channels == 1
    image = read_image(path, None, grey)
    height, width = image.shape[:2]
    if (height, width) != size:
        image = image_array(Image.fromarray(image), size, grey)
    planes = image.transpose(2, 0, 1) if image.ndim == 3 else image[None]
    return np.broadcast_to(planes, (channels, *size)), (height, width)


@dataclass(frozen=True)
class ImageFiles:
    """Frames of which each is an image file."""

    paths: Sequence[Path]
    """The files, in order."""
    reader: Callable[[Path, Size, Channels], tuple[Bytes, Size]] = read_frame
    """Reads one; clips that share frames share one that remembers them."""

    def read(self, size: Size, channels: Channels) -> tuple[Bytes, Size]:
        """See `ClipFrames`."""
        frames = np.empty((len(self.paths), channels, *size), np.uint8)
        sizes: list[Size] = []
        for number, path in enumerate(self.paths):
            frames[number], stored = self.reader(path, size, channels)
            sizes.append(stored)
            if stored != sizes[0]:
                raise DataError(
                    f"{path}: {stored[1]} x {stored[0]} pixels, "
                    f"but {self.paths[0].name} has {sizes[0][1]} x {sizes[0][0]}."
                )
        return frames, sizes[0]


@dataclass(frozen=True)
class VideoFile:
    """Frames in a video file."""

    path: Path
    """The file."""
    start: int = 0
    """The first, 0-based."""
    stop: int | None = None
    """The one before which they end; by default all others are among them."""

    def read(self, size: Size, channels: Channels) -> tuple[Bytes, Size]:
        """See `ClipFrames`.

        Raises:
            RuntimeError: if PyAV is not installed.
        """
        height, width = read_video(self.path, stop=1).shape[2:]
        frames = read_video(self.path, size=size, channels=channels, start=self.start, stop=self.stop)
        return frames, (height, width)


@dataclass(frozen=True, eq=False)
class TargetClip:
    """A clip, its target, and where both come from.

    Raises:
        DataError: if the target is not in the first frame, or a box has no area; the message names file and
            line.
    """

    name: str
    """What it is called."""
    group: int
    """See `VideoData.groups`."""
    frames: ClipFrames
    """Its frames."""
    boxes: Boxes
    """`(left, top, width, height)` in each frame `(T, 4)`, 0-based pixels; NaN where the target is absent."""
    annotation: Path
    """The file that the boxes are from."""
    lines: Sequence[int]
    """The line of each, from 1."""
    kind: int | None = None
    """Class of the target."""
    label_size: Size | None = None
    """(height, width) of frames in whose pixels the boxes are; by default they are in those of the files."""

    def __post_init__(self) -> None:
        wrong = np.flatnonzero((self.boxes[:, 2:] <= 0).any(1))  # NaN is not
        if len(wrong):
            raise DataError(f"{self.where(wrong[0])} has no area.")
        if np.isnan(self.boxes[0]).any():
            raise DataError(
                f"{self.annotation}, line {self.lines[0]}: the target must be in the first frame."
            )

    def where(self, frame: int) -> str:
        """The box of a frame, for messages."""
        box = " ".join(f"{number:g}" for number in self.boxes[frame])
        return f"{self.annotation}, line {self.lines[frame]}: the box (left, top, width, height) `{box}`"

    def read(self, size: Size, channels: Channels) -> "ClipContent":
        """Frames of `size`, and the boxes in them.

        Raises:
            DataError: if frames cannot be read, are not as many as the boxes, or do not show any of a box;
                the message names the file, and the line.
        """
        pixels, stored = self.frames.read(size, channels)
        if len(pixels) != len(self.boxes):
            raise DataError(
                f"{self.annotation}: {len(self.boxes)} boxes, but there are {len(pixels)} frames."
            )
        height, width = self.label_size or stored
        boxes = np.nan_to_num(self.boxes)
        inside = fraction_inside(boxes, (height, width))
        outside = np.flatnonzero((boxes[:, 2] > 0) & (inside <= 0))
        if len(outside):
            raise DataError(
                f"{self.where(outside[0])} is outside the {width} x {height} pixels of the frame."
            )
        factors = size[1] / width, size[0] / height
        return ClipContent(pixels, boxes * (*factors, *factors), inside)


class ClipContent(NamedTuple):
    """What is in a clip."""

    pixels: Bytes
    """Frames `(T, C, H, W)`."""
    boxes: Boxes
    """The target in their pixels `(T, 4)`; zeros where it is absent."""
    visible: npt.NDArray[np.float64]
    """Fraction of each box inside the frame `(T,)`."""


def fraction_inside(boxes: Boxes, size: Size) -> npt.NDArray[np.float64]:
    """Which part of the area of each box `(..., 4)` is inside a frame of (height, width); 0 for no area."""
    limits = size[1], size[0]
    first = np.clip(boxes[..., :2], 0, limits)
    last = np.clip(boxes[..., :2] + boxes[..., 2:], 0, limits)
    areas = boxes[..., 2:].prod(-1)
    fractions = (last - first).prod(-1) / np.where(areas > 0, areas, 1)
    return np.where(areas > 0, np.minimum(fractions, 1), 0)


def target_parts(
    clips: Sequence[TargetClip], size: Size, *, grey: bool, on_bad: OnBad = None, rows: int | None = None
) -> Iterator[VideoData]:
    """Clips as videos of one size and length, some at a time, for `save_video_parts`.

    Labels, as in `VideoData`: `boxes`, `count` and `visible` of the target in slot 0; `classes`, if the clips
    have them; `groups` and `names`. T is the length of the longest clip, whether it can be read or not, and
    the others end with black frames without the target.

    Args:
        clips: in the order of the videos, at least one.
        size: height and width of the videos.
        grey: one channel instead of three.
        on_bad: is called with what is wrong with a clip, which is then left out; by default that is an error.
        rows: how many videos a part has; by default as many as `PART_BYTES` hold.

    Raises:
        DataError: if a clip cannot be used, or none can.
    """
    channels: Channels = 1 if grey else 3
    shape = len(clips), max(len(clip.boxes) for clip in clips), channels, *size
    rows = rows or part_length(shape)
    part, some = None, False
    for clip, content in _readable(clips, size, channels, on_bad):
        part = part or _Part((rows, *shape[1:]))
        part.add(clip, content)
        if len(part.clips) == rows:
            yield part.data()
            part, some = None, True
    if part is not None:
        yield part.data()
    elif not some:
        raise DataError(f"none of the {len(clips)} clips can be used, the first is of {clips[0].annotation}.")


class _Part:
    """Videos that are filled one by one."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        # Pages to which nothing is written cost no memory on most systems.
        self.video = np.zeros(shape, np.uint8)
        self.boxes = np.zeros((*shape[:2], 1, 4), np.float32)
        self.visible = np.zeros((*shape[:2], 1), np.float32)
        self.clips: list[TargetClip] = []

    def add(self, clip: TargetClip, content: ClipContent) -> None:
        place = len(self.clips), slice(len(content.pixels))
        self.video[place] = content.pixels
        self.boxes[place] = content.boxes[:, None]
        self.visible[place] = content.visible[:, None]
        self.clips.append(clip)

    def data(self) -> VideoData:
        rows = len(self.clips)
        kinds = [clip.kind for clip in self.clips if clip.kind is not None]
        return VideoData(
            self.video[:rows],
            count=(self.boxes[:rows, ..., 2] > 0).sum(-1),
            classes=np.array(kinds, np.int64)[:, None] if kinds else None,
            boxes=self.boxes[:rows],
            visible=self.visible[:rows],
            groups=np.array([clip.group for clip in self.clips], np.int64),
            names=np.array([clip.name for clip in self.clips]),
        )


def load_target_clips(
    find: Callable[[OnBad], Sequence[TargetClip]], size: Size, *, grey: bool, skip_bad: bool
) -> TargetClips:
    """All clips that `find` returns, in memory, see `target_parts`.

    With `skip_bad`, bad ones are left out and listed, and so is what `find` reports.

    Raises:
        DataError: as in `target_parts`.
    """
    skipped: list[str] = []
    on_bad = skipped.append if skip_bad else None
    clips = find(on_bad)
    (data,) = target_parts(clips, size, grey=grey, on_bad=on_bad, rows=len(clips))
    return TargetClips(data, skipped)


def _readable(
    clips: Sequence[TargetClip], size: Size, channels: Channels, on_bad: OnBad
) -> Iterator[tuple[TargetClip, ClipContent]]:
    for clip in clips:
        content = None
        with reporting(on_bad):
            content = clip.read(size, channels)
        if content is not None:
            yield clip, content


@contextmanager
def reporting(on_bad: OnBad) -> Iterator[None]:
    """Gives the message of a `DataError` to `on_bad`, if there is one, instead of raising it."""
    try:
        yield
    except DataError as error:
        if on_bad is None:
            raise
        on_bad(str(error))


def check_size(size: Size) -> None:
    """Refuses sizes that no frame can have.

    Raises:
        ValueError: if `size` is not two positive numbers.
    """
    if len(size) != 2 or not all(1 <= side < math.inf for side in size):
        raise ValueError(f"`size` must be two positive numbers of pixels, got {size}.")


def sequence_folders(
    root: Path, is_sequence: Callable[[Path], bool], names: Sequence[str] | None = None
) -> list[Path]:
    """`root` itself if it is a sequence, or else its sub-folders that are one, or theirs; sorted by name.

    Hidden folders are left alone, and so are those that are not called like one of `names`, if there are any.

    Raises:
        DataError: if there is no folder `root`, or no sequence, or none of one of the names.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder.")
    folders = [root]
    for _ in range(3):
        found = [(path.resolve().name, path) for path in sorted(folders) if is_sequence(path)]
        if found:
            break
        with as_data_error(f"{root}: cannot be read"):
            folders = [
                path
                for folder in folders
                for path in folder.iterdir()
                if path.name[0] != "." and path.is_dir()
            ]
    if not found:
        raise DataError(f"{root}: expected a folder of frames and boxes, or folders of such, there is none.")
    known = [name for name, _ in found]
    for name in names or ():
        if name not in known:
            raise DataError(f"{root}: expected a sequence {name!r}, there are {', '.join(known)}.")
    return [path for name, path in found if names is None or name in names]


def only_film(folder: Path) -> Path:
    """The only video file of a folder that has no image files.

    Raises:
        DataError: if there is none, or there are several.
    """
    films = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if len(films) != 1:
        found = ", ".join(path.name for path in films) or "neither"
        raise DataError(f"{folder}: expected image files, or one video file, found {found}.")
    return films[0]


def numbered_images(folder: Path) -> dict[int, Path]:
    """The PNG and JPEG files of a folder by the number that their names end with, ascending.

    Raises:
        DataError: if a name does not end with a number, or two end with the same.
    """
    images: dict[int, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.name[0] != "." and is_image(path)):
        found = re.search(r"[0-9]+$", path.stem)
        if found is None:
            raise DataError(f"{path}: the name of a frame must end with its number.")
        number = int(found.group())
        if number in images:
            raise DataError(f"{path}: is frame {number}, like {images[number].name}.")
        images[number] = path
    return dict(sorted(images.items()))


def consecutive(images: dict[int, Path]) -> list[Path]:
    """Files by their numbers, none of which is missing between the first and the last.

    Raises:
        DataError: if one is.
    """
    numbers = list(images)
    for number, following in pairwise(numbers):
        if following != number + 1:
            raise DataError(f"{images[number].parent}: no frame {number + 1}, but {images[following].name}.")
    return list(images.values())


def annotation_lines(path: Path, encoding: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers, from 1.

    Raises:
        DataError: if the file cannot be read.
    """
    lines = read_text(path, encoding).split("\n")
    return [(line, text) for line, text in enumerate(lines, 1) if text.strip()]


def read_rectangles(path: Path) -> tuple[Boxes, list[int]]:
    """Lines of four numbers `(T, 4)`, separated by commas, tabs or spaces, and where they stand, from 1.

    Empty lines are left alone. Four times `NaN` stands for no target.

    Raises:
        DataError: if the file cannot be read, or a line is not as it should be; the message names file and
            line.
    """
    return _read_lines(path, _four_numbers, "four numbers")


def read_regions(path: Path) -> tuple[Boxes, list[int]]:
    """Lines of boxes or polygons, as boxes `(left, top, width, height)` `(T, 4)`, and where they stand.

    A line has four numbers, a box, or the corners of a polygon, two numbers each; separated and left out as
    in `read_rectangles`.

    Raises:
        DataError: as in `read_rectangles`.
    """
    return _read_lines(path, _region, "boxes or polygons")


def _read_lines(
    path: Path, parse: Callable[[str], Sequence[float]], expected: str
) -> tuple[Boxes, list[int]]:
    rows, lines = [], []
    for line, text in annotation_lines(path, "utf-8-sig"):
        with naming(f"{path}, line {line}"):
            rows.append(parse(text.strip()))
        lines.append(line)
    if not rows:
        raise DataError(f"{path}: expected lines of {expected}, there is none.")
    return np.array(rows), lines


def _four_numbers(text: str) -> list[float]:
    words = re.split(r"\s*,\s*|\s+", text)
    if len(words) != 4:
        raise DataError(f"expected 4 numbers, got {len(words)}: {_short(text)!r}.")
    return _numbers(words)


def _region(text: str) -> Sequence[float]:
    words = re.split(r"\s*,\s*|\s+", text)
    if words[0].startswith("m"):
        raise DataError("expected a box or a polygon, got a mask, which is not read.")
    if len(words) == 4:
        return _numbers(words)
    if len(words) < 6 or len(words) % 2:
        raise DataError(
            f"expected 4 numbers of a box, or 6, 8, ... of a polygon, got {len(words)}: {_short(text)!r}."
        )
    corners = np.array(_numbers(words)).reshape(-1, 2)
    first = corners.min(0)
    return [*first, *(corners.max(0) - first)]


def _numbers(words: Sequence[str]) -> list[float]:
    if all(word.lower() == "nan" for word in words):
        return [math.nan] * len(words)
    try:
        return [parse_number(word) for word in words]
    except ValueError as error:
        raise DataError(f"expected {len(words)} numbers, or {len(words)} times NaN: {error}.") from None


def _short(text: str) -> str:
    return text if len(text) < 100 else f"{text[:97]}..."
