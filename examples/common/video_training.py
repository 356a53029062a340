"""Training and evaluating generative models of videos: what is the same for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from whatwhere import checks
from whatwhere.datasets import GeneratedVideos, VideoWindows, schedule_for
from whatwhere.datasets.streams import stream
from whatwhere.examples.common.data_records import records_of
from whatwhere.examples.common.program import RunConfig, set_threads, train_to_end
from whatwhere.examples.common.recorded import WindowSplit, describe_windows
from whatwhere.examples.common.video_models import (
    DataConfig,
    EvaluateConfig,
    Split,
    VideoSource,
    batches_of,
    held_out_videos,
)
from whatwhere.inference.evaluation import Videos, count_accuracy_of_videos, no_better_than_empty
from whatwhere.inference.objectives.diagnostics import Diagnostics
from whatwhere.inference.training import (
    Curriculum,
    PiecewiseConstant,
    Process,
    Trainer,
    TrainingConfig,
    keep_freed_memory,
    make_optimizer,
    parameter_groups,
    runtime_field,
    select_device,
)

_WATCHED = 50
"""Videos by which it is watched how a model does on training data, and on none at all."""

Config = TypeVar("Config", bound="VideoModelConfig")
Programs = TypeVar("Programs", bound=NamedTuple)


@dataclass(frozen=True)
class VideoModelConfig(RunConfig):
    """How a generative model of videos is trained, whichever it is."""

    MOST_USED: ClassVar[tuple[str, ...]] = (
        "output",
        "resume",
        "overwrite",
        "data.source",
        "first_frames",
        "frames",
        "training.steps",
        "training.minutes",
        "training.seed",
        "device",
    )

    validate: bool = runtime_field(False)
    """Let Pyro check the parameters and values of all distributions at every step: slower, for debugging."""
    batch_size: int = 32
    """Videos in a step, of all processes together."""
    first_frames: int | None = None
    """Frames of each video at the start of training, by default `frames`."""
    frames: int = 10
    """Frames of each video at the end."""
    stage_steps: int = 100_000
    """Steps after which the videos become one frame longer."""
    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """`rmsprop` is that of TensorFlow, with momentum 0.9."""
    learning_rate: float = 1e-5
    """Learning rate at the start."""
    decay_parts: tuple[int, ...] = (1,)
    """Proportions of the parts of training, from each of which to the next the learning rate decays."""
    decay: float = 1 / 3
    """Factor by which it does."""
    monitor_videos: int = runtime_field(500)
    """Held-out videos on which the model is measured during training."""
    data: DataConfig = DataConfig()
    """The videos."""
    training: TrainingConfig = TrainingConfig(steps=2_000_000, evaluate_every=5_000)
    """The training loop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive(self, "batch_size", "first_frames", "frames", "stage_steps", "monitor_videos")
        checks.ordered(self, "first_frames", "frames")
        checks.positive(self, "learning_rate", "decay_parts", "decay")
        checks.not_empty(self, "decay_parts")

    @property
    def length(self) -> Curriculum:
        """Frames of each video, as a function of the step."""
        return Curriculum(self.first_frames or self.frames, self.stage_steps, self.frames)


@dataclass(frozen=True)
class Run(Generic[Config, Programs]):
    """A run of training that has not begun."""

    config: Config
    """With the shape of the images."""
    programs: Programs
    """Model and guide."""
    data: Split
    """The videos."""
    trainer: Trainer
    """Trains them."""


def make_run(
    config: Config,
    programs: Programs,
    objective: nn.Module,
    data: Split,
    process: Process,
    evaluate: Callable[[Iterator[Videos]], Mapping[str, float]],
    watch: Callable[[Tensor, Tensor], Mapping[str, float]] | None = None,
    training: TrainingConfig | None = None,
    rates: Mapping[str, float] | None = None,
    **options: Any,
) -> Run[Config, Programs]:
    """Make the trainer of a run.

    Args:
        config: with the shape of the images.
        programs: model and guide.
        objective: made of them, on the device; called with videos `(B, T, C, H, W)`.
        data: the videos.
        process: this process's place among several.
        evaluate: measures held-out videos, which are as long as those of training at the time.
        watch: measures some held-out videos and some that are trained on, as `watched_metrics`.
        training: of the trainer, where it has not all of the run's.
        rates: learning rates of parts of the objective, see `parameter_groups`.
        options: further arguments of `Trainer`.
    """
    training = training or config.training
    batch_schedule = schedule_for(data.train, config.batch_size, config.training.seed).shard(
        process.rank, process.world_size
    )
    length = config.length
    # A generated video begins at random anyway, and goes on from the shorter one.
    whole = isinstance(data.train, GeneratedVideos) or data.train.shape[1] == length(0)
    if process.is_main and isinstance(data.train, VideoWindows) and isinstance(data.test, VideoWindows):
        print(describe_windows(config.data, WindowSplit(data.train, data.test)))
    if process.is_main and not whole:
        print(windows_used(data.train.shape[1], length(0), config.frames))

    def batches(step: int) -> tuple[Tensor]:
        video, frames = data.train.batch(batch_schedule.indices(step)).video, length(trainer.position)
        if not whole:
            rng = stream(f"windows/{process.rank}", config.training.seed, step)
            return (random_windows(video, frames, rng).to(process.device),)
        return (video[:, :frames].to(process.device),)

    def held_out() -> Iterator[Videos]:
        size = min(config.monitor_videos, len(data.test))
        return batches_of(data.test, size, length(trainer.position), process.device)

    def some(source: VideoSource) -> Tensor:
        size = min(_WATCHED, config.monitor_videos, len(source))
        return next(batches_of(source, size, length(trainer.position), process.device)).video

    def measured(step: int) -> dict[str, float]:
        numbers = dict(evaluate(held_out()))
        if watch is not None:
            numbers |= watch(some(data.test), some(data.train))
        if process.is_main and (remark := no_better_than_empty(numbers)):
            tqdm.write(f"step {step}: {remark}")
        return numbers

    groups = parameter_groups(objective, config.learning_rate, rates)
    trainer = Trainer(
        objective,
        make_optimizer(config.optimizer, groups, config.learning_rate),
        batches,
        training,
        folder=config.output,
        configuration=config,
        schedule=PiecewiseConstant.in_proportion(training.steps, config.decay_parts, config.decay),
        evaluate=measured,
        modules=programs._asdict(),
        process=process,
        data=records_of(config.data, *data),
        accept_changed_data=config.accept_changed_data,
        **options,
    )
    return Run(config, programs, data, trainer)


