"""The videos that trackers are trained and evaluated on: generated or from files, with one target each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from whatwhere import checks
from whatwhere.datasets import (
    MOTIONS,
    BatchSchedule,
    BouncingBallsRecipe,
    ClipWindows,
    ClutterRecipe,
    DataError,
    GeneratedVideos,
    PastedRecipe,
    RatmDigitsRecipe,
    VideoBatch,
    VideoData,
    VideoStore,
    bouncing_ball_videos,
    clutter_videos,
    load_clips,
    load_pictures,
    moving_digit_videos,
    pasted_videos,
    random_fading,
    random_parts,
    split_by_group,
)
from whatwhere.datasets.generated.pasted import LEAST_SIDE
from whatwhere.datasets.storage import FRAME_LABELS
from whatwhere.datasets.streams import stream
from whatwhere.examples.common.data_records import record_of
from whatwhere.examples.common.sources import existing_path, settle_sources
from whatwhere.inference.training import DataRecord, Process, source_field

GENERATED = {"balls": 20, "digits": 100, "clutter": 64, "pasted": 128}
"""Names of generated videos, and the side of their frames; a colon and a folder follow `pasted`."""


@dataclass(frozen=True)
class TrackingDataConfig:
    """Where the videos and the boxes of their targets come from."""

    source: str = source_field("balls")
    """`balls`, `digits`, `clutter`; `pasted:FOLDER`, parts of the pictures of a folder that are pasted over
    others; or the path of videos with boxes: an HDF5 file, as `whatwhere-data` writes it, or what
    `whatwhere.datasets.load_clips` reads. The target is the object of slot 0.
    """
    also: tuple[str, ...] = ()
    """Further videos to train on, with frames of the same size: generated ones by name, of clutter with its
    difficulty if wanted, for instance `clutter:0.8`; or paths. Each step is of one source, in turn.
    """
    test_source: str | None = source_field(None)
    """Held-out videos, where `source` is a path; without it, and without `fold`, the last tenth of `source`
    is held out.
    """
    fold: int | None = None
    """The group of videos, for instance a person, that is held out. Those of another group, drawn with
    `seed`, are for validation: the parameters that track them best are evaluated.
    """
    objects: int = 1
    """Balls or digits in a generated video; all but the target distract from it. (Of `clutter`, it follows
    from `difficulty`.)
    """
    difficulty: float = 0.5
    """Of `clutter`, from 0, a plain object on a plain ground, to 1."""
    sides: tuple[float, float] | None = None
    """Of `clutter` and `pasted`, the range of the longer side of an object, in units of the frame's shorter
    one; by default it follows from the difficulty, and is 0.08 to 0.5.
    """
    image_size: int | None = None
    """Side of generated frames, in pixels; by default 20 for `balls`, 100 for `digits`, 64 for `clutter`, 128
    for `pasted`.
    """
    pictures: Literal["mnist", "glyphs"] = "mnist"
    """Digits of generated videos: handwritten, or drawn from fonts, for which nothing is downloaded."""
    motion: Literal["momentum", "released", "billiard"] = "momentum"
    """How generated digits move; under `billiard`, for several, they bounce off each other."""
    min_frames: int = 5
    """Fewest frames of a training video from a file, unless the video itself has fewer."""
    parts: float = 0.0
    """Share of the training videos in which the target is a random part of the object, from 0.4 to 1 of its
    width and height: then only the first box tells what is to be followed, not where an object ends.
    """
    faded: float = 0.0
    """Share of the training videos whose colours are faded, half of them to greys, and whose contrast is
    lowered by a factor of up to 5: generated videos are more colourful than the world.
    """
    mirror: bool = False
    """Exchange left and right in half of the training videos from a file."""
    reverse: bool = False
    """Play half of the training videos from a file backwards."""
    train_videos: int = 100_000
    """Generated training videos; they are made when they are needed, and take no memory."""
    test_videos: int = 10_000
    """Generated held-out videos, of other digits or pictures than the training videos."""
    seed: int = 0
    """Seed of generated videos; it is not the seed of training, so that all runs see the same data."""

    def __post_init__(self) -> None:
        checks.literals(self)
        settle_sources(self, GENERATED)
        checks.share(self, "difficulty", "parts", "faded")
        checks.positive(self, "objects", "image_size", "min_frames", "train_videos", "test_videos", "sides")
        checks.not_negative(self, "fold")
        checks.seed(self, "seed")
        if generated_kind(self.source):
            if self.fold is not None:
                raise ValueError("`fold` is for videos that are not generated")
            self.how_made(1)
        if self.fold is not None and self.test_source is not None:
            raise ValueError("`fold` and `test_source` both say what is held out: give one of them")
        for source in self.also:
            _parsed(source, self)

    def how_made(
        self, frames: int, image_shape: tuple[int, int, int] | None = None
    ) -> ClutterRecipe | PastedRecipe | BouncingBallsRecipe | RatmDigitsRecipe:
        """How generated videos are made.

        Args:
            frames: of each.
            image_shape: channels, height and width of a frame, where it has a choice; by default as the
                configuration says, and in colours.
        """
        kind = generated_kind(self.source) or ""
        count, side = self.objects, self.image_size or GENERATED[kind]
        channels, height, width = image_shape or (3, side, side)
        size = height, width
        changes: dict[str, Any] = {} if self.sides is None else {"sides": self.sides}
        if kind == "clutter":
            changes |= {"image_size": size, "frames": frames, "channels": channels}
            return ClutterRecipe.of_difficulty(self.difficulty, **changes)
        if kind == "pasted":
            return PastedRecipe(image_size=size, frames=frames, **changes)
        if kind == "balls":
            return BouncingBallsRecipe(count, count, image_size=height, frames=frames)
        motion = MOTIONS[self.motion]()
        return RatmDigitsRecipe(count, count, image_size=height, frames=frames, motion=motion)


def generated_kind(source: str) -> str | None:
    """What of `GENERATED` a source is; None for a path."""
    name, colon, _ = source.partition(":")
    return name if name in GENERATED and bool(colon) == (name == "pasted") else None


class Targets(NamedTuple):
    """Videos and where their targets are: the arguments of a supervised objective."""

    video: Tensor
    """`(B, T, C, H, W)` in [0, 1], or uint8."""
    boxes: Tensor
    """`(B, T, 4)`, `(left, top, width, height)` in pixels; zeros where the target is not there."""
    labels: Tensor | None
    """Class of each target, `(B,)`; None where classes are not known."""
    mask: Tensor
    """Whether the target is there, `(B, T)`, boolean."""

    @classmethod
    def of(cls, batch: VideoBatch, device: torch.device) -> Targets:
        """Those of slot 0."""
        if batch.boxes is None:
            raise DataError("the videos have no boxes, so there is nothing to track")
        boxes = batch.boxes[:, :, 0]
        labels = None if batch.classes is None else batch.classes[:, 0].to(device)
        return cls(batch.video.to(device), boxes.to(device), labels, present(boxes).to(device))


@dataclass(frozen=True)
class TargetVideos:
    """Videos in which one object is followed: generated ones, or some of a file's."""

    source: GeneratedVideos | ClipWindows
    """The videos."""
    rows: Sequence[int]
    """Which of them."""
    name: str = field(default="", kw_only=True)
    """What messages call them."""
    shortened: Callable[[int], GeneratedVideos] | None = field(default=None, kw_only=True)
    """Makes generated videos with fewer frames, which are the first of the longer ones."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a frame."""
        channels, height, width = self.source.shape[2:]
        return channels, height, width

    def training_batch(self, places: Sequence[int], length: int, rng: np.random.Generator) -> VideoBatch:
        """Windows of at most `length` frames of videos from a file; the first frames of generated ones."""
        rows = [self.rows[place] for place in places]
        if isinstance(self.source, ClipWindows):
            return self.source.batch(rows, length, rng)
        videos = self.source if self.shortened is None else self.shortened(length)
        return cut(videos.batch(rows), length)

    def clips(self, count: int, frames: int | None = None, batch_size: int = 50) -> Iterator[VideoBatch]:
        """The first `count` videos, in order, cut to their first `frames`."""
        for start in range(0, min(count, len(self)), batch_size):
            rows = self.rows[start : min(start + batch_size, count)]
            whole = (
                self.source.clips(rows) if isinstance(self.source, ClipWindows) else self.source.batch(rows)
            )
            yield cut(whole, frames)

    def record(self) -> DataRecord:
        """What is compared when a run is resumed or evaluated: all videos of the file."""
        source = self.source
        return record_of(self.name, source.source if isinstance(source, ClipWindows) else source)


