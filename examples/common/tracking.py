"""What the programs of single-object trackers share: training, cross-validation, evaluation, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from whatwhere.datasets import VIDEO_SUFFIXES, DataError, load_clips, read_video
from whatwhere.examples.common.program import RunConfig, UsageError, restore_run, set_threads, train_to_end
from whatwhere.examples.common.tracking_data import (
    GENERATED,
    Split,
    Targets,
    TargetVideos,
    TrackingDataConfig,
    groups_of,
    load_further_targets,
    load_targets,
    present,
    training_batches,
)
from whatwhere.inference.evaluation import Clips, TrackerReport, evaluate_tracker, write_json, write_tracks
from whatwhere.inference.pictures import (
    TrackedVideo,
    annotated_frames,
    iou_plot,
    save_gif,
    save_mp4,
    save_picture,
    success_plot,
    tracking_strips,
)
from whatwhere.inference.training import (
    Curriculum,
    PiecewiseConstant,
    Process,
    Trainer,
    TrainingConfig,
    TriggeredCurriculum,
    load_checkpoint,
    make_optimizer,
    select_device,
)
from whatwhere.models.components.inputs import require_first_boxes
from whatwhere.models.template_tracker import TemplateTracker

_CURRICULUM_BATCHES = 8
"""Training batches on which it is measured whether videos may become longer."""

Config = TypeVar("Config", bound="TrackerConfig")
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class TrackerConfig(RunConfig):
    """How a tracker is trained, whichever it is."""

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
        if not 1 <= self.first_frames <= self.frames:
            raise ValueError(f"`first_frames` must be in [1, {self.frames}], got {self.first_frames}")
        for name in ("batch_size", "stage_steps", "learning_rate", "monitor_videos"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")


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
    videos: int | None = None
    """Number of videos, the first ones; by default all."""
    frames: int | None = None
    """Frames of each; by default those of the training run's own evaluation, and all of a path's."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""
    threads: int | None = None
    """Threads of the CPU."""

    def __post_init__(self) -> None:
        for name in ("videos", "frames", "objects"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}")


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
    path = None if options.data in GENERATED else options.data
    if options.data is not None:
        source = replace(source, source=options.data, test_source=path, fold=None)
    videos = load_targets(source, 1, options.frames or config.test_frames or config.frames).test
    model = _for_frames(model, videos.image_shape, f"`{videos.name}`")
    folder = options.output or options.checkpoint.parent / "evaluation"
    frames = options.frames or (None if path is not None else config.test_frames)
    report_held_out(folder, model, videos, device, options.videos, frames, name, options.template)
    return 0


def _for_frames(model: Any, image_shape: tuple[int, int, int], name: str) -> Any:
    """The tracker for frames of another size than those it was trained on, where it can be.

    Raises:
        UsageError: if it cannot.
    """
    expected = tuple(model.image_shape)
    if image_shape == expected:
        return model
    if image_shape[0] == expected[0] and hasattr(model, "resized"):
        return model.resized(image_shape[1:])
    raise UsageError(
        f"{name} has frames of (channels, height, width) = {image_shape}, but the tracker was trained on "
        f"{expected}"
    )


def report_held_out(
    folder: Path,
    model: nn.Module,
    videos: TargetVideos,
    device: torch.device,
    count: int | None,
    frames: int | None,
    name: str,
    template: bool = False,
) -> None:
    """Track held-out videos; write and print numbers and pictures.

    Args:
        folder: where they are written.
        model: the tracker.
        videos: held-out ones.
        device: where the tracker is.
        count: number of videos; all by default.
        frames: of each; all by default.
        name: of the tracker, in plots.
        template: track with `TemplateTracker`, too.
    """
    model.eval()
    count = count or len(videos)
    others = {"template": track_clips(TemplateTracker(), videos, count, frames)} if template else {}
    write_report(folder, track_clips(model, videos, count, frames), name, others)
    write_strip(folder, model, videos, device, frames)


def track_clips(
    tracker: Any, videos: TargetVideos, count: int, frames: int | None = None, batch_size: int = 50
) -> TrackerReport:
    """Track the first `count` videos and compare with the truth."""
    return evaluate_tracker(tracker, _labelled(videos, count, frames, batch_size))


