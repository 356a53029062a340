"""Long videos as training data: windows of them, read when they are needed."""

from __future__ import annotations

import math
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ... import checks
from ..errors import DataError
from ..feeding.clip_windows import mirrored_boxes
from ..storage.video import Indices, VideoBatch, VideoData, as_indices, to_batch
from ..streams import stream
from .frames import Bytes, Frames, Reading, Size

Cut = Literal["random", "activity", "motion", "tiles"]
Floats = npt.NDArray[np.float64]
Objects = Mapping[int, Mapping[str, npt.NDArray[np.float64]]]

MEMORY = 2**28
"""Bytes of frames that are kept in memory, 256 MiB."""

_MIXED = 24  # pieces that windows are drawn from at a time
_PIECE = 64  # frames at which a piece's windows begin, at most
_MOST_CUTS = 16  # of one window's frames
_LEAST_VISIBLE = 0.3  # of an object's area, where less is inside it does not count
_FOR_STILL = 8  # frames of a piece whose median is what stands still
_ELSEWHERE = 0.25  # share of the cuts around activity that are from anywhere


@dataclass(frozen=True)
class WindowRecipe:
    """Which windows are cut out of videos.

    Raises:
        ValueError: if a value is out of range.
    """

    frames: int = 3
    """Frames of a window."""
    every: int = 1
    """A window takes one of so many frames in a row, where little happens from one to the next."""
    stride: int = 1
    """Frames from the beginning of a window to that of the next."""
    crop: Size | None = None
    """Height and width of what is cut out of the frames of a window; by default they are whole."""
    cut: Cut = "random"
    """Where: anywhere; so that something bright is in it (`activity`, three of four times), or something that
    is not there in most frames around (`motion`, likewise); or tiles that together are the whole frame.
    """
    cuts: int | None = None
    """How many are cut out of one window, if they are not tiles; by default as many as have the area of the
    frame together, but no more than 16.
    """
    mirror: bool = False
    """Exchange left and right in half of the windows."""

    def __post_init__(self) -> None:
        checks.positive(self, "frames", "every", "stride", "crop", "cuts")
        checks.literals(self)

    @property
    def span(self) -> int:
        """Frames of a video from the first to the last of a window."""
        return (self.frames - 1) * self.every + 1

    def places(self, size: Size) -> int:
        """How many windows begin at each frame."""
        if self.crop is None:
            return 1
        if self.cut == "tiles":
            return len(_tiles(size, self.crop))
        whole = size[0] * size[1] / (self.crop[0] * self.crop[1])
        return self.cuts or min(_MOST_CUTS, math.ceil(whole))


class Stretch(NamedTuple):
    """A part of a video."""

    video: Frames
    """It."""
    start: int
    """The first frame, from 0."""
    stop: int
    """The one before which the part ends."""
    objects: Objects | None = None
    """The boxes `(4,)` of the objects in each frame, by name, in pixels of the frames of `video`."""