class Split(NamedTuple):
    """Videos to train on, to choose the best parameters by, and held-out ones."""

    train: TargetVideos
    validation: TargetVideos | None
    test: TargetVideos

    def records(self) -> dict[str, DataRecord]:
        """Those of a run."""
        return {"train": self.train.record(), "test": self.test.record()}


def cut(batch: VideoBatch, frames: int | None) -> VideoBatch:
    """A batch's first frames, with their labels."""
    labels = {name: getattr(batch, name) for name in FRAME_LABELS}
    shorter = {name: None if value is None else value[:, :frames] for name, value in labels.items()}
    return batch._replace(video=batch.video[:, :frames], **shorter)


def load_targets(config: TrackingDataConfig, train_frames: int, test_frames: int) -> Split:
    """Videos of generated targets, or those of files.

    Args:
        config: where they come from.
        train_frames: frames of generated training videos.
        test_frames: frames of generated held-out videos.

    Raises:
        DataError: if files cannot be read, or there are no videos to hold out.
    """
    if generated_kind(config.source):
        made = _generated(config, "train", train_frames)
        shortened = partial(_generated, config, "train")
        train = TargetVideos(made, range(len(made)), name=config.source, shortened=shortened)
        if config.test_source is not None:
            return Split(train, None, _all_of(config.test_source, config))
        held_out = _generated(config, "test", test_frames)
        return Split(train, None, TargetVideos(held_out, range(len(held_out)), name=config.source))
    source = _windows(config.source, config)
    rows = range(len(source))
    if config.test_source is not None:
        test = _all_of(config.test_source, config)
        return Split(TargetVideos(source, rows, name=config.source), None, test)
    if config.fold is not None:
        groups = groups_of(config.source)
        try:
            folds = split_by_group(groups, config.fold, stream("validation", config.seed, config.fold))
        except ValueError as error:
            raise DataError(f"`{config.source}`: {error}") from error
        return Split(*(TargetVideos(source, part.tolist(), name=config.source) for part in folds))
    if len(source) < 2:
        raise DataError(f"`{config.source}` has {len(source)} video, too few to hold one out")
    kept = len(source) - max(1, len(source) // 10)
    train, test = (TargetVideos(source, part, name=config.source) for part in (rows[:kept], rows[kept:]))
    return Split(train, None, test)


def load_further_targets(
    config: TrackingDataConfig, train_frames: int, image_shape: tuple[int, int, int]
) -> list[TargetVideos]:
    """The videos of `config.also`.

    Args:
        config: where they come from.
        train_frames: frames of generated videos.
        image_shape: channels, height and width that frames must have; generated ones are made so, as far as
            they have a choice.

    Raises:
        DataError: if files cannot be read, or frames are otherwise.
    """
    found = []
    for source in config.also:
        changed = _parsed(source, config)
        if generated_kind(changed.source):
            made = _generated(changed, "train", train_frames, image_shape)
            shortened = partial(_generated, changed, "train", image_shape=image_shape)
            videos = TargetVideos(made, range(len(made)), name=source, shortened=shortened)
        else:
            videos = _all_of(source, config)
        if videos.image_shape != image_shape:
            raise DataError(
                f"`{source}` of `--data.also` has frames of (channels, height, width) = "
                f"{videos.image_shape}, but `{config.source}` has {image_shape}; `--data.also` without a "
                "value leaves it out"
            )
        found.append(videos)
    return found


def _parsed(source: str, config: TrackingDataConfig) -> TrackingDataConfig:
    """What one of `config.also` would be as `config.source`."""
    name, colon, level = source.partition(":")
    difficulty = config.difficulty
    if name == "clutter" and colon:
        try:
            difficulty = float(level)
        except ValueError:
            difficulty = -1.0
        if not 0 <= difficulty <= 1:
            raise ValueError(f"`also` must have a difficulty in [0, 1] after `clutter:`, got `{source}`")
        source = name
    return replace(config, source=source, difficulty=difficulty, also=(), fold=None, test_source=None)


def groups_of(source: str) -> np.ndarray:
    """The group of each video of a file, see `VideoData.groups`.

    Raises:
        DataError: if the file has none.
    """
    groups = _open(source).labels().get("groups")
    if groups is None:
        raise DataError(f"`{source}` has no label `groups`, one of which could be held out")
    return groups


@cache
def _generated(
    config: TrackingDataConfig,
    split: Literal["train", "test"],
    frames: int,
    image_shape: tuple[int, int, int] | None = None,
) -> GeneratedVideos:
    size = config.train_videos if split == "train" else config.test_videos
    recipe = config.how_made(frames, image_shape)
    if isinstance(recipe, ClutterRecipe):
        return clutter_videos(recipe, split, size, config.seed)
    if isinstance(recipe, PastedRecipe):
        folder = config.source.partition(":")[2]
        try:
            return pasted_videos(recipe, _pictures(folder), split, size, config.seed)
        except ValueError as error:
            raise DataError(f"{folder}: {error}") from error
    if isinstance(recipe, BouncingBallsRecipe):
        return bouncing_ball_videos(recipe, split, size, config.seed)
    return moving_digit_videos(recipe, split, size, config.seed, source=config.pictures)


@cache
def _pictures(folder: str) -> list[np.ndarray]:
    return load_pictures(folder, smallest=LEAST_SIDE)


def _all_of(source: str, config: TrackingDataConfig) -> TargetVideos:
    windows = _windows(source, config)
    return TargetVideos(windows, range(len(windows)), name=source)


def _windows(source: str, config: TrackingDataConfig) -> ClipWindows:
    data = _open(source)
    boxes = data.labels().get("boxes")
    if boxes is None or not boxes.shape[2]:
        raise DataError(
            f"`{source}` has no boxes, so there is nothing to track; of a video with a `boxes.csv` beside it "
            "`whatwhere-data scenes` makes clips that have"
        )
    return ClipWindows(
        data, min_length=config.min_frames, mirror=config.mirror, reverse=config.reverse, as_bytes=True
    )


def _open(source: str) -> VideoData | VideoStore:
    path = existing_path(source, GENERATED)
    return VideoStore(path) if path.suffix in (".h5", ".hdf5") else load_clips(path)


def training_batches(
    videos: Sequence[TargetVideos],
    batch_size: int,
    seed: int,
    length: Callable[[int], int],
    process: Process,
    parts: float = 0.0,
    faded: float = 0.0,
) -> Callable[[int], Targets]:
    """The batch of each step: this process's part of it, on its device.

    Args:
        videos: to train on; each step is of one of them, in turn.
        batch_size: of all processes together.
        seed: of the order of the videos, and of their windows.
        length: most frames, as a function of the step.
        process: see `Trainer`.
        parts: see `TrackingDataConfig`.
        faded: see `TrackingDataConfig`.
    """
    schedules = [
        BatchSchedule(len(each), batch_size, seed).shard(process.rank, process.world_size) for each in videos
    ]

    def batch(step: int) -> Targets:
        rng = stream(f"windows/{process.rank}", seed, step)
        turn, which = divmod(step, len(videos))
        places = schedules[which].indices(turn).tolist()
        made = videos[which].training_batch(places, length(step), rng)
        if parts and made.boxes is not None:
            made.boxes[:, :, 0] = random_parts(made.boxes[:, :, 0], made.video.shape[-2:], parts, rng)
        if faded:
            made = made._replace(video=random_fading(made.video, faded, rng))
        return Targets.of(made, process.device)

    return batch


def present(boxes: Tensor) -> Tensor:
    """In which frames the target is there, `(...)`, boolean: its box `(..., 4)` has an area."""
    return (boxes[..., 2:] > 0).all(dim=-1)
