"""A user's images and videos as training data: what is cut out of them, and what becomes of their frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from whatwhere import checks
from whatwhere.datasets import (
    DataError,
    FrameRecipe,
    Frames,
    Preparation,
    VideoWindows,
    WindowRecipe,
    by_frame,
    count_videos,
    held_in_time,
    open_fitted,
    open_frames,
    prepared,
    read_table,
    readable_anywhere,
    sample_frames,
)
from whatwhere.datasets.opening import HDF5_SUFFIXES
from whatwhere.datasets.recorded.archive_clips import find_array
from whatwhere.datasets.recorded.picture_clips import picture_clips
from whatwhere.datasets.recorded.video_windows import Cut, Objects, Stretch
from whatwhere.inference.training import source_field

__all__ = [
    "RecordedConfig",
    "WindowSplit",
    "are_clips",
    "describe_windows",
    "held_out_windows",
    "objects_of",
    "open_as_trained",
    "open_recorded",
    "settled",
    "window_split",
]

_MOST_HELD_OUT = 1000
"""Held-out windows, evenly spread."""

_TABLE = "boxes.csv"


@dataclass(frozen=True)
class RecordedConfig:
    """What is made of a user's own images and videos; for generated data nothing of it matters."""

    held_out: float = 0.1
    """Share of each video that is held out, at its end, where there is no `test_source`."""
    every: int = 1
    """Take one of so many frames in a row, where little happens from one to the next."""
    resize: tuple[int, int] | None = None
    """Height and width that frames get, without keeping their ratio."""
    scale: float | None = None
    """Factor of height and width of frames, in the place of `resize`."""
    grey: bool = False
    """One channel instead of three."""
    bits: int = 16
    """How many bits of grey values that are stored in 16 are used; 12 for many scientific cameras."""
    crop: tuple[int, int] | None = None
    """Height and width of what is cut out of frames, after they are resized; by default they are whole."""
    cut: Cut = "activity"
    """Where that is: `random`; three of four times around something bright (`activity`), or something that
    moves (`motion`); or `tiles`.
    """
    mirror: bool = False
    """Exchange left and right in half of the windows."""
    boxes: str | None = source_field(None)
    """Where objects are, for evaluation: a table `frame,id,x,y,w,h`, by default a `boxes.csv` beside the
    video.
    """
    prepare: Preparation = Preparation()
    """What is done to pixels, so that objects are bright on black."""

    def __post_init__(self) -> None:
        checks.literals(self)
        checks.within("(0, 1)", self, "held_out")
        checks.positive(self, "every")
        self.frame_recipe()
        self.window_recipe(1)

    @property
    def changes(self) -> bool:
        """Whether anything is asked for but what is done to data sets without a word."""
        mine = fields(RecordedConfig)
        return any(getattr(self, field.name) != field.default for field in mine)

    def frame_recipe(self) -> FrameRecipe:
        """What becomes of frames."""
        return FrameRecipe(self.resize, self.scale, self.grey, self.bits, self.prepare)

    def window_recipe(self, frames: int, stride: int = 1) -> WindowRecipe:
        """Which windows of so many frames there are."""
        return WindowRecipe(
            frames, self.every, stride, self.crop, self.cut, mirror=self.mirror and stride == 1
        )


Config = TypeVar("Config", bound=RecordedConfig)


class WindowSplit(NamedTuple):
    """Windows to train on, and held-out ones."""

    train: VideoWindows
    test: VideoWindows


def settled(data: Config, source: str) -> Config:
    """The configuration with what is found out by looking at the frames of the first training video.

    Raises:
        DataError: if they cannot be read.
    """
    if not data.prepare.unsettled:
        return data
    recipe = replace(data.frame_recipe(), prepare=Preparation())
    frames = open_fitted(source, recipe)
    stop = max(1, round((1 - data.held_out) * frames.count()))
    return replace(data, prepare=data.prepare.settled(sample_frames(frames, stop)))


def open_recorded(data: RecordedConfig, source: str, held_out: float = 0.0) -> list[Frames]:
    """The videos of a path, as a model sees them; each can be read anywhere.

    Args:
        data: what becomes of them.
        source: the path.
        held_out: share of each, at its end, that the ground is not found from.

    Raises:
        DataError: if they cannot be read.
    """
    videos, channels = [], None
    recipe = data.frame_recipe()
    for number in range(count_videos(source)):
        plain = replace(recipe, prepare=Preparation())
        frames = readable_anywhere(open_fitted(source, plain, video=number, channels=channels))
        channels = frames.channels
        stop = max(1, round((1 - held_out) * frames.count()))
        videos.append(prepared(frames, recipe.prepare, stop))
    return videos


