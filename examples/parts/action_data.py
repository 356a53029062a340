"""Videos in which something goes on, for Glimpse Clouds: the relay, and data sets of people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from whatwhere import checks
from whatwhere.datasets import (
    NTU_JOINTS,
    NUCLA_ACTIONS,
    NUCLA_JOINTS,
    SILHOUETTE_ENDS,
    WEIZMANN_ACTIONS,
    ActionBatch,
    ActionClips,
    BatchSchedule,
    ClassFolders,
    DataError,
    NTUActions,
    NUCLAActions,
    Relay,
    RelayRecipe,
    SilhouetteActions,
    leave_group_out,
    load_weizmann,
    normalised_joints,
    relay_videos,
)
from whatwhere.datasets.streams import stream
from whatwhere.examples.common.sources import settle_sources
from whatwhere.inference.training import DataRecord, Process, source_field

SOURCES = ("relay", "folders", "weizmann", "ntu", "nucla")
"""Names; a colon and a folder follow those that are not generated."""

_PEOPLE = 2  # of NTU
_MARKED = 10  # added to the class of a digit
_NAMED = 10  # classes, of many


@dataclass(frozen=True)
class ActionDataConfig:
    """Where the videos come from, and how clips are drawn from them."""

    source: str = source_field("relay")
    """`relay`, which is generated; `folders:FOLDER`, videos of yours in a folder for each class, see
    `whatwhere.datasets.ClassFolders`; or `weizmann:FOLDER`, `ntu:FOLDER`, `nucla:FOLDER`.
    """
    test_source: ClassVar[None] = None
    """Held-out videos are a part of every source."""
    frames: int = 8
    """Of a clip."""
    task: Literal["same", "difference"] = "same"
    """What is asked of the relay, see `RelayRecipe`."""
    shown: Literal["all", "first", "last"] = "all"
    """Frames of the relay that are shown: all, or those with one of the marks only, when nobody can know."""
    pictures: Literal["mnist", "glyphs"] = "mnist"
    """Digits of the relay: handwritten, or drawn from fonts, for which nothing is downloaded."""
    image_size: int = 128
    """Side of the relay's frames, in pixels."""
    train_videos: int = 400_000
    """Of the relay; they are made when they are needed, and take no memory."""
    test_videos: int = 2_000
    """Of the relay, of other digits than the training videos."""
    seed: int = 0
    """Of the relay; it is not the seed of training, so that all runs see the same data."""
    fold: int = 0
    """What is held out: of Weizmann a person, 0 to 8; of N-UCLA a camera, 1 to 3."""
    protocol: Literal["cross-subject", "cross-view"] = "cross-subject"
    """What is held out of NTU."""
    size: int = 224
    """Side of the clips of NTU and N-UCLA, cut out of frames of 256 x 256 pixels."""
    resize: tuple[int, int] = (96, 128)
    """Height and width of the frames of `folders`."""
    share: float = 0.2
    """Of the videos of each class of `folders` that is held out, where there is no folder `test`."""
    stretch: int | None = None
    """Frames of a video that a clip is drawn from; by default all."""
    drop: int = 0
    """Last frames of a video that are left out."""
    shift: int = 0
    """Pixels by which clips for training may reach beyond the frame."""
    mirror: bool = False
    """Exchange left and right in half of the clips for training."""
    zoom: float = 1.0
    """Greatest factor by which clips for training are larger or smaller."""
    speed: float = 1.0
    """Greatest factor by which they are faster or slower."""

    def __post_init__(self) -> None:
        given = self.source
        settle_sources(self, SOURCES)
        checks.positive(self, "frames", "image_size", "train_videos", "test_videos", "size", "stretch")
        checks.positive(self, "resize")
        checks.within("(0, 1)", self, "share")
        checks.within("[1, 4]", self, "zoom", "speed")
        checks.not_negative(self, "fold", "drop", "shift")
        checks.seed(self, "seed")
        name, _, folder = self.source.partition(":")
        if name not in SOURCES or bool(folder) != (name != "relay"):
            kind = name if name in SOURCES else "folders"
            hint = f" (did you mean {kind}:{given}?)" if Path(self.source).is_dir() else ""
            expected = ", ".join(["relay", *(f"{each}:FOLDER" for each in SOURCES[1:])])
            raise checks.FieldError("source", f"must be {expected}{hint}", given)
        if name == "relay":
            self.recipe  # noqa: B018  # its constructor checks what both have

    @property
    def recipe(self) -> RelayRecipe:
        """How videos of the relay are made."""
        return RelayRecipe(self.task, self.image_size, self.frames)


class ActionVideos(Protocol):
    """Videos to train or test on."""

    clip_shape: tuple[int, int, int, int]
    """`(T, C, H, W)`."""

    def __len__(self) -> int: ...

    def batch(self, rows: Sequence[int], purpose: str, seed: int, step: int) -> ActionBatch:
        """A clip of each of these videos; what is random in them is drawn by purpose, seed and step."""

    def record(self, source: str) -> DataRecord:
        """Takes down what they are."""