def _labelled(videos: TargetVideos, count: int, frames: int | None, batch_size: int) -> Iterator[Clips]:
    for batch in videos.clips(count, frames, batch_size):
        video, boxes, _, mask = Targets.of(batch, torch.device("cpu"))
        yield Clips(video, boxes, mask, batch.groups)


def write_report(
    folder: Path, report: TrackerReport, name: str, others: Mapping[str, TrackerReport] | None = None
) -> None:
    """Write `metrics.json` and the plots `iou.png` and `success.png`, and print the numbers that matter.

    Args:
        folder: where they are written.
        report: of the tracker.
        name: its name.
        others: reports of other trackers on the same videos, by name.
    """
    others = others or {}
    numbers = {**report.numbers(), **{other: each.numbers() for other, each in others.items()}}
    write_json(folder / "metrics.json", numbers)
    curves = {**report.curves(name), **{other: each.overlaps for other, each in others.items()}}
    save_picture(folder / "iou.png", iou_plot(curves))
    save_picture(folder / "success.png", success_plot(curves))
    print(report)
    for other, each in others.items():
        print(f"{other:<16} {each.iou:.3f}  (last frame {each.iou_last:.3f}, AUC {each.auc:.3f})")
    print(f"metrics:         {folder / 'metrics.json'}")
    print(f"pictures:        {folder / 'iou.png'}, {folder / 'success.png'}")


@torch.no_grad()
def write_strip(
    folder: Path, tracker: Any, videos: TargetVideos, device: torch.device, frames: int | None, count: int = 4
) -> None:
    """Draw the first videos, what was tracked in them, and what was seen, into `strip.png`."""
    shown = []
    for batch in videos.clips(count, frames, batch_size=1):
        video, boxes, _, mask = Targets.of(batch, device)
        tracks = tracker(video, boxes[:, 0])
        shown.append(described(video, tracks, boxes, mask))
    save_picture(folder / "strip.png", tracking_strips(shown))
    print(f"                 {folder / 'strip.png'}")


def described(
    video: Tensor, tracks: Any, truth: Tensor | None = None, present: Tensor | None = None
) -> TrackedVideo:
    """What there is to be shown of the first video of a batch.

    Args:
        video: `(B, T, C, H, W)`.
        tracks: with `boxes` and `glimpses`, and `attention` and `masks` where the tracker has them.
        truth: true boxes, `(B, T, 4)`.
        present: in which frames the target is there, `(B, T)`.
    """
    fields = {
        "video": video,
        "boxes": tracks.boxes,
        "truth": truth,
        "present": present,
        "glimpses": tracks.glimpses,
        "attention": getattr(tracks, "attention", None),
        "heat": getattr(tracks, "masks", None),
    }
    return TrackedVideo(**{name: value[0].cpu() for name, value in fields.items() if value is not None})


