"""HART from the command line: train, cross-validate, evaluate, track, export.

    whatwhere-hart track
    whatwhere-hart train --preset clutter --output runs/hart-clutter
    whatwhere-hart evaluate --checkpoint runs/hart-clutter/checkpoint.pt --frames 60
    whatwhere-hart track --video clip.mp4 --box 60 20 28 84

Also `python -m whatwhere.examples.hart`, and with several processes
`torchrun --nproc-per-node 2 -m whatwhere.examples.hart train ...`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from whatwhere import checks
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
from whatwhere.examples.common.tracking_data import TrackingDataConfig
from whatwhere.examples.common.tracking_training import (
    EvaluateConfig,
    TrackerConfig,
    cross_validate,
    evaluate_checkpoint,
    load_data,
    restore_tracker,
    train_tracker,
)
from whatwhere.inference.supervised import (
    FrameLoss,
    GeneralizedOverlapLoss,
    HARTObjective,
    MaskLoss,
    OverlapLoss,
    WindowLoss,
)
from whatwhere.inference.training import (
    Process,
    TrainingConfig,
    TriggeredCurriculum,
    join_processes,
    positional_field,
    rms_clip_norm,
    runtime_field,
    select_device,
)
from whatwhere.models import HART, kitti_hart, kth_hart, small_hart
from whatwhere.models.components.bounded_sizes import BoundedSizes
from whatwhere.models.components.camera_motion import CameraMotion
from whatwhere.models.components.gaussian_windows import (
    PolynomialSigma,
    SigmaRule,
    released_sigma,
    smooth_knee_sigma,
)
from whatwhere.models.components.glimpse_evidence import GlimpseEvidence
from whatwhere.models.components.visual_cortex import batch_normalisation, group_normalisation

PRETRAINED = Path(__file__).parent / "pretrained" / "hart-video.pt"
"""A checkpoint that comes with the package; how it was made and how good it is stands beside it."""
EXAMPLE = Path(__file__).parent / "pretrained" / "clutter.h5"
"""A held-out video for it."""


@dataclass(frozen=True)
class NetworkConfig:
    """The network."""

    image_shape: tuple[int, int, int] | None = None
    """Channels, height and width of a frame; by default those of the training videos."""
    kind: Literal["small", "kitti", "kth"] = "small"
    """V1: two or three small convolutions; AlexNet's, with glimpses of 56 pixels; or those of RATM's network
    for people, with glimpses of 28.
    """
    glimpse_size: int = 28
    """Side of the glimpse of `small`, in samples."""
    hidden: int = 100
    """Units of the LSTM of `small` and `kth`."""
    appearance: bool = True
    """Whether there is appearance attention."""
    normalisation: Literal["group", "batch"] = "group"
    """`batch` is the authors'; its statistics suffer where videos differ in length."""
    sigma: Literal["smooth-knee", "polynomial", "released"] = "smooth-knee"
    """Width of the Gaussians, given the stride."""
    margin: float = 0.0
    """By how much windows are larger than boxes at first, on each side, in `units`."""
    init: Literal["released", "modern"] = "released"
    """First biases: drawn, as in the authors' program; or 0, and 1 for the forget gate."""
    units: Literal["frame", "window"] = "frame"
    """What movements of boxes and windows are measured by: the frame's sides, as published, or the window's,
    which serves objects of any size alike.
    """
    bounded: bool = False
    """Keep the windows in the frame."""
    detached: bool = False
    """Let gradients pass from frame to frame through the LSTM only, not through the windows."""
    evidence: bool = False
    """Compare each frame with the first glimpse, and look where it is most like it."""
    camera: bool = True
    """With `evidence`: expect objects where the camera's motion, found by phase correlation, takes them."""
    sizes: Literal["free", "bounded"] = "free"
    """Sizes by steps from frame to frame, as published; or near the first ones, for `units` = window."""

    def __post_init__(self) -> None:
        checks.literals(self)
        checks.positive(self, "image_shape", "glimpse_size", "hidden")
        checks.not_negative(self, "margin")


@dataclass(frozen=True)
class LossConfig:
    """The parts of the objective."""

    tracking: Literal["iou", "giou"] = "iou"
    """`-log IoU` of predicted and true box, or `1 - GIoU`, which leads back where they do not overlap."""
    floor: float = 1e-8
    """Overlaps below it count as that much, and give no gradient, which is otherwise up to its inverse."""
    window: bool = True
    """Whether windows shall contain the object, and not much else."""
    mask: bool = True
    """Whether the location map shall be the object's."""
    binary_mask: bool = False
    """Whether its target is 1 in all cells that the object touches, as in the paper."""
    learned_weights: bool = True
    """Whether the parts are weighed by factors that are learned, or added up."""
    decay: float = 1e-4
    """Coefficient of half the squares of weights and dynamic filters."""

    def __post_init__(self) -> None:
        checks.literals(self)
        checks.within("(0, 1)", self, "floor")
        checks.not_negative(self, "decay")