def random_windows(video: Tensor, frames: int, rng: np.random.Generator) -> Tensor:
    """So many frames in a row of each video, from anywhere in it with equal probability.

    Args:
        video: `(B, T, C, H, W)`.
        frames: at most T.
        rng: draws where they begin.

    Returns:
        `(B, frames, C, H, W)`.
    """
    starts = rng.integers(video.shape[1] - frames + 1, size=len(video))
    return torch.stack([each[start : start + frames] for each, start in zip(video, starts, strict=True)])


def windows_used(length: int, first: int, last: int) -> str:
    """One line on how much training sees of clips of `length` frames, in windows of `first` to `last`."""
    frames = str(last) if first == last else f"{first} to {last}"
    shares = dict.fromkeys(f"{frames / length:.0%}" for frames in (first, last))
    return (
        f"training sees {frames} frames of each clip of {length} at a time, from anywhere in it: "
        f"{' to '.join(shares)} of the frames in a pass"
    )


def held_out_bound(
    objective: Callable[[Tensor], tuple[Tensor, Diagnostics]], videos: Iterable[Videos]
) -> dict[str, float]:
    """What an objective says of held-out videos: its bound and KL, in nats of whole sequences.

    Args:
        objective: called with videos `(B, T, C, H, W)`.
        videos: batches of one length.
    """
    bound = kl = size = frames = 0.0
    for batch in videos:
        diagnostics = objective(batch.video)[1]
        bound += len(batch.video) * float(diagnostics.bound)
        kl += len(batch.video) * float(diagnostics.kl)
        size, frames = size + len(batch.video), batch.video.shape[1]
    return {
        "held_out_bound": bound / size,
        "held_out_kl": kl / size,
        "bound_per_frame": bound / size / frames,
    }


def monitored(
    model: nn.Module,
    guide: nn.Module,
    objective: Callable[[Tensor], tuple[Tensor, Diagnostics]],
    videos: Iterable[Videos],
) -> dict[str, float]:
    """How well the objects of held-out videos are counted, or, where that is not known, `held_out_bound`.

    Args:
        model: as `models.SQAIR`.
        guide: as `guides.SQAIRGuide`.
        objective: of the two, called with videos `(B, T, C, H, W)`.
        videos: batches of one length, at least one.
    """
    first, *others = videos
    if first.counts is None:
        return held_out_bound(objective, [first, *others])
    found = count_accuracy_of_videos(model, guide, [first, *others])._asdict()
    return {name: value for name, value in found.items() if math.isfinite(value)}


def run_to_end(
    run: Run[Config, Programs],
    process: Process,
    report: Callable[..., object],
    evaluation: type[EvaluateConfig] = EvaluateConfig,
) -> int:
    """Train, from the run's checkpoint where that is asked for and there is one; then evaluate by `report`.

    Returns:
        the exit code.
    """
    options = evaluation(run.config.output / "checkpoint.pt", output=run.config.output)
    held_out = partial(report, options, run.config, run.programs, run.data.test, process.device)
    return train_to_end(run.trainer, run.config.resume, process, held_out)


def evaluate_checkpoint(
    options: EvaluateConfig,
    restore: Callable[[Path, torch.device], tuple[Any, Any]],
    report: Callable[..., object],
) -> int:
    """Evaluate a checkpoint.

    Args:
        options: which one, and on what.
        restore: its configuration, and its model and guide.
        report: called with the options, these, the held-out videos and the device.
    """
    set_threads(options.threads)
    keep_freed_memory()
    device = select_device(options.device)
    config, programs = restore(options.checkpoint, device)
    data = held_out_videos(options, config.data, config.frames, config.network.image_shape)
    report(options, config, programs, data, device)
    return 0
