"""RATM from the command line: pretrain, train, cross-validate, evaluate, track.

    whatwhere-ratm track
    whatwhere-ratm train --preset balls --output runs/ratm-balls
    whatwhere-ratm pretrain --preset digits --output runs/ratm-digit-classifier
    whatwhere-ratm train --preset digit --output runs/ratm-digit
    whatwhere-ratm evaluate --checkpoint runs/ratm-balls/checkpoint.pt --frames 300
    whatwhere-ratm cross-validate --preset weizmann --data.source weizmann.h5

Also `python -m whatwhere.examples.ratm`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor

from whatwhere.datasets import (
    BatchSchedule,
    BouncingBallsRecipe,
    ClipWindows,
    DataError,
    PatchBatch,
    TargetPatches,
    load_digits,
    load_folder,
)
from whatwhere.datasets.streams import stream
from whatwhere.examples.common.program import (
    Command,
    ExportConfig,
    RunConfig,
    UsageError,
    export,
    restore_run,
    run_program,
    set_threads,
)
from whatwhere.examples.common.tracking import (
    EvaluateConfig,
    TrackConfig,
    TrackerConfig,
    cross_validate,
    evaluate_checkpoint,
    load_data,
    restore_tracker,
    track_clip,
    train_tracker,
)
from whatwhere.examples.common.tracking_data import GENERATED, TrackingDataConfig, load_targets
from whatwhere.inference.supervised import (
    ClassificationLoss,
    ClassifierObjective,
    FeatureLoss,
    FrameLoss,
    LocalisationLoss,
    PixelLoss,
    SupervisedObjective,
    WeightDecay,
)
from whatwhere.inference.training import (
    Checkpoint,
    CheckpointError,
    Process,
    Trainer,
    TrainingConfig,
    join_processes,
    keep_freed_memory,
    load_checkpoint,
    make_optimizer,
    runtime_field,
    save_checkpoint,
    select_device,
    to_primitives,
)
from whatwhere.models.components.feature_extractors import (
    ConvPoolFeatures,
    Frozen,
    GlimpseClassifier,
    PixelFeatures,
    digit_classifier,
    digit_features,
    human_classifier,
    human_features,
    load_released_human_weights,
)
from whatwhere.models.components.gaussian_read import (
    RATM_EPSILON,
    boxes_to_window,
    gaussian_read,
    smooth_knee_sigma,
)
from whatwhere.models.components.recurrent import GRU, IRNN
from whatwhere.models.ratm import (
    RATM,
    AbsoluteAttention,
    BoxStart,
    FrameShareStart,
    KTHWindows,
    LearnedStart,
    PaperWindows,
    ResidualAttention,
    random_box,
)

PRETRAINED = Path(__file__).parent / "pretrained" / "ratm-balls.pt"
"""A checkpoint that comes with the package; how it was made and how good it is stands beside it."""
EXAMPLE = Path(__file__).parent / "pretrained" / "balls.h5"
"""A held-out video for it."""

LOSSES = ("pixel", "feature", "classification", "localisation")
"""The names of the losses, in the order in which they are added up."""


@dataclass(frozen=True)
class NetworkConfig:
    """The three parts of RATM and their sizes."""

    image_shape: tuple[int, int, int] | None = None
    """Channels, height and width of a frame; by default those of the training videos."""
    glimpse_size: int = 5
    """Side of the glimpse, in samples."""
    attention: Literal["absolute", "residual"] = "absolute"
    """The next window from the state alone, or from the window before."""
    start: Literal["random", "frame", "share", "box"] = "random"
    """The first window: learned, from a random box or from the whole frame; 0.8 of the frame about the middle
    of the first box; or around the first box.
    """
    windows: Literal["paper", "kth"] = "paper"
    """What the parameters of a window mean: as in the paper, or as in the authors' program for KTH."""
    enlargement: float = 1.5
    """Side of the window over that of the box, for `windows` = `kth`."""
    bounded: bool = False
    """Keep windows of `windows` = `paper` within the frame."""
    released_quirks: bool = False
    """Round strides and shift the grid as that program does."""
    features: Literal["pixels", "digits", "people"] = "pixels"
    """What the recurrent cell sees of a glimpse: its pixels, or features of a classifier, frozen."""
    cell: Literal["irnn", "gru"] = "irnn"
    """The recurrent cell: the paper's rectified one, or a gated one, whose state is bounded."""
    hidden: int = 64
    """Units of the recurrent cell."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts of the objective; those with weight 0 are left out."""

    pixel: float = 0.0
    """Squared difference of the glimpse's pixels from those it should show."""
    patch: Literal["box", "pixels", "truth"] = "truth"
    """What it should show: a ball that fills the window's box; a ball at the pitch of the image's pixels, as
    in the paper, of which the window spans 4 / 4.8; or what is in the window around the true box.
    """
    feature: float = 0.0
    """Squared difference of the classifier's embedding from that of the window around the true box."""
    classification: float = 0.0
    """Squared difference of the classifier's probabilities from the true class."""
    localisation: float = 0.0
    """Squared distance of the middles, in sides of the frame."""
    frames: Literal["all", "last"] = "all"
    """Frames that count."""
    divide_by_length: bool = False
    """Divide by the number of frames once more, as the authors' program for KTH."""
    decay: float = 0.0
    """Factor of the mean squared weights of the cell's input and of the attention."""
    classifier: Path | None = None
    """Checkpoint of `pretrain`, for `feature`, `classification` and `network.features`."""