class RelayClips:
    """Videos of the relay with answers, and the marks as the only joint."""

    def __init__(self, videos: Relay, shown: Literal["all", "first", "last"] = "all") -> None:
        self.videos = videos
        _, *shape = videos.shape
        self.clip_shape: Any = tuple(shape)
        marked, length = videos.recipe.marked_frames, shape[0]
        self._shown = {
            "all": slice(None),
            "first": slice(0, marked),
            "last": slice(length - marked, length),
        }[shown]

    def __len__(self) -> int:
        return len(self.videos)

    def batch(self, rows: Sequence[int], purpose: str = "", seed: int = 0, step: int = 0) -> ActionBatch:
        """See `ActionVideos.batch`; nothing is random but the videos themselves."""
        return self.with_things(rows).clips

    def with_things(self, rows: Sequence[int]) -> Things:
        """The same, and where all digits are, by which reading is learned."""
        batch, recipe = self.videos.batch(rows), self.videos.recipe
        assert batch.boxes is not None
        assert batch.classes is not None
        video = batch.video
        if self._shown != slice(None):
            video = torch.zeros_like(video)
            video[:, self._shown] = batch.video[:, self._shown]
        answers = torch.from_numpy(recipe.answers(batch.classes.numpy()))
        marks = torch.from_numpy(recipe.marks(batch.boxes.numpy()))[:, :, None, None]
        size = (self.clip_shape[2], self.clip_shape[3])
        clips = ActionBatch(video, answers, *normalised_joints(marks, size))
        middles = batch.boxes[..., :2] + (batch.boxes[..., 2:] - 1) / 2
        classes = batch.classes[:, None].repeat(1, video.shape[1], 1)
        classes[:, : recipe.marked_frames, 0] += _MARKED
        classes[:, -recipe.marked_frames :, 1] += _MARKED
        return Things(clips, normalised_joints(middles, size)[0], classes)

    def record(self, source: str) -> DataRecord:
        """See `ActionVideos.record`."""
        return DataRecord.of(source, self.videos.shape)


class Things(NamedTuple):
    """Clips, and what is in their frames."""

    clips: ActionBatch
    middles: Tensor
    """Of the things `(B, T, N, 2)`, x and y in [-1, 1]."""
    classes: Tensor
    """`(B, T, N)`, int64: digits, and 10 more while they are marked."""


class PeopleClips:
    """Some rows of a source of clips."""

    def __init__(self, clips: ActionClips, rows: np.ndarray) -> None:
        self.clips, self.rows = clips, rows
        self.clip_shape: Any = clips.clip_shape

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Sequence[int], purpose: str, seed: int, step: int) -> ActionBatch:
        """See `ActionVideos.batch`."""
        rngs = [stream(f"{purpose}/{number}/{row}", seed, step) for number, row in enumerate(map(int, rows))]
        return self.clips.batch(self.rows[np.asarray(rows)], rngs)

    def record(self, source: str) -> DataRecord:
        """See `ActionVideos.record`."""
        labels = {
            "actions": self.clips.source.labels[self.rows],
            "lengths": self.clips.source.lengths[self.rows],
            "names": self.clips.source.names[self.rows],
        }
        return DataRecord.of(source, (len(self), *self.clip_shape), labels)


class ActionSplit(NamedTuple):
    """Videos for training and for testing, and what goes on in them."""

    train: ActionVideos
    test: ActionVideos
    names: tuple[str, ...]
    """Of the classes."""
    joints: tuple[int, int] | None
    """People, and joints of each; None where none are known."""
    held_out: str
    """Which videos are for testing, in words."""

    @property
    def summary(self) -> str:
        """What was found, in two lines."""
        more = f" and {len(self.names) - _NAMED} more" if len(self.names) > _NAMED else ""
        return (
            f"{len(self.names)} classes: {', '.join(self.names[:_NAMED])}{more}\n"
            f"{len(self.train)} videos to train on, {len(self.test)} held out: {self.held_out}"
        )

    def records(self, source: str) -> dict[str, DataRecord]:
        """What is compared when a run is resumed."""
        return {"train": self.train.record(source), "test": self.test.record(source)}


def load_actions(config: ActionDataConfig) -> ActionSplit:
    """The videos of a configuration.

    Raises:
        DataError: if they cannot be read, or nothing of them is held out.
    """
    name, _, folder = config.source.partition(":")
    return _LOADERS[name](config, folder)


def _load_relay(config: ActionDataConfig, folder: str) -> ActionSplit:
    recipe = config.recipe
    parts: tuple[tuple[Literal["train", "test"], int], ...] = (
        ("train", config.train_videos),
        ("test", config.test_videos),
    )
    train, test = (
        RelayClips(relay_videos(recipe, split, size, config.seed, source=config.pictures), config.shown)
        for split, size in parts
    )
    names = ("other", "same") if config.task == "same" else tuple(map(str, range(config.recipe.classes)))
    return ActionSplit(train, test, names, (1, 1), "of other digits")


