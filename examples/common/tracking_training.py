"""What the programs of single-object trackers share: training, cross-validation, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from whatwhere import checks
from whatwhere.checks import FieldError
from whatwhere.examples.common.data_records import require_recorded
from whatwhere.examples.common.program import RunConfig, restore_run, set_threads, train_to_end
from whatwhere.examples.common.tracking_data import (
    Split,
    TrackingDataConfig,
    generated_kind,
    groups_of,
    load_further_targets,
    load_targets,
    training_batches,
)
from whatwhere.examples.common.tracking_report import (
    Baseline,
    for_frames,
    report_held_out,
    track_clips,
    write_report,
)
from whatwhere.inference.evaluation import Clips, TrackerReport, evaluate_tracker
from whatwhere.inference.training import (
    Curriculum,
    PiecewiseConstant,
    Process,
    Trainer,
    TrainingConfig,
    TriggeredCurriculum,
    check_device,
    load_checkpoint,
    make_optimizer,
    select_device,
)

_CURRICULUM_BATCHES = 8
"""Training batches on which it is measured whether videos may become longer."""

Config = TypeVar("Config", bound="TrackerConfig")
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class TrackerConfig(RunConfig):
    """How a tracker is trained, whichever it is."""

    MOST_USED: ClassVar[tuple[str, ...]] = (
        "output",
        "resume",
        "overwrite",
        "initial",
        "data.source",
        "data.also",
        "data.difficulty",
        "first_frames",
        "frames",
        "training.steps",
        "training.seed",
        "device",
    )

    initial: Path | None = None
    """A checkpoint to start from, of networks of the same sizes; only its tracker is taken."""
    batch_size: int = 16
    """Videos in a step, of all processes together."""
    first_frames: int = 30
    """Greatest number of frames of a training video at the start."""
    frames: int = 30
    """The same at the end."""
    stage_steps: int = 160
    """Steps after which training videos become one frame longer."""
    test_frames: int | None = None
    """Frames of held-out videos; by default as many as there are, and `frames` of generated ones."""
    optimizer: Literal["sgd", "adam", "rmsprop"] = "adam"
    """`rmsprop` is that of TensorFlow."""
    learning_rate: float = 1e-3
    """Learning rate at the start."""
    momentum: float = 0.0
    """Of `sgd` and `rmsprop`."""
    decay_parts: tuple[int, ...] = (1,)
    """Proportions of the parts of training, from each of which to the next the learning rate decays."""
    decay: float = 0.3
    """Factor by which it does."""
    monitor_videos: int = 500
    """Greatest number of videos, held out or for validation, that are tracked during training."""
    data: TrackingDataConfig = TrackingDataConfig()
    """The videos."""
    training: TrainingConfig = TrainingConfig(steps=10_000, evaluate_every=500, clip_norm=1.0)
    """The training loop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive(self, "batch_size", "first_frames", "frames", "stage_steps", "test_frames")
        checks.positive(self, "monitor_videos")
        checks.ordered(self, "first_frames", "frames")
        if generated_kind(self.data.source) is None and self.first_frames < self.data.min_frames:
            expected = (
                f"must be at least `data.min_frames`, {self.data.min_frames}, where videos are from a file"
            )
            raise FieldError("first_frames", expected, self.first_frames)
        checks.within("[0, 1)", self, "momentum")
        checks.positive(self, "learning_rate", "decay_parts", "decay")
        checks.not_empty(self, "decay_parts")


def load_data(config: TrackerConfig) -> Split:
    """The videos of a training run."""
    return load_targets(config.data, config.frames, config.test_frames or config.frames)


def train_tracker(
    config: TrackerConfig,
    process: Process,
    data: Split,
    model: nn.Module,
    objective: nn.Module,
    name: str,
    curriculum: TriggeredCurriculum | None = None,
    others: Mapping[str, nn.Module] | None = None,
) -> int:
    """Train, evaluate on held-out videos, and write everything into `config.output`.

    Args:
        config: how.
        process: see `Trainer`.
        data: what `load_data` returned.
        model: the tracker, on the device.
        objective: made of it; called with `Targets`.
        name: of the tracker, in plots.
        curriculum: lengths of training videos; by default one frame more every `config.stage_steps`.
        others: parts of the objective that have state too, by name, for checkpoints.
    """
    length: Callable[[int], int] = curriculum or Curriculum(
        config.first_frames, config.stage_steps, config.frames
    )
    sources = [
        data.train,
        *load_further_targets(config.data, config.frames, data.train.image_shape),
    ]
    batches = training_batches(
        sources,
        config.batch_size,
        config.training.seed,
        length,
        process,
        config.data.parts,
        config.data.faded,
    )
    watched = data.test if data.validation is None else data.validation

    def evaluate(step: int) -> dict[str, float]:
        report = track_clips(model, watched, config.monitor_videos, config.test_frames)
        measured = {"held_out_iou": report.iou, "held_out_last_iou": report.iou_last}
        if curriculum is not None:
            lately = (batches(step - 1 - i) for i in range(min(step, _CURRICULUM_BATCHES)))
            report = evaluate_tracker(model, (Clips(b.video, b.boxes, b.mask) for b in lately))
            (quality,) = process.mean({"iou": report.iou_without_first}).values()
            measured |= {"train_iou": quality, "train_frames": curriculum.length}
            curriculum.update(step, quality)
        return measured

    if config.initial is not None:
        load_checkpoint(config.initial).restore_modules({"model": model}, subset=True)
    modules = {"model": model, **(others or {})}
    if curriculum is not None:
        modules["curriculum"] = curriculum
    options = {} if config.optimizer == "adam" else {"momentum": config.momentum}
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    trainer = Trainer(
        objective,
        make_optimizer(config.optimizer, trained, config.learning_rate, **options),
        batches,
        config.training,
        folder=config.output,
        configuration=config,
        schedule=PiecewiseConstant.in_proportion(config.training.steps, config.decay_parts, config.decay),
        evaluate=evaluate,
        modules=modules,
        process=process,
        data=data.records() | {f"also {videos.name}": videos.record() for videos in sources[1:]},
        accept_changed_data=config.accept_changed_data,
        # Held-out videos must not choose the parameters they are evaluated with.
        keep_best=None if data.validation is None else "held_out_iou",
    )

    def report() -> None:
        load_checkpoint(chosen_checkpoint(config)).restore_modules({"model": model}, subset=True)
        report_held_out(config.output, model, data.test, process.device, None, config.test_frames, name)

    return train_to_end(trainer, config.resume, process, report)