@dataclass(frozen=True)
class RATMConfig(TrackerConfig):
    """Train RATM to follow one object through videos, and evaluate it on held-out ones."""

    output: Path = runtime_field(Path("runs/ratm"))
    """Folder for the log, the checkpoints, the metrics and the pictures."""
    first_frames: int = 32
    """Greatest number of frames of a training video at the start."""
    frames: int = 32
    """The same at the end."""
    optimizer: Literal["sgd", "adam", "rmsprop"] = "sgd"
    """`sgd` is the authors'; `rmsprop` is that of TensorFlow."""
    learning_rate: float = 0.01
    """Learning rate at the start."""
    classifier: Path | None = None
    """Checkpoint of `pretrain`: what the losses of features and classes, and features other than pixels, are
    made of. In `cross-validate`, `{fold}` stands for the number of the group that is held out.
    """
    network: NetworkConfig = NetworkConfig()
    """The tracker."""
    loss: LossConfig = LossConfig(pixel=1.0, patch="box")
    """The objective."""
    training: TrainingConfig = TrainingConfig(steps=1_250_000, evaluate_every=5_000, clip_norm=1.0)
    """The training loop."""


_BALLS = RATMConfig(
    output=Path("runs/ratm-balls"),
    threads=1,
    batch_size=64,
    optimizer="adam",
    learning_rate=1e-3,
    decay_parts=(6, 2, 2),
    training=TrainingConfig(steps=3_000, evaluate_every=500, clip_norm=1.0),
)
_DIGIT = RATMConfig(
    output=Path("runs/ratm-digit"),
    threads=1,
    batch_size=32,
    first_frames=10,
    frames=10,
    test_frames=30,
    optimizer="adam",
    learning_rate=1e-3,
    decay_parts=(6, 2, 2),
    data=TrackingDataConfig(source="digits"),
    network=NetworkConfig(glimpse_size=28, start="frame", bounded=True, cell="gru", hidden=100),
    loss=LossConfig(pixel=1.0, localisation=10.0),
    training=TrainingConfig(steps=3_000, evaluate_every=500, clip_norm=1.0),
)
_DIGIT_PAPER = replace(
    _DIGIT,
    output=Path("runs/ratm-digit-paper"),
    optimizer="sgd",
    momentum=0.9,
    decay_parts=(1,),
    classifier=Path("runs/ratm-digit-classifier/best.pt"),
    network=NetworkConfig(glimpse_size=28, start="frame", hidden=100),
    loss=LossConfig(classification=1.0, localisation=1.0),
    training=replace(_DIGIT.training, steps=32_000),
)
_DIGITS = TrackingDataConfig(source="digits", objects=2, motion="billiard", test_videos=5_000)
PRESETS = {
    "balls": _BALLS,
    # The rectified cell was lost for good in two of three runs: nothing but the last frame keeps it from
    # leaving the image.
    "balls-last": replace(
        _BALLS,
        output=Path("runs/ratm-balls-last"),
        network=NetworkConfig(bounded=True, cell="gru"),
        loss=replace(_BALLS.loss, frames="last"),
        training=replace(_BALLS.training, steps=2_000),
    ),
    "balls-paper": RATMConfig(
        output=Path("runs/ratm-balls-paper"), loss=LossConfig(pixel=1.0, patch="pixels")
    ),
    "digit": _DIGIT,
    "digits": replace(
        _DIGIT,
        output=Path("runs/ratm-digits"),
        data=_DIGITS,
        network=replace(_DIGIT.network, start="share"),
    ),
    "digit-paper": _DIGIT_PAPER,
    "digits-paper": replace(
        _DIGIT_PAPER,
        output=Path("runs/ratm-digits-paper"),
        data=_DIGITS,
        network=replace(_DIGIT_PAPER.network, start="share"),
    ),
    "clutter": RATMConfig(
        output=Path("runs/ratm-clutter"),
        threads=1,
        first_frames=5,
        frames=15,
        stage_steps=40,
        test_frames=30,
        optimizer="adam",
        learning_rate=1e-3,
        decay_parts=(6, 2, 2),
        data=TrackingDataConfig(source="clutter", difficulty=0.3),
        network=NetworkConfig(glimpse_size=28, start="box", bounded=True, cell="gru", hidden=100),
        loss=LossConfig(pixel=1.0, localisation=10.0),
        training=TrainingConfig(steps=1_000, evaluate_every=200, clip_norm=1.0),
    ),
    "weizmann": RATMConfig(
        output=Path("runs/ratm-weizmann"),
        threads=1,
        first_frames=5,
        frames=30,
        stage_steps=12,
        optimizer="adam",
        learning_rate=1e-3,
        decay_parts=(6, 2, 2),
        data=TrackingDataConfig(source="weizmann.h5", fold=0, mirror=True),
        network=NetworkConfig(glimpse_size=28, start="box", bounded=True, cell="gru"),
        loss=LossConfig(pixel=1.0, localisation=10.0),
        training=TrainingConfig(steps=600, evaluate_every=100, clip_norm=1.0),
    ),
    "kth": RATMConfig(
        output=Path("runs/ratm-kth"),
        first_frames=5,
        frames=30,
        learning_rate=1e-3,
        classifier=Path("runs/ratm-people-classifier/best.pt"),
        data=TrackingDataConfig(source="kth.h5", fold=1),
        network=NetworkConfig(
            glimpse_size=28,
            attention="residual",
            start="box",
            windows="kth",
            features="people",
            hidden=32,
        ),
        loss=LossConfig(feature=1.0, divide_by_length=True, decay=0.2),
        training=TrainingConfig(steps=32_000, evaluate_every=1_000, clip_norm=1.0),
    ),
}