class VideoWindows:
    """Windows of videos, of which few frames are in memory: the interface of `VideoData`.

    Windows have no order of their own and none is better than another; which frames and which part of them
    window `i` shows is a pure function of `(seed, purpose, i)`. Windows that begin near each other have
    neighbouring numbers and are read together: a `BatchSchedule` made by `schedule_for` takes care of it.

    Boxes are cut off at the border of the window, as what is outside cannot be seen; an object counts where
    at least 30 % of its box are inside.

    Args:
        stretches: parts of videos whose frames have one shape.
        recipe: which windows.
        seed: of the windows.
        purpose: windows for different purposes are independent for one and the same seed.

    Raises:
        DataError: if there is no window, frames differ in shape, or are smaller than what is to be cut out.
    """

    def __init__(
        self, stretches: Sequence[Stretch], recipe: WindowRecipe, seed: int = 0, purpose: str = "windows"
    ) -> None:
        self.recipe, self.seed, self.purpose = recipe, seed, purpose
        self.stretches = tuple(stretches)
        """The parts of videos."""
        first = stretches[0].video
        for video in (stretch.video for stretch in stretches):
            if (video.channels, video.size) != (first.channels, first.size):
                raise DataError(
                    f"{video.path}: frames of (channels, height, width) = {(video.channels, *video.size)}, "
                    f"but {first.path.name} has {(first.channels, *first.size)}."
                )
        if recipe.crop is not None and (recipe.crop[0] > first.size[0] or recipe.crop[1] > first.size[1]):
            raise DataError(f"{first.path}: frames of {first.size} are smaller than `crop` = {recipe.crop}.")
        self._places = recipe.places(first.size)
        size = recipe.crop or first.size
        starts = self._starts(stretches, first.channels * first.size[0] * first.size[1])
        self._pieces = [
            _Piece(stretch, part) for stretch, parts in zip(stretches, starts, strict=True) for part in parts
        ]
        if not self._pieces:
            video, start, stop, _ = max(stretches, key=lambda stretch: stretch.stop - stretch.start)
            few = ": too few to hold some out and train on others" if stop - start < video.count() else ""
            takes = f"{recipe.span} frame{'s' * (recipe.span != 1)}"
            raise DataError(
                f"{video.path}: a window takes {takes}, but there are {stop - start} in a row (the video has "
                f"{video.count()}){few}."
            )
        self.pieces = tuple(self._places * len(piece.starts) for piece in self._pieces)
        """How many windows are read together, see `BatchSchedule`."""
        self.mixed = _MIXED
        """See `BatchSchedule`."""
        self._ends = np.cumsum(self.pieces)
        self.shape = (int(self._ends[-1]), recipe.frames, first.channels, *size)
        """`(M, T, C, H, W)`."""
        self.frames = sum(stretch.stop - stretch.start for stretch in stretches)
        """Frames of the parts of videos together."""
        self.labelled = all(stretch.objects is not None for stretch in stretches)
        """Whether there are boxes."""
        self._slots = max((self._most(stretch) for stretch in stretches), default=0) if self.labelled else 0
        self._cache: OrderedDict[int, tuple[Bytes, Floats]] = OrderedDict()

    def __len__(self) -> int:
        return self.shape[0]

    def batch(self, indices: Indices) -> VideoBatch:
        """The windows at `indices` as tensors on the CPU, grey values in [0, 1].

        Raises:
            IndexError: if an index is out of range.
            DataError: if frames cannot be read.
        """
        video, labels = self._read(as_indices(indices, len(self)))
        return to_batch(video, labels)

    def subset(self, indices: Indices) -> VideoData:
        """The windows at `indices` as bytes, to keep or to save: with names, and regions of their videos.

        Raises:
            DataError: if `indices` is empty, or frames cannot be read.
            IndexError: if an index is out of range.
        """
        video, labels = self._read(as_indices(indices, len(self)))
        return VideoData(video, **labels)

    def _read(self, where: npt.NDArray[np.int64]) -> tuple[Bytes, dict[str, npt.NDArray[Any]]]:
        video = np.empty((len(where), *self.shape[1:]), np.uint8)
        labels = self._no_labels(len(where))
        pieces = np.searchsorted(self._ends, where, side="right")
        names = []
        for row in np.argsort(pieces, kind="stable").tolist():  # each piece is read once
            number, index = int(pieces[row]), int(where[row])
            inside = index - int(self._ends[number]) + self.pieces[number]
            window = self._window(number, *divmod(inside, self._places), index)
            video[row] = window.frames
            labels["regions"][row] = window.region
            names.append((row, window.name))
            if self.labelled:
                self._label(labels, row, window)
        labels["names"] = np.array([name for _, name in sorted(names)], dtype=np.str_)
        return video, labels

    def _no_labels(self, size: int) -> dict[str, npt.NDArray[Any]]:
        labels: dict[str, npt.NDArray[Any]] = {"regions": np.zeros((size, 4), np.float32)}
        if self.labelled:
            shape = (size, self.shape[1], self._slots)
            labels["boxes"] = np.zeros((*shape, 4), np.float32)
            labels["visible"] = np.zeros(shape, np.float32)
            labels["count"] = np.zeros(shape[:2], np.int64)
        return labels

    def _window(self, number: int, place: int, cut: int, index: int) -> _Window:
        piece, recipe = self._pieces[number], self.recipe
        start, rng = piece.starts[place], stream(self.purpose, self.seed, index)
        frames, still = self._piece(number)
        pixels = frames[start - piece.starts[0] :][: recipe.span : recipe.every]
        top, left = self._corner(pixels, still, cut, rng)
        height, width = self.shape[3:]
        pixels = pixels[..., top : top + height, left : left + width]
        mirrored = recipe.mirror and rng.random() < 0.5
        video = piece.stretch.video
        region = video.in_source([left, top, width, height])
        if mirrored:
            pixels = pixels[..., ::-1]
            region = np.array([region[0] + region[2], region[1], -region[2], region[3]])
        name = f"{video.path.name}@{start}-{start + recipe.span}"
        return _Window(pixels, piece.stretch, start, (left, top), mirrored, region, name)

    def _corner(self, pixels: Bytes, still: Floats, cut: int, rng: np.random.Generator) -> tuple[int, int]:
        """Top and left of what is cut out of frames; `still` is what they look like where nothing happens."""
        whole, size = pixels.shape[-2:], self.shape[3:]
        if self.recipe.crop is None:
            return 0, 0
        if self.recipe.cut == "tiles":
            return _tiles((whole[0], whole[1]), self.recipe.crop)[cut]
        room = whole[0] - size[0], whole[1] - size[1]
        if self.recipe.cut != "random" and rng.random() > _ELSEWHERE:
            bright = pixels[len(pixels) // 2] - still
            # Of what moves it is squared, or noise has most of it.
            ink = (bright if self.recipe.cut == "activity" else bright**2).sum(0).cumsum()
            if ink[-1] > 0:
                target = np.searchsorted(ink, rng.random() * ink[-1], side="right")
                place = divmod(int(target), whole[1])
                corner = (at - int(rng.integers(side)) for at, side in zip(place, size, strict=True))
                top, left = (min(max(at, 0), most) for at, most in zip(corner, room, strict=True))
                return top, left
        return int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))

    def _label(self, labels: dict[str, npt.NDArray[Any]], row: int, window: _Window) -> None:
        assert window.stretch.objects is not None
        identities: dict[str, int] = {}
        height, width = self.shape[3:]
        for t in range(self.shape[1]):
            found = window.stretch.objects.get(window.start + t * self.recipe.every, {})
            for name, inside, visible in visible_objects(found, (height, width), window.corner):
                slot = identities.setdefault(name, len(identities))
                labels["boxes"][row, t, slot] = mirrored_boxes(inside, width) if window.mirrored else inside
                labels["visible"][row, t, slot] = visible
                labels["count"][row, t] += 1

    def _piece(self, number: int) -> tuple[Bytes, Floats]:
        """All frames of the windows of a piece, and what is in most of them, if anybody asks for it."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        stretch, starts = self._pieces[number]
        first, stop = starts[0], starts[-1] + self.recipe.span
        frames = stretch.video.window(first, stop)
        if len(frames) < stop - first:
            raise DataError(f"{stretch.video.path}: has no frame {first + len(frames)}.")
        still = np.zeros(frames.shape[1:])
        if self.recipe.crop is not None and self.recipe.cut == "motion":
            still = np.median(frames[:: max(1, len(frames) // _FOR_STILL)], axis=0)
        self._cache[number] = frames, still
        if len(self._cache) > self.mixed + 2:
            self._cache.popitem(last=False)
        return frames, still

    def _starts(self, stretches: Sequence[Stretch], frame_bytes: int) -> Iterator[list[range]]:
        """The frames at which windows begin, in pieces that are read at once."""
        recipe = self.recipe
        held = MEMORY // (_MIXED * frame_bytes) - recipe.span
        length = max(1, min(_PIECE, held)) // recipe.stride or 1  # windows
        for _, start, stop, _ in stretches:
            starts = range(start, stop - recipe.span + 1, recipe.stride)
            yield [starts[at : at + length] for at in range(0, len(starts), length)]

    def _most(self, stretch: Stretch) -> int:
        """Most objects of a window."""
        objects, recipe = stretch.objects or {}, self.recipe
        starts = range(stretch.start, stretch.stop - recipe.span + 1, recipe.stride)
        windows = (range(start, start + recipe.span, recipe.every) for start in starts)
        return max((len(set().union(*(objects.get(t, ()) for t in window))) for window in windows), default=0)


class _Piece(NamedTuple):
    """Windows that are read together."""

    stretch: Stretch
    starts: range


class _Window(NamedTuple):
    """A window before it is a row of a batch."""

    frames: Bytes
    stretch: Stretch
    start: int
    corner: tuple[int, int]  # left, top
    mirrored: bool
    region: npt.NDArray[np.float64]
    name: str


def visible_objects(
    objects: Mapping[str, npt.NDArray[np.float64]], size: Size, corner: tuple[int, int] = (0, 0)
) -> Iterator[tuple[str, npt.NDArray[np.float32], float]]:
    """The objects of a frame that count in a part of it, see `VideoWindows`, in the order of their names.

    Args:
        objects: boxes `(4,)` by name.
        size: height and width of the part.
        corner: its left and top.

    Yields:
        name, box in the pixels of the part, and the share of its area that is inside.
    """
    if not objects:
        return
    names = sorted(objects)
    boxes = np.stack([objects[name] for name in names])
    ends = np.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    low, high = np.clip(ends - corner, 0, size[::-1])
    shares = np.prod(high - low, axis=-1) / np.prod(boxes[:, 2:], axis=-1)
    inside = np.concatenate([low, high - low], axis=-1).astype(np.float32)
    for number in np.flatnonzero(shares >= _LEAST_VISIBLE).tolist():
        yield names[number], inside[number], min(1.0, float(shares[number]))


def held_in_time(
    videos: Sequence[Frames], share: float, objects: Sequence[Objects | None], least: int = 1
) -> tuple[list[Stretch], list[Stretch]]:
    """Parts of videos to train on, and the end of each, which is held out.

    Args:
        videos: they.
        share: of the frames of each that is held out; with 0 none is.
        objects: of each, see `Stretch`.
        least: number of frames that are held out.
    """
    train, test = [], []
    for video, known in zip(videos, objects, strict=True):
        length = video.count()
        cut = length - min(length, max(least, round(share * length))) if share else length
        train.append(Stretch(video, 0, cut, known))
        test.append(Stretch(video, cut, length, known))
    return train, test


def readable_anywhere(frames: Frames) -> Frames:
    """The video itself, or a copy in a temporary file of one of which frames can be read in order only.

    Raises:
        DataError: if a frame cannot be read.
    """
    if frames.anywhere:
        return frames
    with tempfile.TemporaryFile() as copy:
        length = 0
        for block in frames.blocks():
            copy.write(block.tobytes())
            length += len(block)
        copy.flush()
        pixels = np.memmap(copy, np.uint8, "r", shape=(length, frames.channels, *frames.size))

    def read(start: int) -> Reading:
        for frame in pixels[start:]:
            yield np.array(frame)

    return replace(frames, read=read, length=length, count=lambda: length, anywhere=True, keys=None)


def _tiles(size: Size, crop: Size) -> list[tuple[int, int]]:
    """Corners (top, left) of the fewest tiles that cover a frame, evenly spread."""
    tops, lefts = (
        np.linspace(0, whole - side, math.ceil(whole / side)).round().astype(int).tolist()
        for whole, side in zip(size, crop, strict=True)
    )
    return [(top, left) for top in tops for left in lefts]
