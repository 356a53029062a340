"""What the programs of generative models of videos share: data, evaluation, generated videos."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from whatwhere import checks
from whatwhere.datasets import (
    BALLS,
    DataError,
    Frames,
    GeneratedVideos,
    MovingDigitsRecipe,
    SpMOTRecipe,
    VideoData,
    VideoStore,
    VideoWindows,
    coloured_ball_videos,
    load_clips,
    moving_digit_videos,
    present,
    sample_frames,
    spmot_videos,
    visible_count,
)
from whatwhere.examples.common.data_records import records_of, require_recorded
from whatwhere.examples.common.recorded import (
    RecordedConfig,
    are_clips,
    held_out_windows,
    open_as_trained,
    settled,
    window_split,
)
from whatwhere.examples.common.sources import existing_path, require_shape, settle_sources
from whatwhere.inference.evaluation import LikelihoodReport, Tracks, VideoReport, Videos, single_frames
from whatwhere.inference.objectives import ObjectiveModule
from whatwhere.inference.objectives.diagnostics import Diagnostics
from whatwhere.inference.pictures import film_strip, sample_picture, save_gif, save_picture
from whatwhere.inference.training import check_device, source_field

GENERATED = ("glyphs", "mnist", "spmot", *BALLS)
"""Names of generated videos."""

_FOR_MEAN = 32
_FOR_GROUND = 10  # frames, below which what moves leaves too much of itself in their median
_OTHER_GROUND = 25.0  # of 255 grey values, between the grounds of two cameras

VideoSource = GeneratedVideos | VideoData | VideoStore | VideoWindows


@dataclass(frozen=True)
class DataConfig(RecordedConfig):
    """Where the videos come from, and what is made of them."""

    source: str = source_field("glyphs")
    """`glyphs` (digits drawn from fonts, no download), `mnist`, `spmot` (coloured sprites, Sprites-MOT),
    `balls-occlusion`, `balls-interaction`, `balls-two-layers` or `balls-dense` (coloured balls), or the path
    of videos, however long, see `whatwhere.datasets.load_clips`; they are read as they are needed.
    """
    test_source: str | None = source_field(None)
    """Held-out videos, where `source` is a path; without it the end of each video is held out, or, of a data
    set of many clips, the last tenth of these.
    """
    max_objects: int = 2
    """Most digits in a generated video; the number is uniform from 0. Sprites and balls are as published, in
    frames of 64 x 64 pixels: this and what follows, down to `noise_std`, is of digits.
    """
    image_size: int = 50
    """Side of generated frames of digits, in pixels."""
    intermittent: bool = False
    """Whether generated digits appear and disappear."""
    return_probability: float = 0.0
    """Probability that such a digit appears a second time."""
    noise_std: float = 0.0
    """Standard deviation of noise added to the pixels of generated videos."""
    train_videos: int = 60_000
    """Generated training videos; they are made when they are needed, and take no memory."""
    test_videos: int = 10_000
    """Generated held-out videos, made from other digits than the training videos."""
    seed: int = 0
    """Seed of generated videos; it is not the seed of training, so that all runs see the same data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        settle_sources(self, GENERATED)
        checks.positive(self, "max_objects", "image_size", "train_videos", "test_videos")
        checks.share(self, "return_probability")
        checks.not_negative(self, "noise_std")
        checks.seed(self, "seed")
        if self.source in GENERATED:
            self.how_made(1)

    def how_made(self, frames: int) -> MovingDigitsRecipe:
        """How generated videos of at least so many frames are made."""
        return MovingDigitsRecipe(
            max_objects=self.max_objects,
            image_size=self.image_size,
            # Longer videos go on from shorter ones: 10 frames, the paper's length, are the same for all.
            frames=max(frames, 10),
            intermittent=self.intermittent,
            return_probability=self.return_probability,
            noise_std=self.noise_std,
        )


class Split(NamedTuple):
    """Training videos and held-out videos."""

    train: VideoSource
    test: VideoSource


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate a trained model on held-out videos."""

    checkpoint: Path
    """The checkpoint of a training run."""
    output: Path | None = None
    """Folder for `metrics.json` and the pictures; by default `evaluation` beside the checkpoint."""
    data: str | None = None
    """Other videos than the held-out ones of the training run: as `data.source` of training, or a path."""
    first: int = 0
    """Number of the first video: what was chosen by looking at the first ones is measured on others."""
    videos: int = 1_000
    """Number of videos, from there on."""
    frames: int | None = None
    """Frames of each; by default as many as the model was trained on."""
    particles: int = 5
    """Particles of the bounds that are compared with training."""
    iwae_particles: int = 100
    """Particles of the estimate of log p(x)."""
    iwae_videos: int = 64
    """Videos that it is made from; it takes most of the time."""
    seed: int = 0
    """Seed of the posterior samples."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""
    threads: int | None = None
    """Threads of the CPU."""

    def __post_init__(self) -> None:
        check_device(self.device)
        checks.positive(self, "videos", "frames", "particles", "iwae_particles", "iwae_videos", "threads")
        checks.not_negative(self, "first")
        checks.seed(self, "seed")