def are_clips(path: Path) -> bool:
    """Whether a path is a data set of several equally long clips, and no film."""
    if path.suffix.lower() in HDF5_SUFFIXES or find_array(path):
        return count_videos(path) > 1
    clips = picture_clips(path)
    return len(clips) > 1 and len({clip.length for clip in clips} | {None}) == 2


def open_as_trained(
    data: RecordedConfig | None,
    path: Path,
    image_shape: tuple[int, int, int] | None,
    number: int = 0,
) -> Frames:
    """A user's video as the training run had its own, with a ground of its own.

    Args:
        data: of the training run; nothing is done to pixels without.
        path: see `whatwhere.datasets.open_frames`.
        image_shape: channels, height and width that frames get, whatever they had in training.
        number: which of several videos.

    Raises:
        DataError: if it cannot be read.
    """
    data = data or RecordedConfig()
    if image_shape is None and not data.changes:
        return open_frames(path, video=number)
    recipe, channels = data.frame_recipe(), None
    if image_shape is not None:
        channels = image_shape[0]
        recipe = replace(recipe, resize=image_shape[1:], scale=None, grey=channels == 1)
    return open_fitted(path, recipe, video=number, channels=channels)


def window_split(data: RecordedConfig, source: str, test_source: str | None, frames: int) -> WindowSplit:
    """Windows of a user's videos.

    Args:
        data: which; settled.
        source: path of the videos to train on.
        test_source: path of others that are held out, or nothing, if the end of each is.
        frames: of a window.

    Raises:
        DataError: if they cannot be read, or are shorter than a window.
    """
    videos = open_recorded(data, source, 0.0 if test_source else data.held_out)
    objects = [objects_of(data, source, video) for video in videos]
    recipe = data.window_recipe(frames)
    train, test = held_in_time(videos, 0.0 if test_source else data.held_out, objects, recipe.span)
    if test_source:
        others = open_recorded(replace(data, boxes=None), test_source)
        known = [objects_of(replace(data, boxes=None), test_source, video) for video in others]
        test, _ = held_in_time(others, 0.0, known)
    return WindowSplit(
        VideoWindows(train, recipe, purpose="training windows"), held_out_windows(data, test, frames)
    )


def held_out_windows(data: RecordedConfig, stretches: Sequence[Stretch], frames: int) -> VideoWindows:
    """Windows that do not overlap, evenly spread, each cut out once; tiles are all of a frame."""
    span = data.window_recipe(frames).span
    length = sum(stretch.stop - stretch.start for stretch in stretches)
    recipe = data.window_recipe(frames, max(span, length // _MOST_HELD_OUT))
    return VideoWindows(stretches, replace(recipe, cuts=1), purpose="held-out windows")


def objects_of(data: RecordedConfig, source: str, video: Frames) -> Objects | None:
    """The boxes of the objects in each frame of a video, in its pixels; None where nothing tells."""
    table = Path(data.boxes) if data.boxes else _beside(Path(source), video.path)
    if table is None:
        return _labelled(video)
    factors = [new / old for new, old in zip(video.size[::-1] * 2, video.stored_size[::-1] * 2, strict=True)]
    known = by_frame(read_table(table))
    length = video.count()
    if known and max(known) >= length:
        raise DataError(f"{table}: has a box in frame {max(known)}, but {video.path} has {length} frames.")
    return {t: {name: box * factors for name, box in found.items()} for t, found in known.items()}


def _beside(source: Path, video: Path) -> Path | None:
    """The table of a video: called like its file, or in its folder, or in that around its frames."""
    named = [video.with_suffix(".csv")] if video.is_file() else []
    places = [*named, source / _TABLE, video / _TABLE, video.parent / _TABLE]
    return next((place for place in places if place.is_file()), None)


def _labelled(video: Frames) -> Objects | None:
    """The boxes that a data set has beside its frames."""
    boxes = video.labels.get("boxes")
    if boxes is None:
        return None
    return {
        t: {str(slot): box.astype(float) for slot, box in enumerate(frame) if box[2] > 0}
        for t, frame in enumerate(boxes)
    }


def describe_windows(data: RecordedConfig, split: WindowSplit) -> str:
    """One line on what training sees of a user's videos."""
    train, test = split
    windows, frames, _, height, width = train.shape
    apart = f", one of {data.every} in a row" if data.every > 1 else ""
    cut = f", {height} x {width} pixels cut out of each" if data.crop else ""
    return (
        f"training sees {windows:,} windows of {frames} frames{apart}{cut}, from all of the {train.frames:,} "
        f"frames that are not held out; {len(test):,} windows of the other {test.frames:,} are held out"
    )