def _load_folders(config: ActionDataConfig, folder: str) -> ActionSplit:
    source = ClassFolders(folder, config.resize, share=config.share)
    share = "fifth" if config.share == 0.2 else f"{config.share:.0%}"
    held_out = f"the last {share} of each class, in the order of names"
    if source.test_folder is not None:
        held_out = f"those in `{source.test_folder}`"
    return _people(config, source, source.split(), source.classes, None, None, held_out)


def _load_weizmann(config: ActionDataConfig, folder: str) -> ActionSplit:
    data = load_weizmann(folder)
    source = SilhouetteActions(data)
    assert data.groups is not None
    rows = _held_out(data.groups, config.fold)
    joints = (1, len(SILHOUETTE_ENDS))
    return _people(config, source, rows, WEIZMANN_ACTIONS, joints, None, f"person {config.fold}")


def _load_ntu(config: ActionDataConfig, folder: str) -> ActionSplit:
    source = NTUActions(folder)
    rows = source.split(config.protocol)
    if not all(map(len, rows)):
        raise DataError(f"{folder}: all videos are on one side of the protocol {config.protocol}")
    names = tuple(f"A{number + 1:03}" for number in range(max(60, int(source.labels.max()) + 1)))
    return _people(config, source, rows, names, (_PEOPLE, NTU_JOINTS), config.size, config.protocol)


def _load_nucla(config: ActionDataConfig, folder: str) -> ActionSplit:
    source = NUCLAActions(folder)
    rows = _held_out(np.array([clip.view for clip in source.clips]), config.fold)
    names = tuple(f"a{number:02}" for number in NUCLA_ACTIONS)
    return _people(config, source, rows, names, (1, NUCLA_JOINTS), config.size, f"camera {config.fold}")


_LOADERS: dict[str, Callable[[ActionDataConfig, str], ActionSplit]] = {
    "relay": _load_relay,
    "folders": _load_folders,
    "weizmann": _load_weizmann,
    "ntu": _load_ntu,
    "nucla": _load_nucla,
}


def _held_out(groups: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        return leave_group_out(groups, fold)
    except ValueError as error:
        raise DataError(f"`data.fold`: {error}") from error


def _people(
    config: ActionDataConfig,
    source: Any,
    rows: tuple[np.ndarray, np.ndarray],
    names: tuple[str, ...],
    joints: tuple[int, int] | None,
    side: int | None,
    held_out: str,
) -> ActionSplit:
    size = None if side is None else (side, side)
    common: Any = {"frames": config.frames, "size": size, "stretch": config.stretch, "drop": config.drop}
    varied: Any = {name: getattr(config, name) for name in ("shift", "mirror", "zoom", "speed")}
    train = ActionClips(source, **common, **varied)
    test = ActionClips(source, **common)
    return ActionSplit(PeopleClips(train, rows[0]), PeopleClips(test, rows[1]), names, joints, held_out)


def training_clips(
    videos: ActionVideos, batch_size: int, seed: int, process: Process
) -> Callable[[int], ActionBatch]:
    """The batch of each step, on the device."""
    schedule = BatchSchedule(len(videos), batch_size, seed).shard(process.rank, process.world_size)

    def of(step: int) -> ActionBatch:
        purpose = f"clips/{process.rank}"
        return videos.batch(schedule.indices(step).tolist(), purpose, seed, step).to(process.device)

    return of


def training_things(
    videos: RelayClips, batch_size: int, seed: int, process: Process, frames: int = 4, things: int = 4
) -> Callable[[int], tuple[Tensor, Tensor, Tensor]]:
    """Single frames of each step, where things are in them and what they are, see `ReadingObjective`.

    Args:
        videos: they come from.
        batch_size: videos in a step.
        seed: of the order, and of which frames.
        process: this process's place among several.
        frames: of each video.
        things: in each frame, the first ones, two of which are marked at times.
    """
    schedule = BatchSchedule(len(videos), batch_size, seed).shard(process.rank, process.world_size)

    def of(step: int) -> tuple[Tensor, Tensor, Tensor]:
        clips, middles, classes = videos.with_things(schedule.indices(step).tolist())
        rng = stream(f"frames/{process.rank}", seed, step)
        count, length = clips.video.shape[:2]
        chosen = torch.from_numpy(rng.integers(length, size=(count, frames)))
        rows = torch.arange(count)[:, None].expand_as(chosen).flatten()
        chosen = chosen.flatten()
        places, labels = (each[rows, chosen, :things].transpose(0, 1) for each in (middles, classes))
        found = clips.video[rows, chosen], places, labels
        return tuple(each.to(process.device) for each in found)  # type: ignore[return-value]

    return of