@dataclass(frozen=True)
class HARTConfig(TrackerConfig):
    """Train HART to follow one object through videos, and evaluate it on held-out ones."""

    output: Path = runtime_field(Path("runs/hart"))
    """Folder for the log, the checkpoints, the metrics and the pictures."""
    curriculum: Literal["steps", "trigger"] = "steps"
    """When training videos become longer: every `stage_steps`; or once the overlap on training videos is at
    least 0.70 at first and 0.65 at last, measured every `training.evaluate_every` steps, but not before
    `stage_steps`.
    """
    rms_clip: float | None = None
    """Largest root mean square of gradients, the authors' 0.3; overrides `training.clip_norm`."""
    network: NetworkConfig = NetworkConfig()
    """The network."""
    loss: LossConfig = LossConfig()
    """The objective."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive(self, "rms_clip")
        if self.curriculum == "trigger" and self.training.evaluate_every is None:
            raise ValueError("`curriculum` = trigger needs `training.evaluate_every`")
        if self.loss.mask and not self.network.appearance:
            raise ValueError("`loss.mask` is for the location map of `network.appearance`, which is off")


# Not the published forms: with overlaps and gradients that are bounded, and windows that answer for one step
# each, a few lost objects do not outweigh all others in hard or long videos.
_NETWORK = NetworkConfig(units="window", bounded=True, detached=True)
_LOSS = LossConfig(tracking="giou", floor=0.1)

_CLUTTER = HARTConfig(
    output=Path("runs/hart-clutter"),
    threads=1,
    first_frames=5,
    frames=15,
    stage_steps=40,
    test_frames=30,
    decay_parts=(6, 2, 2),
    data=TrackingDataConfig(source="clutter", difficulty=0.3, test_videos=1_000),
    network=_NETWORK,
    loss=_LOSS,
    training=TrainingConfig(steps=1_000, evaluate_every=200, clip_norm=1.0),
)

# Objects of many sizes, in larger frames.
_SIZES = replace(
    _CLUTTER,
    output=Path("runs/hart-general"),
    frames=16,
    stage_steps=100,
    monitor_videos=200,
    data=replace(
        _CLUTTER.data,
        difficulty=1.0,
        also=("clutter:0.7", "clutter:0.4", "clutter:0.2"),
        sides=(0.1, 0.35),
        image_size=128,
    ),
    network=replace(_NETWORK, hidden=128),
    training=replace(_CLUTTER.training, steps=4_000, evaluate_every=500),
)

PRESETS = {
    "clutter": _CLUTTER,
    # The rows of the paper's table 1.
    "clutter-appearance": replace(
        _CLUTTER, output=Path("runs/hart-clutter-appearance"), loss=replace(_LOSS, mask=False)
    ),
    "clutter-spatial": replace(
        _CLUTTER,
        output=Path("runs/hart-clutter-spatial"),
        network=replace(_NETWORK, appearance=False),
        loss=replace(_LOSS, window=False, mask=False),
    ),
    "general": replace(
        _SIZES,
        learning_rate=7e-4,
        decay_parts=(5, 3, 2),
        stage_steps=60,
        # Colours of generated videos tell more than those of the world.
        data=replace(_SIZES.data, difficulty=0.4, also=("clutter:0.2", "clutter:0.6"), faded=0.8),
        training=replace(_SIZES.training, steps=2_000),
    ),
    # The ground moves and the object does not move with it: no camera is followed.
    "hard": replace(
        _SIZES,
        output=Path("runs/hart-hard"),
        network=replace(_SIZES.network, evidence=True, camera=False, sizes="bounded"),
    ),
    "kitti": HARTConfig(
        output=Path("runs/hart-kitti"),
        batch_size=10,
        first_frames=5,
        frames=30,
        stage_steps=500,
        curriculum="trigger",
        optimizer="rmsprop",
        learning_rate=3.3e-6,
        momentum=0.9,
        rms_clip=0.3,
        data=TrackingDataConfig(
            source="kitti-train.h5", test_source="kitti-test.h5", mirror=True, reverse=True
        ),
        network=NetworkConfig(kind="kitti", normalisation="batch", sigma="polynomial"),
        training=TrainingConfig(steps=400_000, evaluate_every=500),
    ),
    "kth": HARTConfig(
        output=Path("runs/hart-kth"),
        first_frames=5,
        frames=30,
        optimizer="rmsprop",
        learning_rate=3.33e-5,
        momentum=0.9,
        rms_clip=0.3,
        data=TrackingDataConfig(source="kth.h5", fold=1),
        network=NetworkConfig(kind="kth", normalisation="batch", sigma="polynomial"),
        training=TrainingConfig(steps=32_000, evaluate_every=1_000),
    ),
}


def build(network: NetworkConfig) -> HART:
    """Make the tracker of a configuration whose `network.image_shape` is known."""
    if network.image_shape is None:
        raise ValueError("`network.image_shape` is not known")
    sigmas: dict[str, SigmaRule] = {
        "smooth-knee": smooth_knee_sigma,
        "polynomial": PolynomialSigma(),
        "released": released_sigma,
    }
    normalisation = group_normalisation if network.normalisation == "group" else batch_normalisation
    common: dict[str, Any] = {
        "appearance": network.appearance,
        "normalisation": normalisation,
        "sigma": sigmas[network.sigma],
        "evidence": GlimpseEvidence() if network.evidence else None,
        "camera": CameraMotion() if network.evidence and network.camera else None,
        "sizes": BoundedSizes() if network.sizes == "bounded" else None,
        **{name: getattr(network, name) for name in ("margin", "init", "units", "bounded", "detached")},
    }
    if network.kind == "kitti":
        return kitti_hart(network.image_shape, **common)
    if network.kind == "kth":
        return kth_hart(network.image_shape, hidden_size=network.hidden, **common)
    glimpse_size = (network.glimpse_size, network.glimpse_size)
    return small_hart(network.image_shape, glimpse_size, hidden_size=network.hidden, **common)


def make_objective(model: HART, loss: LossConfig) -> HARTObjective:
    """The objective of a configuration."""
    losses: dict[str, FrameLoss] = {
        "tracking": OverlapLoss(loss.floor) if loss.tracking == "iou" else GeneralizedOverlapLoss()
    }
    if loss.window:
        losses["window"] = WindowLoss(loss.floor)
    if loss.mask:
        losses["mask"] = MaskLoss(loss.binary_mask)
    return HARTObjective(model, losses, None if loss.learned_weights else {}, loss.decay)


def train(config: HARTConfig, process: Process) -> int:
    """Train, evaluate on held-out videos, and write everything into `config.output`."""
    begin_run(config, process)
    data = load_data(config)
    config = with_image_shape(config, data.train.image_shape, data.test.image_shape)
    torch.manual_seed(config.training.seed)
    with usage_errors():
        model = build(config.network)
    objective = make_objective(model, config.loss).to(process.device)
    if config.rms_clip is not None:
        limit = rms_clip_norm(objective.parameters(), config.rms_clip)
        config = replace(config, training=replace(config.training, clip_norm=limit))
    curriculum = None
    if config.curriculum == "trigger":
        curriculum = TriggeredCurriculum(config.first_frames, config.frames, config.stage_steps)
    others = {"weighting": objective.weighting}
    return train_tracker(config, process, data, model, objective, "HART", curriculum, others)


def run_training(config: HARTConfig) -> int:
    """Train in this process, or with the others that `torchrun` has started."""
    with join_processes(config.device) as process:
        return train(config, process)


def restore(path: Path, device: torch.device) -> tuple[HARTConfig, HART]:
    """Rebuild the configuration and the tracker of a checkpoint."""
    return restore_tracker(path, device, HARTConfig, lambda config: build(config.network))


@dataclass(frozen=True)
class HARTTrackConfig(TrackConfig):
    """Follow one object through a video: a table of boxes, and an annotated film.

    Frames may have any size.
    """

    checkpoint: Path = PRETRAINED
    video: Path = positional_field(EXAMPLE)
    output: Path = Path("tracks/hart")


def track(options: HARTTrackConfig) -> int:
    """Track one object of a user's video."""
    device = select_device(options.device)
    _, model = restore(options.checkpoint, device)
    return track_clip(options, model, device, needs_box=True)


COMMANDS = {
    "train": Command(HARTConfig, run_training, PRESETS),
    "cross-validate": Command(
        HARTConfig,
        partial(cross_validate, train=run_training, restore=restore, name="HART"),
        PRESETS,
        "Train HART leaving out one person after another, and evaluate it on that one.",
    ),
    "evaluate": Command(EvaluateConfig, partial(evaluate_checkpoint, restore=restore, name="HART")),
    "track": Command(HARTTrackConfig, track),
    "export": Command(ExportConfig, partial(export, restore=restore)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command."""
    return run_program("whatwhere-hart", __doc__ or "", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