@dataclass(frozen=True)
class GenerateConfig:
    """Draw videos from a trained model, or go on from the first frames of a given one."""

    checkpoint: Path
    """The checkpoint of a training run."""
    output: Path = Path("generated")
    """Folder for `generated.png`, a film strip, and `generated.gif`."""
    video: Path | None = None
    """A video to go on from, see `whatwhere.datasets.load_clips`; without it videos are drawn from the prior.
    """
    given: int = 3
    """Frames of the video that the model sees."""
    frames: int = 10
    """Frames, those given included."""
    count: int = 6
    """Number of videos."""
    resize: bool = False
    """Resize frames to what the model was trained on."""
    fps: float = 4.0
    """Frames per second of the GIF."""
    seed: int = 0
    """Seed of the videos."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""

    def __post_init__(self) -> None:
        checks.literals(self)
        check_device(self.device)
        checks.positive(self, "count", "frames", "given")
        checks.within("[0.1, 50]", self, "fps")
        checks.seed(self, "seed")
        if self.video is not None and self.given >= self.frames:
            raise ValueError(f"`given` must be less than `frames` = {self.frames}, got {self.given}")


def load_data(config: DataConfig, frames: int) -> Split:
    """Training and held-out videos of at least `frames` frames."""
    if config.source in GENERATED:
        return Split(*(_generated(config, split, frames) for split in ("train", "test")))
    path = existing_path(config.source, GENERATED)
    if config.changes or not are_clips(path):
        return Split(*window_split(config, config.source, config.test_source, frames))
    data = _load(config.source, frames)
    if config.test_source is not None:
        return Split(data, _load(config.test_source, frames))
    held_out = max(1, len(data) // 10)
    if len(data) <= held_out:
        raise DataError(f"`{config.source}` has {len(data)} video, too few to hold one out")
    cut = len(data) - held_out
    return Split(data.subset(range(cut)), data.subset(range(cut, len(data))))


def _generated(config: DataConfig, split: Literal["train", "test"], frames: int) -> GeneratedVideos:
    size = config.train_videos if split == "train" else config.test_videos
    if config.source == "spmot":
        return spmot_videos(SpMOTRecipe(max(frames, 10)), split, size, config.seed)
    if config.source in BALLS:
        recipe = replace(BALLS[config.source], frames=max(frames, 20))
        return coloured_ball_videos(recipe, split, size, config.seed)
    source: Literal["glyphs", "mnist"] = "mnist" if config.source == "mnist" else "glyphs"
    return moving_digit_videos(config.how_made(frames), split, size, config.seed, source=source)


def _load(source: str, frames: int) -> VideoSource:
    path = existing_path(source, GENERATED)
    data = VideoStore(path) if path.suffix in (".h5", ".hdf5") else load_clips(path)
    _require_frames(source, data, frames)
    return data


def _require_frames(source: str, data: VideoSource, frames: int) -> None:
    shape = data.shape
    if shape[1] < frames:
        raise DataError(f"`{source}` has videos of {shape[1]} frames, fewer than the {frames} asked for")


def with_levels(config: DataConfig) -> DataConfig:
    """The configuration with what is found out from the frames of a user's first training video."""
    return config if config.source in GENERATED else settled(config, config.source)


def mean_frame(data: VideoSource, frames: int) -> Tensor:
    """The mean `(C, H, W)` of some training frames, of windows of at most `frames`."""
    if isinstance(data, VideoWindows):
        rows = np.unique(np.linspace(0, len(data) - 1, _FOR_MEAN).astype(int))
        return torch.stack([data.batch([row]).video.mean((0, 1)) for row in rows.tolist()]).mean(0)
    return data.batch(range(min(1000, len(data)))).video[:, :frames].mean((0, 1))


def median_frame(data: VideoSource, frames: int) -> Tensor:
    """The median `(C, H, W)` of some training frames, in which what moves is not."""
    rows = np.unique(np.linspace(0, len(data) - 1, _FOR_MEAN).astype(int))
    return torch.cat([data.batch([row]).video[0, :frames] for row in rows.tolist()]).median(0).values