def build(network: NetworkConfig, generator: torch.Generator | None = None) -> RATM:
    """Make the tracker of a configuration whose `network.image_shape` is known.

    Args:
        network: its parts.
        generator: of a random first window; by default PyTorch's own.
    """
    if network.image_shape is None:
        raise ValueError("`network.image_shape` is not known")
    channels, height, width = network.image_shape
    size, glimpse_size = (height, width), (network.glimpse_size, network.glimpse_size)
    glimpse_shape = (channels, *glimpse_size)
    windows = (
        PaperWindows(glimpse_size, bounded=network.bounded)
        if network.windows == "paper"
        else KTHWindows(glimpse_size, network.enlargement, network.released_quirks)
    )
    start: BoxStart | FrameShareStart | LearnedStart
    if network.start == "box":
        start = BoxStart()
    elif network.start == "share":
        start = FrameShareStart()
    elif network.start == "frame":
        start = LearnedStart(windows.parameters(torch.tensor([0.0, 0.0, width, height]), size))
    else:
        box = random_box(size, generator or torch.default_generator)
        start = LearnedStart(windows.parameters(box, size))
    attention = AbsoluteAttention if network.attention == "absolute" else ResidualAttention
    features = feature_extractor(network.features, glimpse_shape)
    cell = (IRNN if network.cell == "irnn" else GRU)(features.size, network.hidden)
    trained = isinstance(features, PixelFeatures)
    return RATM(
        network.image_shape,
        attention(network.hidden, windows, start),
        features if trained else Frozen(features),
        cell,
    )


def feature_extractor(
    kind: Literal["pixels", "digits", "people"], glimpse_shape: tuple[int, int, int]
) -> PixelFeatures | ConvPoolFeatures:
    """What the recurrent cell sees of a glimpse."""
    if kind == "pixels":
        return PixelFeatures(glimpse_shape)
    return digit_features(glimpse_shape) if kind == "digits" else human_features(glimpse_shape)


def make_objective(
    model: RATM, config: RATMConfig, classifier: GlimpseClassifier | None
) -> SupervisedObjective:
    """The objective of a configuration.

    Raises:
        UsageError: if it has no losses, or one of them needs a classifier.
    """
    loss = config.loss
    weights = {name: getattr(loss, name) for name in LOSSES if getattr(loss, name) > 0}
    if not weights:
        raise UsageError(f"one of `loss.{'`, `loss.'.join(LOSSES)}` must be positive")
    losses = {name: _loss(name, config, classifier) for name in weights}
    decay = WeightDecay(RATM.DECAYED, loss.decay) if loss.decay > 0 else None
    return SupervisedObjective(model, losses, weights, loss.frames, decay, loss.divide_by_length)


