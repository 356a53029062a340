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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from whatwhere.datasets import BouncingBallsRecipe
from whatwhere.examples.common.program import (
    Command,
    ExportConfig,
    begin_run,
    export,
    run_program,
    usage_errors,
)
from whatwhere.examples.common.sources import with_image_shape
from whatwhere.examples.common.tracking import TrackConfig, track_clip
from whatwhere.examples.common.tracking_data import GENERATED
from whatwhere.examples.common.tracking_training import (
    EvaluateConfig,
    cross_validate,
    evaluate_checkpoint,
    load_data,
    restore_tracker,
    train_tracker,
)
from whatwhere.examples.parts.ratm_classifier import (
    CLASSIFIERS,
    ClassifierConfig,
    pretrain,
    restore_classifier,
)
from whatwhere.examples.parts.ratm_config import PRESETS, LossConfig, NetworkConfig, RATMConfig
from whatwhere.inference.supervised import (
    ClassificationLoss,
    FeatureLoss,
    FrameLoss,
    LocalisationLoss,
    PixelLoss,
    SupervisedObjective,
    WeightDecay,
)
from whatwhere.inference.training import (
    CheckpointError,
    Process,
    join_processes,
    positional_field,
    select_device,
)
from whatwhere.models.components.feature_extractors import (
    ConvPoolFeatures,
    Frozen,
    GlimpseClassifier,
    PixelFeatures,
    digit_features,
    human_features,
)
from whatwhere.models.components.glimpse_evidence import NUMBERS, GlimpseEvidence
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

__all__ = [
    "CLASSIFIERS",
    "COMMANDS",
    "EXAMPLE",
    "PRESETS",
    "PRETRAINED",
    "ClassifierConfig",
    "LossConfig",
    "NetworkConfig",
    "RATMConfig",
    "build",
    "main",
    "make_objective",
    "restore",
    "restore_classifier",
    "train",
]

PRETRAINED = Path(__file__).parent / "pretrained" / "ratm-balls.pt"
"""A checkpoint that comes with the package; how it was made and how good it is stands beside it."""
EXAMPLE = Path(__file__).parent / "pretrained" / "balls.h5"
"""A held-out video for it."""


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
    evidence = GlimpseEvidence() if network.evidence else None
    known = features.size + (0 if evidence is None else NUMBERS)
    cell = (IRNN if network.cell == "irnn" else GRU)(known, network.hidden)
    trained = isinstance(features, PixelFeatures)
    return RATM(
        network.image_shape,
        attention(network.hidden, windows, start),
        features if trained else Frozen(features),
        cell,
        evidence,
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

    Args:
        model: the tracker.
        config: the weights of the losses, and what they need.
        classifier: for losses of features and classes.
    """
    loss = config.loss
    weights = loss.weights
    losses = {name: _loss(name, config, classifier) for name in weights}
    decay = WeightDecay(RATM.DECAYED, loss.decay) if loss.decay > 0 else None
    return SupervisedObjective(model, losses, weights, loss.frames, decay, loss.divide_by_length)


def _loss(name: str, config: RATMConfig, classifier: GlimpseClassifier | None) -> FrameLoss:
    if name == "localisation":
        return LocalisationLoss()
    if name == "pixel":
        return PixelLoss(_patch(config))
    assert classifier is not None  # the configuration names one
    if name == "feature":
        return FeatureLoss(Frozen(classifier.embedding))
    return ClassificationLoss(Frozen(classifier))


def _patch(config: RATMConfig) -> Tensor | None:
    if config.loss.patch == "truth":
        return None
    recipe = BouncingBallsRecipe(image_size=config.data.image_size or GENERATED["balls"])
    side = config.network.glimpse_size
    spacing = recipe.diameter / (side - 1) if config.loss.patch == "box" else 1.0
    return torch.from_numpy(recipe.patch(side, spacing)).float()


def train(config: RATMConfig, process: Process) -> int:
    """Train, evaluate on held-out videos, and write everything into `config.output`."""
    begin_run(config, process)
    classifier = None
    if config.classifier is not None:
        path = str(config.classifier).replace("{fold}", str(config.data.fold))
        classifier = restore_classifier(Path(path))
    data = load_data(config)
    config = with_image_shape(config, data.train.image_shape, data.test.image_shape)
    torch.manual_seed(config.training.seed)
    with usage_errors():
        model = build(config.network)
    if config.network.features != "pixels":
        assert classifier is not None  # the configuration names one
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
    """Follow one object through a video: a table of boxes, and an annotated film.

    Trackers whose first window is learned need no box.
    """

    checkpoint: Path = PRETRAINED
    """The checkpoint of a training run; by default that of the package, trained on bouncing balls."""
    video: Path = positional_field(EXAMPLE)
    output: Path = Path("tracks/ratm")


def track(options: RATMTrackConfig) -> int:
    """Track one object of a user's video."""
    device = select_device(options.device)
    _, model = restore(options.checkpoint, device)
    return track_clip(options, model, device, model.attention.start.needs_box)


def run_training(config: RATMConfig) -> int:
    """Train in this process, or with the others that `torchrun` has started."""
    with join_processes(config.device) as process:
        return train(config, process)


COMMANDS = {
    "train": Command(RATMConfig, run_training, PRESETS),
    "cross-validate": Command(
        RATMConfig,
        partial(cross_validate, train=run_training, restore=restore, name="RATM"),
        PRESETS,
        "Train RATM leaving out one person after another, and evaluate it on that one.",
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
