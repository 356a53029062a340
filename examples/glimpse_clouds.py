"""Glimpse Clouds from the command line: train, cross-validate, evaluate, look, export.

    whatwhere-glimpse-clouds train --preset relay --output runs/relay
    whatwhere-glimpse-clouds evaluate --checkpoint runs/relay/checkpoint.pt
    whatwhere-glimpse-clouds cross-validate --preset weizmann --data.source weizmann:FOLDER
    whatwhere-glimpse-clouds look --checkpoint runs/relay/checkpoint.pt --video clip.mp4

Also `python -m whatwhere.examples.glimpse_clouds`, and with several processes
`torchrun --nproc-per-node 2 -m whatwhere.examples.glimpse_clouds train ...`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from whatwhere import checks
from whatwhere.datasets import ActionBatch, DataError, Frames, open_frames
from whatwhere.examples.common.program import (
    Command,
    ExportConfig,
    UsageError,
    begin_run,
    export,
    restore_run,
    run_program,
    set_threads,
    train_to_end,
    usage_errors,
)
from whatwhere.examples.common.sources import with_image_shape
from whatwhere.examples.parts.action_data import (
    ActionSplit,
    RelayClips,
    load_actions,
    training_clips,
    training_things,
)
from whatwhere.examples.parts.glimpse_clouds_config import (
    PRESETS,
    GlimpseCloudsConfig,
    StageConfig,
    build,
)
from whatwhere.examples.parts.glimpse_clouds_report import (
    looks,
    measure,
    print_report,
    read_report,
    report_held_out,
)
from whatwhere.examples.parts.silhouette_floor import held_out_floor, neighbours_right
from whatwhere.files import atomic_path
from whatwhere.inference.evaluation import ActionReport, write_json
from whatwhere.inference.pictures import cloud_pages, save_gif, save_mp4
from whatwhere.inference.supervised import GlanceObjective, GlimpseCloudsObjective, ReadingObjective
from whatwhere.inference.training import (
    CheckpointError,
    Constant,
    Cosine,
    Process,
    Stage,
    Trainer,
    TrainingConfig,
    check_device,
    hash_seed,
    join_processes,
    load_checkpoint,
    make_optimizer,
    positional_field,
    run_stages,
    select_device,
)
from whatwhere.models import GlimpseClouds
from whatwhere.models.components.inflated_resnet import inflated

_THINGS = 20  # digits, marked or not
_LINES = 10  # in which a stage before the main one says how far it is


@dataclass(frozen=True)
class Training:
    """The stages of a run, which share its model."""

    config: GlimpseCloudsConfig
    """With what is known of the videos."""
    model: GlimpseClouds
    """On the device."""
    data: ActionSplit
    """The videos."""
    process: Process
    """This process's place among several."""

    def stages(self) -> list[Stage]:
        """Those before the main one that have steps, in their order."""
        every: tuple[tuple[str, StageConfig, Callable[..., Trainer]], ...] = (
            ("reading", self.config.reading, self.reading),
            ("glance", self.config.glance, self.glance),
        )
        return [Stage(name, partial(make, name, of)) for name, of, make in every if of.steps]

    def reading(self, name: str, options: StageConfig) -> Trainer:
        """What is read of a glimpse learns to name single things."""
        size = self.config.network.size
        objective = ReadingObjective(self.model, size, _THINGS).to(self.process.device)
        videos = self.data.train
        assert isinstance(videos, RelayClips)
        batches = training_things(videos, options.batch_size, self._seed(name), self.process)
        parts = (self.model.read, objective.readout)
        held_out = self.data.test
        assert isinstance(held_out, RelayClips)
        count, alone = min(self.config.monitor_videos, len(held_out)), Process(self.process.device)
        things = training_things(held_out, count, 0, alone)

        def evaluate(step: int) -> dict[str, float]:
            return {"accuracy": float(objective(*things(0))[1].accuracy)}

        modules: dict[str, nn.Module] = {"model": self.model, "readout": objective.readout}
        return self._trainer(name, options, objective, batches, parts, evaluate, modules)

    def glance(self, name: str, options: StageConfig) -> Trainer:
        """The maps learn by the global path and by joints."""
        model = self.model
        objective = GlanceObjective(model, options.pose)
        batches = self._clips(options.batch_size, self._seed(name))
        parts = [model.features, model.context, model.overview, *([model.pose] if model.pose else [])]

        def evaluate(step: int) -> dict[str, float]:
            return {"overview_accuracy": self._watched(glimpses=False).overview_accuracy}

        return self._trainer(name, options, objective, batches, parts, evaluate)

    def main(self) -> Trainer:
        """Workers learn, or the global path alone."""
        config, model, weights = self.config, self.model, self.config.loss
        if config.objective == "glance":
            objective: nn.Module = GlanceObjective(model, weights.pose)
        else:
            names = ("pose", "attraction", "diversity", "overview")
            objective = GlimpseCloudsObjective(model, {name: getattr(weights, name) for name in names})
        if config.frozen:
            model.freeze_sight()
        parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        training = self._begin("training", config.training.steps, config.batch_size)

        def evaluate(step: int) -> dict[str, float]:
            report = self._watched(config.objective == "clouds")
            return {"accuracy": report.accuracy, "overview_accuracy": report.overview_accuracy}

        return Trainer(
            objective,
            make_optimizer("adam", parameters, config.learning_rate),
            self._clips(config.batch_size, config.training.seed),
            training,
            folder=config.output,
            configuration=config,
            schedule=Cosine(training.steps) if config.fall else Constant(1.0),
            evaluate=evaluate,
            modules={"model": model},
            process=self.process,
            find_unused_parameters=True,
            data=self.data.records(config.data.source),
            accept_changed_data=config.accept_changed_data,
        )

    def _watched(self, glimpses: bool) -> ActionReport:
        """The held-out videos that are looked at during training."""
        count = self.config.monitor_videos
        return measure(self.model, self.data.test, self.process.device, 1, glimpses, count)

    def report(self, complete: bool) -> None:
        """Evaluate on held-out videos, and write whether training was at its end."""
        config = self.config
        report_held_out(
            config.output,
            self.model,
            self.data.test,
            config.network.names,
            self.process.device,
            config.samples,
            config.objective == "clouds",
            floor=held_out_floor(config.data),
            training=_asked(config) if complete else None,
        )

    def _begin(self, name: str, steps: int, batch_size: int, **others: Any) -> TrainingConfig:
        """Say that a stage begins; how it is trained: its share of the minutes is that of the videos seen."""
        config = self.config
        before = sum(stage.steps * stage.batch_size for stage in (config.reading, config.glance))
        share = steps * batch_size / (before + config.training.steps * config.batch_size)
        training = replace(config.training.part(share), steps=steps, **others)
        if self.process.is_main:
            long = f"{steps} steps" if training.minutes is None else f"{round(training.minutes, 2):g} min"
            print(f"{name}: {long}", flush=True)
        return training

    def _seed(self, name: str) -> int:
        return hash_seed(self.config.training.seed, name)

    def _clips(self, batch_size: int, seed: int) -> Callable[[int], ActionBatch]:
        return training_clips(self.data.train, batch_size, seed, self.process)

    def _trainer(
        self,
        name: str,
        options: StageConfig,
        objective: nn.Module,
        batches: Callable[[int], tuple[Any, ...]],
        parts: Sequence[nn.Module],
        evaluate: Callable[[int], dict[str, float]],
        modules: dict[str, nn.Module] | None = None,
    ) -> Trainer:
        steps, seed = options.steps, self._seed(name)
        every = max(1, steps // _LINES)
        training = self._begin(name, steps, options.batch_size, seed=seed, evaluate_every=every)
        parameters = [parameter for part in parts for parameter in part.parameters()]
        return Trainer(
            objective,
            make_optimizer("adam", parameters, options.learning_rate),
            batches,
            training,
            folder=self.config.output / "stages" / name,
            configuration=self.config,
            schedule=Cosine(steps),
            evaluate=evaluate,
            modules=modules or {"model": self.model},
            process=self.process,
            find_unused_parameters=True,
            data=self.data.records(self.config.data.source),
            accept_changed_data=self.config.accept_changed_data,
        )


def prepare(config: GlimpseCloudsConfig, process: Process) -> Training:
    """Make all that a training run needs."""
    with usage_errors():
        data = load_actions(config.data)
    shape = data.train.clip_shape[1:]
    config = with_image_shape(config, shape, data.test.clip_shape[1:])
    network = config.network
    if network.names and network.names != data.names:
        raise DataError(
            f"`{config.data.source}` has classes {data.names}, `network.names` is {network.names}"
        )
    network = replace(network, names=data.names, pose=network.pose or data.joints)
    config = replace(config, network=network)
    torch.manual_seed(config.training.seed)
    with usage_errors():
        model = build(network)
    if config.initial is not None:
        load_picture_weights(model, config.initial)
    return Training(config, model.to(process.device), data, process)


def load_picture_weights(model: GlimpseClouds, path: Path) -> None:
    """Start the maps from weights of a ResNet for pictures.

    Raises:
        DataError: if the file cannot be read, or holds other weights.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        model.features.load_state_dict(inflated(weights, model.features.state_dict()))
    except Exception as error:  # whatever unpickling raises
        raise DataError(f"`{path}` does not hold the weights of a ResNet-50 for pictures: {error}") from error


def train(config: GlimpseCloudsConfig, process: Process) -> int:
    """Train, evaluate on held-out videos, and write everything into `config.output`."""
    begin_run(config, process)
    run = prepare(config, process)
    announce = partial(print, flush=True) if process.is_main else lambda line: None
    announce(run.data.summary)
    if stages := run.stages():
        result = run_stages(stages, config.resume, announce)
        if result.reason != "completed":
            return result.exit_code
    trainer = run.main()
    return train_to_end(trainer, config.resume, process, lambda: run.report(trainer.complete))


def _asked(config: GlimpseCloudsConfig) -> dict[str, Any]:
    """What a resumed run may have otherwise, so that its numbers would be others."""
    training = config.training
    return {
        "steps": training.steps,
        "minutes": training.minutes,
        "clock": training.clock,
        "samples": config.samples,
    }


def run_training(config: GlimpseCloudsConfig) -> int:
    """Train in this process, or with the others that `torchrun` has started."""
    with join_processes(config.device) as process:
        return train(config, process)


def restore(path: Path, device: torch.device) -> tuple[GlimpseCloudsConfig, GlimpseClouds]:
    """Rebuild the configuration and the model of a checkpoint."""
    config, modules = restore_run(
        path,
        device,
        GlimpseCloudsConfig,
        "Glimpse Clouds",
        lambda config: {"model": build(config.network)},
        subset=True,
    )
    return config, modules["model"]


def cross_validate(config: GlimpseCloudsConfig) -> int:
    """Train and evaluate once for each person or camera, who is held out, and put the numbers together.

    Folds that are complete are kept, and one that was interrupted goes on, when it is called again.
    """
    folds = {"weizmann": range(9), "nucla": range(1, 4)}.get(config.data.source.partition(":")[0])
    if folds is None:
        raise UsageError("`data.source` must be weizmann:FOLDER or nucla:FOLDER, whose folds are known")
    device = select_device(config.device)
    reports = []
    for number in folds:
        fold = replace(
            config,
            output=config.output / f"fold-{number}",
            resume=True,
            data=replace(config.data, fold=number),
        )
        path, report = fold.output / "checkpoint.pt", read_report(fold.output, _asked(fold))
        if report is None:
            complete = path.exists() and load_checkpoint(path).step >= fold.training.steps
            if not complete and (code := run_training(fold)):
                return code
            report = read_report(fold.output, _asked(fold))
        if report is None:  # evaluated otherwise, or out of time
            _, model = restore(path, device)
            test = load_actions(fold.data).test
            report = measure(model, test, device, fold.samples, fold.objective == "clouds")
        reports.append(report)
    report = ActionReport.joined(reports)
    right = neighbours_right(config.data)
    floor = None if right is None else float(right.double().mean())
    more = {"folds": [each.accuracy for each in reports], "nearest_neighbour": floor}
    write_json(config.output / "metrics.json", report.numbers() | more)
    print_report(report, config.objective == "clouds", floor)
    return 0


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate a trained model on held-out videos."""

    checkpoint: Path
    """The checkpoint of a training run."""
    output: Path | None = None
    """Folder for `metrics.json` and the picture; by default `evaluation` beside the checkpoint."""
    source: str | None = None
    """Where the videos are now, as `data.source`; by default where they were in training."""
    videos: int | None = None
    """Number of videos, the first ones; by default all."""
    samples: int | None = None
    """Clips of each video whose answers are averaged; by default as in training."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""
    threads: int | None = None
    """Threads of the CPU."""

    def __post_init__(self) -> None:
        check_device(self.device)
        checks.positive(self, "videos", "samples", "threads")


def evaluate(options: EvaluateConfig) -> int:
    """Evaluate a checkpoint."""
    set_threads(options.threads)
    device = select_device(options.device)
    config, model = restore(options.checkpoint, device)
    source = config.data if options.source is None else replace(config.data, source=options.source)
    with usage_errors():
        data = load_actions(source)
    if options.source is None:
        load_checkpoint(options.checkpoint).require_data(data.records(source.source))
    if data.names != config.network.names or data.test.clip_shape[1:] != tuple(model.image_shape):
        raise DataError(f"`{source.source}` has other classes or frames than the model was trained on")
    report_held_out(
        options.output or options.checkpoint.parent / "evaluation",
        model,
        data.test,
        data.names,
        device,
        options.samples or config.samples,
        config.objective == "clouds",
        options.videos,
        held_out_floor(source),
    )
    return 0


@dataclass(frozen=True)
class LookConfig:
    """Show where a model looks in a video of yours, and what it takes it for."""

    checkpoint: Path
    """The checkpoint of a training run."""
    video: Path = positional_field()
    """A video file, a folder of frames, an animated GIF, an `.npz` or an HDF5 file, see
    `whatwhere.datasets.load_clips`. Frames are resized to those that the model was trained on.
    """
    number: int = 0
    """Which of several videos."""
    output: Path = Path("looks")
    """Folder for `votes.csv`, with the probability of each class, and the animation."""
    clips: int = 1
    """Parts of equal length of the video, of each of which it is told what goes on; a clip has as many frames
    as in training, evenly spread.
    """
    animation: Literal["gif", "mp4"] = "gif"
    """Format of the animation; `mp4` needs PyAV, `pip install whatwhere[video]`."""
    fps: float = 2.0
    """Frames per second of the animation."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""

    def __post_init__(self) -> None:
        check_device(self.device)
        checks.positive(self, "clips")
        checks.not_negative(self, "number")
        checks.within("[0.1, 50]" if self.animation == "gif" else "[0.1, 1000]", self, "fps")


def look(options: LookConfig) -> int:
    """Look at a user's video."""
    device = select_device(options.device)
    config, model = restore(options.checkpoint, device)
    if config.objective == "glance" or model.locator.needs_joints:
        raise CheckpointError(f"`{options.checkpoint}` is of a model that does not find places to look at")
    channels, height, width = model.image_shape
    frames = open_frames(options.video, video=options.number, size=(height, width), channels=channels)
    numbers = chosen_frames(_length(frames), options.clips, config.data.frames)
    save = save_gif if options.animation == "gif" else save_mp4
    film, table = options.output / f"looks.{options.animation}", options.output / "votes.csv"
    rows: list[list[str]] = []
    pages = _pages(model, config.network.names, _read(frames, numbers), numbers, device, rows)
    save(film, pages, options.fps)
    with atomic_path(table) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["first_frame", "last_frame", *config.network.names], *rows])
    print(f"votes:     {table}")
    print(f"animation: {film}")
    return 0