def chosen_checkpoint(config: TrackerConfig) -> Path:
    """The parameters that tracked the videos for validation best, or else the last ones."""
    best = config.output / "best.pt"
    return best if config.data.fold is not None and best.exists() else config.output / "checkpoint.pt"


def cross_validate(
    config: Config,
    train: Callable[[Config], int],
    restore: Callable[[Path, torch.device], tuple[Any, nn.Module]],
    name: str,
) -> int:
    """Train and evaluate once for each group of videos, which is held out, and put the numbers together.

    Folds that are complete are kept, and one that was interrupted goes on, when it is called again.

    Args:
        config: its `data.fold` and `output` are those of each fold in turn.
        train: what trains and evaluates with a configuration, and returns the exit code.
        restore: a checkpoint's configuration and tracker.
        name: of the tracker, in plots.
    """
    device = select_device(config.device)
    reports: list[TrackerReport] = []
    for group in np.unique(groups_of(config.data.source)).tolist():
        fold = replace(
            config,
            output=config.output / f"fold-{group}",
            resume=True,
            data=replace(config.data, fold=group),
        )
        if not _is_complete(fold) and (code := train(fold)):
            return code
        _, model = restore(chosen_checkpoint(fold), device)
        held_out = load_data(fold).test
        reports.append(track_clips(model, held_out, len(held_out), config.test_frames))
    write_report(config.output, TrackerReport.joined(reports), name)
    return 0


def _is_complete(config: TrackerConfig) -> bool:
    """Whether a training run has taken all its steps."""
    path = config.output / "checkpoint.pt"
    return path.exists() and load_checkpoint(path).step >= config.training.steps


def restore_tracker(
    path: Path, device: torch.device, config_class: type[Config], build: Callable[[Config], Model]
) -> tuple[Config, Model]:
    """Rebuild the configuration and the tracker of a checkpoint.

    Raises:
        CheckpointError: if it cannot be read, or is one of something else.
    """
    name = config_class.__name__.removesuffix("Config")
    config, modules = restore_run(
        path, device, config_class, name, lambda config: {"model": build(config)}, subset=True
    )
    return config, modules["model"]


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate a trained tracker on held-out videos."""

    checkpoint: Path
    """The checkpoint of a training run."""
    output: Path | None = None
    """Folder for `metrics.json` and the pictures; by default `evaluation` beside the checkpoint."""
    data: str | None = None
    """Other videos than the held-out ones of the training run: generated ones by name, or a path, of which
    all videos are tracked.
    """
    objects: int | None = None
    """Another number of objects in generated videos."""
    difficulty: float | None = None
    """Another difficulty of `clutter`."""
    template: bool = False
    """Track the same videos by normalised cross-correlation with the first picture of the object, too."""
    baselines: tuple[Baseline, ...] = ()
    """Other trackers that need no training, for the same videos: `template`, as above; `careful-template`,
    which prefers near places and stays where nothing looks alike; `correlation-filter`, which learns to tell
    the object from its surroundings, and follows its size.
    """
    videos: int | None = None
    """Number of videos, the first ones; by default all."""
    frames: int | None = None
    """Frames of each; by default those of the training run's own evaluation, and all of a path's."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""
    threads: int | None = None
    """Threads of the CPU."""

    def __post_init__(self) -> None:
        checks.literals(self)
        check_device(self.device)
        checks.positive(self, "videos", "frames", "objects", "threads")
        checks.share(self, "difficulty")


def evaluate_checkpoint(
    options: EvaluateConfig, restore: Callable[[Path, torch.device], tuple[TrackerConfig, Any]], name: str
) -> int:
    """Evaluate a checkpoint.

    Args:
        options: which one, and on what.
        restore: its configuration and tracker.
        name: of the tracker, in plots.
    """
    set_threads(options.threads)
    device = select_device(options.device)
    config, model = restore(options.checkpoint, device)
    changes = {name: getattr(options, name) for name in ("objects", "difficulty")}
    source = replace(config.data, **{name: value for name, value in changes.items() if value is not None})
    path = None if options.data is None or generated_kind(options.data) else options.data
    if options.data is not None:
        source = replace(source, source=options.data, test_source=path, fold=None)
    split = load_targets(source, 1, options.frames or config.test_frames or config.frames)
    videos = split.test
    if options.data is None and not generated_kind(source.source):
        require_recorded(options.checkpoint, **split.records())
    model = for_frames(model, videos.image_shape, f"`{videos.name}`")
    folder = options.output or options.checkpoint.parent / "evaluation"
    frames = options.frames or (None if path is not None else config.test_frames)
    baselines = dict.fromkeys((*(["template"] if options.template else []), *options.baselines))
    report_held_out(folder, model, videos, device, options.videos, frames, name, baselines)
    return 0
