"""How RATM is made and trained, and the settings that have a name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from whatwhere import checks
from whatwhere.checks import FieldError
from whatwhere.examples.common.tracking_data import TrackingDataConfig
from whatwhere.examples.common.tracking_training import TrackerConfig
from whatwhere.inference.training import TrainingConfig, runtime_field

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
    evidence: bool = False
    """Compare each frame with the first glimpse, and look where it is most like it, for `attention` =
    residual and `start` = box.
    """

    def __post_init__(self) -> None:
        checks.literals(self)
        checks.positive(self, "image_shape", "enlargement", "hidden")
        checks.at_least(2, self, "glimpse_size")
        if self.evidence and (self.attention, self.start) != ("residual", "box"):
            expected = "is for `attention` = residual and `start` = box"
            raise FieldError("evidence", expected, f"{self.attention} and {self.start}")


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
    """Nothing: `RATMConfig.classifier` is the checkpoint."""

    def __post_init__(self) -> None:
        checks.literals(self)
        checks.not_negative(self, *LOSSES, "decay")
        if self.classifier is not None:
            expected = "is not an option of the losses: give `classifier`"
            raise FieldError("classifier", expected, str(self.classifier))

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the losses that count."""
        return {name: getattr(self, name) for name in LOSSES if getattr(self, name) > 0}


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.loss.weights:
            raise ValueError(f"one of `loss.{'`, `loss.'.join(LOSSES)}` must be positive")
        if "pixel" in self.loss.weights and self.loss.patch != "truth" and self.data.source != "balls":
            raise FieldError("loss.patch", 'must be "truth" where targets are not balls', self.loss.patch)
        needing = [f"loss.{name}" for name in ("feature", "classification") if name in self.loss.weights]
        needing += ["network.features"] if self.network.features != "pixels" else []
        if needing and self.classifier is None:
            expected = f"must be a checkpoint of `whatwhere-ratm pretrain`, as `{needing[0]}` needs one"
            raise FieldError("classifier", expected, None)


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