@dataclass(frozen=True)
class TrackConfig:
    """Follow one object through a video: boxes as CSV, and an annotated animation.

    A tracker's own configuration has the defaults of `checkpoint` and `video`.
    """

    checkpoint: Path
    """The checkpoint of a training run; by default that of the package."""
    video: Path
    """A video file, a folder of frames, an animated GIF, an `.npz` or an HDF5 file, see
    `whatwhere.datasets.load_clips`; by default an example that comes with the package. Of several videos, the
    first.
    """
    box: tuple[float, float, float, float] | None = None
    """Left, top, width and height of the object in the first frame, in pixels; by default the label of the
    file, where it has one.
    """
    output: Path = Path("tracks")
    """Folder for `tracks.csv` and the animation."""
    animation: Literal["gif", "mp4"] = "gif"
    """Format of the animation; `mp4` needs PyAV, `pip install whatwhere[video]`."""
    resize: bool = False
    """Resize frames to what the tracker was trained on, and make them grey where it was trained on grey. HART
    takes frames of any size without.
    """
    frames: int | None = None
    """Frames that are tracked, the first ones; by default all."""
    fps: float = 8.0
    """Frames per second of the animation."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""


@torch.no_grad()
def track_clip(options: TrackConfig, model: Any, device: torch.device, needs_box: bool) -> int:
    """Track one object of a user's video.

    Args:
        options: of the command.
        model: the tracker, on the device, in evaluation mode.
        device: where it is.
        needs_box: whether it must be told the first box.

    Raises:
        UsageError: if that box is missing, has no area, or is outside the frame.
    """
    any_size = hasattr(model, "resized")
    clip = open_clip(options.video, model.image_shape, options.resize, options.frames, options.box, any_size)
    channels, height, width = clip.video.shape[1:]
    model = _for_frames(model, (channels, height, width), f"`{options.video}`")
    if clip.first_box is None and needs_box:
        raise UsageError(f"`{options.video}` has no boxes: give that of the first frame, `--box L T W H`")
    box = None if clip.first_box is None else clip.first_box.to(device)[None]
    if box is not None:
        try:
            require_first_boxes(box, 1, model.image_size)
        except ValueError as error:
            raise UsageError(str(error)) from error
    tracks = model(clip.video.to(device)[None], box)
    known = {} if clip.truth is None else {"truth": clip.truth[None], "present": present(clip.truth)[None]}
    write_tracked(
        options.output, described(clip.video[None], tracks, **known), options.animation, options.fps
    )
    return 0


class UserClip(NamedTuple):
    """One video of a user's, to be tracked."""

    video: Tensor
    """`(T, C, H, W)`, uint8."""
    first_box: Tensor | None
    """Of the target in the first frame, `(4,)`; None where nobody told it."""
    truth: Tensor | None
    """True boxes `(T, 4)`, where the file has them; zeros where the target is not there."""


def open_clip(
    path: Path,
    image_shape: Sequence[int],
    resize: bool,
    frames: int | None,
    box: tuple[float, float, float, float] | None,
    any_size: bool = False,
) -> UserClip:
    """Read the first video of a file or folder as a tracker needs it.

    Args:
        path: see `whatwhere.datasets.load_clips`.
        image_shape: channels, height and width that the tracker was trained on.
        resize: resize frames to that; `box` is then still in pixels of the file.
        frames: most frames; all by default.
        box: of the target in the first frame; by default the label of slot 0.
        any_size: let frames have the size they have, unless `resize`, and convert colours.

    Raises:
        DataError: if the file cannot be read, or has another shape.
    """
    channels, height, width = image_shape
    data = load_clips(
        path,
        size=(height, width) if resize else None,
        channels=channels if resize or any_size else None,
    )
    if not any_size and data.shape[2:] != tuple(image_shape):
        raise DataError(
            f"`{path}` has frames of (channels, height, width) = {data.shape[2:]}, but the tracker was "
            f"trained on {tuple(image_shape)}; give `--resize` to fit them"
        )
    boxes = data.labels().get("boxes")
    truth = None if boxes is None else torch.from_numpy(boxes[0, :frames, 0])
    first = None if truth is None else truth[0]
    if box is not None:
        first = torch.tensor(box)
        if resize:
            old_height, old_width = _first_frame_size(path)
            first *= torch.tensor([width / old_width, height / old_height]).repeat(2)
    return UserClip(torch.from_numpy(data.video[0, :frames]), first, truth)


def _first_frame_size(path: Path) -> tuple[int, int]:
    """Height and width of what `load_clips` has just read; no other frame of a video file is decoded."""
    is_film = path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES
    height, width = (read_video(path, stop=1) if is_film else load_clips(path).video).shape[-2:]
    return height, width


def write_tracked(folder: Path, tracked: TrackedVideo, animation: Literal["gif", "mp4"], fps: float) -> None:
    """Write the boxes of one target as `tracks.csv`, and `tracks.gif` or `tracks.mp4`."""
    boxes = tracked.boxes.unsqueeze(1)
    there = torch.ones(boxes.shape[:2], dtype=torch.bool)
    write_tracks(folder / "tracks.csv", boxes, there, there.long())
    save = save_gif if animation == "gif" else save_mp4
    save(folder / f"tracks.{animation}", annotated_frames(tracked), fps)
    print(f"boxes:     {folder / 'tracks.csv'}")
    print(f"animation: {folder / f'tracks.{animation}'}")