def chosen_frames(length: int, clips: int, frames: int) -> np.ndarray:
    """Numbers of the frames of each clip `(clips, frames)`: the middles of equal parts of a video.

    Raises:
        UsageError: if there are more clips than frames.
    """
    if clips > length:
        raise UsageError(f"`clips` must be at most the number of frames, {length}, got {clips}")
    edges = np.arange(clips + 1) * length // clips
    middles = (np.arange(frames) + 0.5) / frames
    spread = edges[:-1, None] + np.diff(edges)[:, None] * middles
    return np.floor(spread).astype(np.int64)


def _length(frames: Frames) -> int:
    return sum(1 for _ in frames) if frames.length is None else frames.length


def _read(frames: Frames, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """The frames of each clip `(T, C, H, W)`, read in one pass."""
    kept: dict[int, np.ndarray] = {}
    reader = enumerate(frames)
    for clip in numbers:
        kept = {number: frame for number, frame in kept.items() if number >= clip[0]}
        wanted = set(clip.tolist())
        while wanted - set(kept):
            number, frame = next(reader)
            if number in wanted:
                kept[number] = np.asarray(frame)
        yield np.stack([kept[number] for number in clip.tolist()])


def _pages(
    model: GlimpseClouds,
    names: tuple[str, ...],
    clips: Iterator[np.ndarray],
    numbers: np.ndarray,
    device: torch.device,
    rows: list[list[str]],
) -> Iterator[Image.Image]:
    """The pages of an animation; each clip's answer is added to `rows` before its pages are drawn."""
    for clip, which in zip(clips, numbers.tolist(), strict=True):
        video = torch.from_numpy(clip).to(device)[None].float() / 255
        batch = ActionBatch(video, torch.zeros(1, dtype=torch.int64))
        (seen,) = looks(model, batch, names, known=False)
        shares = seen.opinions[-1].tolist()
        rows.append([str(which[0]), str(which[-1]), *(f"{share:.4f}" for share in shares)])
        best = int(np.argmax(shares))
        print(f"frames {which[0]} to {which[-1]}: {names[best]} ({shares[best]:.1%})")
        yield from cloud_pages(seen, numbers=which)


COMMANDS = {
    "train": Command(GlimpseCloudsConfig, run_training, PRESETS),
    "cross-validate": Command(
        GlimpseCloudsConfig,
        cross_validate,
        PRESETS,
        "Train leaving out one person or camera after another, evaluating on that one.",
    ),
    "evaluate": Command(EvaluateConfig, evaluate),
    "look": Command(LookConfig, look),
    "export": Command(ExportConfig, partial(export, restore=restore)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command."""
    return run_program("whatwhere-glimpse-clouds", __doc__ or "", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