def _loss(name: str, config: RATMConfig, classifier: GlimpseClassifier | None) -> FrameLoss:
    if name == "localisation":
        return LocalisationLoss()
    if name == "pixel":
        return PixelLoss(_patch(config))
    if classifier is None:
        raise UsageError(f"`loss.{name}` needs `classifier`, a checkpoint of `whatwhere-ratm pretrain`")
    if name == "feature":
        return FeatureLoss(Frozen(classifier.embedding))
    return ClassificationLoss(Frozen(classifier))


def _patch(config: RATMConfig) -> Tensor | None:
    if config.loss.patch == "truth":
        return None
    if config.data.source != "balls":
        raise UsageError('`loss.patch` must be "truth" where the targets are not balls')
    recipe = BouncingBallsRecipe(image_size=config.data.image_size or GENERATED["balls"])
    side = config.network.glimpse_size
    spacing = recipe.diameter / (side - 1) if config.loss.patch == "box" else 1.0
    return torch.from_numpy(recipe.patch(side, spacing)).float()


def train(config: RATMConfig, process: Process) -> int:
    """Train, evaluate on held-out videos, and write everything into `config.output`."""
    set_threads(config.threads)
    keep_freed_memory()
    classifier = None
    if config.classifier is not None:
        classifier = restore_classifier(Path(str(config.classifier).format(fold=config.data.fold)))
    data = load_data(config)
    if config.network.image_shape is None:
        config = replace(config, network=replace(config.network, image_shape=data.train.image_shape))
    torch.manual_seed(config.training.seed)
    model = build(config.network)
    if config.network.features != "pixels":
        if classifier is None:
            raise UsageError(
                f'`network.features` = "{config.network.features}" needs `classifier`, a checkpoint of '
                "`whatwhere-ratm pretrain`"
            )
        _copy_features(classifier, model)
    objective = make_objective(model, config, classifier).to(process.device)
    return train_tracker(config, process, data, model, objective, "RATM")


def _copy_features(classifier: GlimpseClassifier, model: RATM) -> None:
    extractor = classifier.embedding[0]
    features: Any = model.features
    try:
        features.network.load_state_dict(extractor.state_dict())
    except RuntimeError as error:
        raise CheckpointError(f"`classifier` has other features than `network.features`: {error}") from error


def restore(path: Path, device: torch.device) -> tuple[RATMConfig, RATM]:
    """Rebuild the configuration and the tracker of a checkpoint."""
    return restore_tracker(path, device, RATMConfig, lambda config: build(config.network))


@dataclass(frozen=True)
class RATMTrackConfig(TrackConfig):
    """Follow one object through a video: boxes as CSV, and an annotated GIF.

    Trackers whose first window is learned need no box.
    """

    checkpoint: Path = PRETRAINED
    """The checkpoint of a training run; by default that of the package, trained on bouncing balls."""
    video: Path = EXAMPLE


def track(options: RATMTrackConfig) -> int:
    """Track one object of a user's video."""
    device = select_device(options.device)
    _, model = restore(options.checkpoint, device)
    return track_clip(options, model, device, model.attention.start.needs_box)


@dataclass(frozen=True)
class ClassifierConfig(RunConfig):
    """Train the classifier whose features, or whose opinion, a tracker is trained with."""

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
        if self.released is not None and self.kind != "people":
            raise ValueError("`released` are weights for people, not for digits")


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
    set_threads(config.threads)
    with join_processes(config.device) as process:
        return _pretrain(config, process)


def _pretrain(config: ClassifierConfig, process: Process) -> int:
    torch.manual_seed(config.training.seed)
    classifier = make_classifier(config.kind, (1, config.glimpse_size, config.glimpse_size))
    if config.released is not None:
        with h5py.File(config.released) as file:
            load_released_human_weights(classifier, {name: file[name][()] for name in file})
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
        best = load_checkpoint(config.output / "best.pt")
        print(f"classifier: {best.path}, {best.metrics['accuracy']:.2%} right after step {best.step}")
    return result.exit_code


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


def run_training(config: RATMConfig) -> int:
    """Train in this process, or with the others that `torchrun` has started."""
    with join_processes(config.device) as process:
        return train(config, process)


COMMANDS = {
    "train": Command(RATMConfig, run_training, PRESETS),
    "cross-validate": Command(
        RATMConfig, partial(cross_validate, train=run_training, restore=restore, name="RATM"), PRESETS
    ),
    "pretrain": Command(ClassifierConfig, pretrain, CLASSIFIERS),
    "evaluate": Command(EvaluateConfig, partial(evaluate_checkpoint, restore=restore, name="RATM")),
    "track": Command(RATMTrackConfig, track),
    "export": Command(ExportConfig, partial(export, restore=restore)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command."""
    return run_program("whatwhere-ratm", __doc__ or "", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
