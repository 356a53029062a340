"""The classifier whose features, or whose opinion, RATM is trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor

from whatwhere import checks
from whatwhere.datasets import (
    BatchSchedule,
    ClipWindows,
    DataError,
    PatchBatch,
    TargetPatches,
    load_digits,
    load_folder,
)
from whatwhere.datasets.streams import stream
from whatwhere.examples.common.program import RunConfig, begin_run, restore_run
from whatwhere.examples.common.tracking_data import TrackingDataConfig, load_targets
from whatwhere.inference.supervised import ClassifierObjective
from whatwhere.inference.training import (
    Checkpoint,
    CheckpointError,
    Process,
    Trainer,
    TrainingConfig,
    join_processes,
    load_checkpoint,
    make_optimizer,
    runtime_field,
    save_checkpoint,
    to_primitives,
)
from whatwhere.models.components.feature_extractors import (
    GlimpseClassifier,
    digit_classifier,
    human_classifier,
    load_released_human_weights,
)
from whatwhere.models.components.gaussian_read import RATM_EPSILON, gaussian_read
from whatwhere.models.components.gaussian_windows import boxes_to_window, smooth_knee_sigma


@dataclass(frozen=True)
class ClassifierConfig(RunConfig):
    """Train the classifier whose features, or whose opinion, a tracker is trained with."""

    MOST_USED: ClassVar[tuple[str, ...]] = (
        "output",
        "resume",
        "overwrite",
        "kind",
        "source",
        "released",
        "training.steps",
        "training.seed",
        "device",
    )

    output: Path = runtime_field(Path("runs/ratm-classifier"))
    """Folder for the log and the checkpoints; `best.pt` is the one of greatest accuracy."""
    kind: Literal["digits", "people"] = "digits"
    """Ten digits, or background and people."""
    source: str = "mnist"
    """Of digits, `mnist` or `glyphs`. Of people, a folder with pictures in its sub-folders `background` and
    `person`, or a file of videos with boxes, as for training.
    """
    fold: int | None = None
    """The group of videos that is left out: the one that the tracker will be tested on."""
    released: Path | None = None
    """Take the weights that RATM's authors have published, `human_convnet_val_best.h5`, and do not train."""
    glimpse_size: int = 28
    """Side of the pictures."""
    batch_size: int = 128
    """Pictures in a step."""
    learning_rate: float = 0.01
    """Of gradient descent with momentum."""
    momentum: float = 0.9
    """Its momentum."""
    validation: int = 5_000
    """Greatest number of pictures, of those that are not trained on, by which the best parameters are
    chosen; at most a tenth of all.
    """
    training: TrainingConfig = TrainingConfig(steps=4_000, evaluate_every=250, clip_norm=5.0)
    """The training loop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive(self, "glimpse_size", "batch_size", "learning_rate", "validation")
        checks.within("[0, 1)", self, "momentum")
        checks.not_negative(self, "fold")
        if self.released is not None and self.kind != "people":
            raise ValueError("`released` are weights for people, not for digits")
        if self.released is None and self.training.evaluate_every is None:
            raise ValueError("`training.evaluate_every` must be given: the best parameters are chosen by it")


CLASSIFIERS = {
    "digits": ClassifierConfig(output=Path("runs/ratm-digit-classifier"), threads=1),
    "people": ClassifierConfig(
        output=Path("runs/ratm-people-classifier"),
        kind="people",
        source="people",
        batch_size=64,
        training=TrainingConfig(steps=10_000, evaluate_every=500, clip_norm=1.0),
    ),
}


class Pictures(NamedTuple):
    """Pictures to train a classifier on: a batch for each step, and some to choose the best parameters by."""

    batch: Callable[[int], tuple[Tensor, Tensor]]
    """Images `(B, C, h, w)` in [0, 1] and classes `(B,)`, as a function of the step."""
    held_out: tuple[Tensor, Tensor]
    """The same of the others."""


def load_pictures(config: ClassifierConfig) -> Pictures:
    """The pictures of a configuration.

    Raises:
        DataError: if they cannot be read.
    """
    size, seed = (config.glimpse_size, config.glimpse_size), config.training.seed
    path = Path(config.source)
    if config.kind == "digits":
        if config.source not in ("mnist", "glyphs") or config.glimpse_size != 28:
            raise DataError("digits are `mnist` or `glyphs`, of 28 pixels")
        digits = load_digits("mnist" if config.source == "mnist" else "glyphs", "train")
        images, classes = digits.images[:, None], digits.labels.astype(np.int64)
    elif path.is_dir() and (path / "person").is_dir():
        parts = [
            load_folder(path / name, size=size, grey=True).data.video[:, 0]
            for name in ("background", "person")
        ]
        images = np.concatenate(parts)
        classes = np.repeat([0, 1], [len(part) for part in parts])
    else:
        return _pictures_of_videos(config, size)
    order = stream("pictures", seed, 0).permutation(len(images))
    kept = len(images) - min(config.validation, len(images) // 10)
    train, held_out = order[:kept], order[kept:]
    schedule = BatchSchedule(len(train), min(config.batch_size, len(train)), seed)

    def of(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(images[rows]).float() / 255, torch.from_numpy(classes[rows])

    return Pictures(lambda step: of(train[schedule.indices(step).numpy()]), of(held_out))


def _pictures_of_videos(config: ClassifierConfig, size: tuple[int, int]) -> Pictures:
    videos = load_targets(TrackingDataConfig(source=config.source, fold=config.fold), 1, 1)
    source = videos.train.source
    if not isinstance(source, ClipWindows):
        raise DataError(f"`{config.source}` shows no people")
    others = videos.test if videos.validation is None else videos.validation
    seed = config.training.seed

    def of(places: PatchBatch) -> tuple[Tensor, Tensor]:
        window = boxes_to_window(places.boxes, size, smooth_knee_sigma)
        return gaussian_read(places.frames, window, size, RATM_EPSILON), places.labels

    patches, held_out = (TargetPatches(source, part.rows) for part in (videos.train, others))
    return Pictures(
        lambda step: of(patches.batch(config.batch_size, stream("pictures", seed, step))),
        of(held_out.batch(config.validation, stream("held-out pictures", seed, 0))),
    )


def make_classifier(
    kind: Literal["digits", "people"], glimpse_shape: tuple[int, int, int]
) -> GlimpseClassifier:
    """The network for pictures of a kind."""
    return (digit_classifier if kind == "digits" else human_classifier)(glimpse_shape)


def pretrain(config: ClassifierConfig) -> int:
    """Train a classifier."""
    with join_processes(config.device) as process:
        begin_run(config, process)
        return _pretrain(config, process)


def _pretrain(config: ClassifierConfig, process: Process) -> int:
    torch.manual_seed(config.training.seed)
    classifier = make_classifier(config.kind, (1, config.glimpse_size, config.glimpse_size))
    if config.released is not None:
        load_released(classifier, config.released)
        state = {"classifier": classifier.state_dict()}
        save_checkpoint(config.output / "best.pt", Checkpoint(0, state, configuration=to_primitives(config)))
        print(f"classifier: {config.output / 'best.pt'}")
        return 0
    pictures = load_pictures(config)
    objective = ClassifierObjective(classifier).to(process.device)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        images, classes = pictures.batch(step)
        return images.to(process.device), classes.to(process.device)

    def evaluate(step: int) -> dict[str, float]:
        right = [
            (classifier(images.to(process.device)).argmax(dim=-1).cpu() == classes).float()
            for images, classes in zip(*(part.split(500) for part in pictures.held_out), strict=True)
        ]
        return {"accuracy": torch.cat(right).mean().item()}

    trainer = Trainer(
        objective,
        make_optimizer("sgd", classifier.parameters(), config.learning_rate, momentum=config.momentum),
        batches,
        config.training,
        folder=config.output,
        configuration=config,
        evaluate=evaluate,
        modules={"classifier": classifier},
        process=process,
        keep_best="accuracy",
    )
    if config.resume:
        trainer.resume_existing()
    result = trainer.run()
    if process.is_main:
        print(result.message)
        path = config.output / "best.pt"
        if result.reason != "completed" and not path.exists():
            print("classifier: none before the first evaluation, see `--training.evaluate-every`")
            return result.exit_code
        best = load_checkpoint(path)
        print(f"classifier: {best.path}, {best.metrics['accuracy']:.2%} right after step {best.step}")
    return result.exit_code


def load_released(classifier: GlimpseClassifier, path: Path) -> None:
    """Load the file of weights that RATM's authors have published.

    Raises:
        DataError: if it is another file.
    """
    try:
        with h5py.File(path) as file:
            arrays = {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}
        load_released_human_weights(classifier, arrays)
    except (OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"`{path}` does not hold the weights of `human_convnet_val_best.h5`: {error}"
        ) from error


def restore_classifier(path: Path) -> GlimpseClassifier:
    """The classifier of a checkpoint of `pretrain`."""
    if not path.exists():
        raise CheckpointError(
            f"`classifier` {path} does not exist: make it with "
            f"`whatwhere-ratm pretrain --output {path.parent}`"
        )

    def build_classifier(config: ClassifierConfig) -> dict[str, GlimpseClassifier]:
        glimpse_shape = (1, config.glimpse_size, config.glimpse_size)
        return {"classifier": make_classifier(config.kind, glimpse_shape)}

    cpu = torch.device("cpu")
    _, modules = restore_run(path, cpu, ClassifierConfig, "a classifier", build_classifier)
    classifier: GlimpseClassifier = modules["classifier"]
    return classifier