def camera_size(data: VideoSource) -> tuple[int, int]:
    """Height and width of the frames of a camera, of which videos may show parts.

    Raises:
        DataError: if frames are of different sizes.
    """
    if not isinstance(data, VideoWindows):
        height, width = data.shape[3:]
        return height, width
    sizes = {stretch.video.size for stretch in data.stretches}
    if len(sizes) > 1:
        raise DataError(f"expected videos of one camera, got frames of {sorted(sizes)} (height, width)")
    return sizes.pop()


def camera_image(data: VideoSource, frames: int) -> Tensor:
    """The median over time of the whole frames `(C, H, W)` that videos are parts of.

    Raises:
        DataError: if several videos have different ones.
    """
    if not isinstance(data, VideoWindows):
        return median_frame(data, frames)
    samples = [sample_frames(video, stop) for video, _, stop, _ in data.stretches]
    first = ground = np.median(samples[0], axis=0)
    for stretch, sample in zip(data.stretches[1:], samples[1:], strict=True):
        apart = float(np.abs(np.median(sample, axis=0) - first).mean())
        if apart > _OTHER_GROUND:
            raise DataError(
                f"expected videos of one camera, but the grounds of {data.stretches[0].video.path} and "
                f"{stretch.video.path} differ by {apart:.0f} of 255 grey values"
            )
    if len(samples) > 1:
        ground = np.median(np.concatenate(samples), axis=0)
    return torch.from_numpy(ground).float() / 255


def batches_of(
    data: VideoSource, size: int, frames: int, device: torch.device, batch_size: int = 50
) -> Iterator[Videos]:
    """The first videos with their labels, in order, cut to their first frames."""
    for start in range(0, size, batch_size):
        batch = data.batch(range(start, min(start + batch_size, size)))
        labels: dict[str, Tensor | None] = {
            "counts": batch.count,
            "visible_counts": None if batch.visible is None else visible_count(batch),
            "boxes": batch.boxes,
            "segments": batch.segments,
            "present": None if batch.visible is None or batch.boxes is None else batch.visible > 0,
        }
        if batch.boxes is not None and batch.visible is None:
            labels["present"] = present(batch)
        cut = {name: None if label is None else label[:, :frames] for name, label in labels.items()}
        yield Videos(
            batch.video[:, :frames].to(device),
            **{name: None if label is None else label.to(device) for name, label in cut.items()},
        )


class PerFrame(nn.Module):
    """An objective divided by the number of frames, so that the step does not grow with the videos."""

    def __init__(self, objective: ObjectiveModule) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, video: Tensor) -> tuple[Tensor, Diagnostics]:
        """The loss of videos `(B, T, C, H, W)`, and diagnostics of whole sequences."""
        loss, diagnostics = self.objective(video)
        return loss / video.shape[1], diagnostics


class SingleFrames(nn.Module):
    """The mean objective of the frames of videos, each a video of its own, whose particles it does not share.

    With one particle it is `PerFrame`; with more it is a tighter bound, if frames are independent.
    """

    def __init__(self, objective: ObjectiveModule) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, video: Tensor) -> tuple[Tensor, Diagnostics]:
        """The loss of videos `(B, T, C, H, W)`, and diagnostics of whole sequences."""
        loss, found = self.objective(single_frames(video))
        bound, likelihood, kl = (video.shape[1] * value for value in found[:3])
        return loss, Diagnostics(bound, likelihood, kl, found.effective_sample_size)


def held_out_videos(
    options: EvaluateConfig, data: DataConfig, frames: int, image_shape: tuple[int, int, int] | None
) -> VideoSource:
    """The videos to evaluate on: those held out in training, or those of `options.data`.

    Args:
        options: what to evaluate on.
        data: the videos of the training run.
        frames: length of the videos that the model was trained on.
        image_shape: channels, height and width of their frames.

    Raises:
        DataError: if they cannot be read, or have frames of another size.
        CheckpointError: if they are not those of the training run, and nobody said so.
    """
    source = data
    if options.data is not None:
        generated = options.data in GENERATED
        source = replace(source, source=options.data, test_source=None if generated else options.data)
    if options.data is None and source.source not in GENERATED:
        # Of the frames of training: windows of others are others.
        split = load_data(source, frames)
        require_recorded(options.checkpoint, **records_of(source, *split))
        videos = split.test
        if options.frames not in (None, frames):
            # Longer windows must not reach into what was trained on; clips have the length that they have.
            if isinstance(videos, VideoWindows):
                videos = held_out_windows(source, videos.stretches, options.frames)
            else:
                _require_frames(source.test_source or source.source, videos, options.frames)
    else:
        videos = load_data(source, options.frames or frames).test
    require_shape(options.data or source.source, videos.shape[2:], image_shape)
    if not options.first:
        return videos
    if options.first >= len(videos):
        raise DataError(f"`first` must be less than the number of videos, {len(videos)}, got {options.first}")
    return videos.subset(range(options.first, min(options.first + options.videos, len(videos))))


def user_frames(
    path: Path,
    image_shape: tuple[int, int, int] | None,
    resize: bool,
    number: int = 0,
    data: RecordedConfig | None = None,
) -> Frames:
    """One of a user's videos, read as it goes, prepared as those of training, and fitted to the model.

    Args:
        path: see `whatwhere.datasets.open_frames`.
        image_shape: channels, height and width that the model was trained on.
        resize: whether frames are fitted to it.
        number: which of several videos.
        data: of the training run.

    Raises:
        DataError: if it cannot be read, or has another shape.
    """
    assert image_shape is not None  # a trained model has one
    frames = open_as_trained(data, path, image_shape if resize else None, number)
    hint = "; give `--resize` to fit them"
    require_shape(str(path), (frames.channels, *frames.size), image_shape, hint=hint)
    if data is not None and data.prepare.background in ("median", "running", "first"):
        count = frames.count()
        if count < _FOR_GROUND:
            warnings.warn(
                f"`{path}` has {count} frame{'s' * (count != 1)}, of which the ground is made that objects "
                "stand out from: what hardly moves in them is a part of it. Give more frames of the same "
                "scene, or train with a picture of the empty one, `--data.prepare.background FILE`",
                stacklevel=2,
            )
    return frames


def print_likelihood(report: VideoReport | LikelihoodReport) -> None:
    """The numbers that all models of videos have, in nats per sequence."""
    print(f"held-out videos  {report.videos} of {report.frames} frames")
    print(f"log p(x)         {report.log_marginal:.1f}  (IWAE-{report.iwae_particles}, {report.iwae_videos})")
    print(f"IWAE-{report.particles:<12}{report.iwae:.1f}")
    print(f"reconstruction   {report.log_likelihood:.1f}  (weighted {report.weighted_log_likelihood:.1f})")
    print(f"KL               {report.kl:.1f}  (weighted {report.weighted_kl:.1f})")


def reconstruction_strip(video: Tensor, canvas: Tensor, tracks: Tracks | None = None) -> Image.Image:
    """A film strip of videos and, below each, what a model makes of it.

    Args:
        video: `(B, T, C, H, W)` in [0, 1].
        canvas: the same of the reconstructions.
        tracks: of the objects to be marked in the videos.
    """
    rows = [row.cpu() for pair in zip(video, canvas, strict=True) for row in pair]
    marked = None
    if tracks is not None:
        marked = [
            each for i in range(len(video)) for each in (Tracks(*(field[i].cpu() for field in tracks)), None)
        ]
    return film_strip(rows, ["input", "reconstruction"] * len(video), marked)


def count_parameters(*modules: nn.Module) -> int:
    """Number of parameters of modules together; those that they share count once."""
    shared = dict.fromkeys(parameter for module in modules for parameter in module.parameters())
    return sum(parameter.numel() for parameter in shared)


def frames_to_go_on_from(
    options: GenerateConfig,
    path: Path,
    image_shape: tuple[int, int, int] | None,
    device: torch.device,
    data: RecordedConfig | None = None,
) -> tuple[Tensor, Tensor]:
    """The user's video `(T, C, H, W)`, and its given frames, once for each of the videos to be generated."""
    frames = user_frames(path, image_shape, options.resize, data=data)
    video = torch.from_numpy(next(frames.blocks(options.frames))).float() / 255
    if len(video) < options.given:
        raise DataError(f"`{path}` has {len(video)} frames, fewer than `--given` {options.given}")
    return video, video[: options.given].expand(options.count, -1, -1, -1, -1).to(device)


def write_generated(options: GenerateConfig, canvases: Sequence[Tensor], video: Tensor | None = None) -> None:
    """Write generated videos as a film strip and an animation.

    Args:
        options: where to, and how many frames were given.
        canvases: for each frame `(count, C, H, W)`.
        video: the video `(T, C, H, W)` that they go on from.
    """
    rows: list[Tensor] = list(torch.stack(list(canvases), dim=1).cpu())
    labels, marks = [""] * len(rows), {}
    if video is not None:
        rows = [video, *rows]
        labels, marks = ["input", *["generated"] * options.count], {options.given: "generated"}
    save_picture(options.output / "generated.png", film_strip(rows, labels, marks=marks))
    shown = [row for row in rows if len(row) == options.frames]
    now = (torch.stack([row[t] for row in shown]) for t in range(options.frames))
    columns = min(3, len(shown))
    pages = (sample_picture(frames, columns, title=f"frame {t}") for t, frames in enumerate(now))
    save_gif(options.output / "generated.gif", pages, options.fps)
    print(f"film strip: {options.output / 'generated.png'}")
    print(f"animation:  {options.output / 'generated.gif'}")
