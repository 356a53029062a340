"""The configuration of a training of Glimpse Clouds, and its presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from whatwhere import checks
from whatwhere.checks import FieldError
from whatwhere.examples.common.program import RunConfig
from whatwhere.examples.parts.action_data import ActionDataConfig
from whatwhere.inference.training import TrainingConfig, runtime_field
from whatwhere.models import GlimpseClouds, ntu_glimpse_clouds, small_glimpse_clouds
from whatwhere.models.components.clip_features import (
    CoarseFrames,
    ConvClip,
    PlacesContext,
    UnboundedPlaces,
)
from whatwhere.models.components.soft_assignment import Assignment, OverGlimpses, OverWorkers, Uniform

_ASSIGNMENTS: dict[str, type[Assignment]] = {
    "workers": OverWorkers,
    "glimpses": OverGlimpses,
    "uniform": Uniform,
}


@dataclass(frozen=True)
class NetworkConfig:
    """The network."""

    image_shape: tuple[int, int, int] | None = None
    """Channels, height and width of a frame; by default those of the training videos."""
    names: tuple[str, ...] = ()
    """Of the classes; by default those of the training videos."""
    pose: tuple[int, int] | None = None
    """People, and joints of each, of the pose head; by default those of the training videos."""
    kind: Literal["coarse", "conv", "ntu"] = "coarse"
    """Maps: convolutions of frames made small, with glimpses of the frames themselves; convolutions in space
    and time, with glimpses of their maps; or an inflated ResNet-50, with all sizes as published.
    """
    reduce: int = 4
    """By how much `coarse` and `conv` make frames smaller at first."""
    channels: tuple[int, ...] = (16, 16)
    """Of the convolutions of `coarse` and `conv`."""
    crop_size: int = 20
    """Side of a glimpse, in samples."""
    glimpses: int = 2
    """In a frame."""
    workers: int = 2
    """How many follow."""
    size: int = 64
    """Numbers that are read of a glimpse."""
    reader: tuple[int, ...] = (16, 32, 32)
    """Channels of the convolutions that read it; not of `ntu`."""
    hidden: int = 64
    """Units of the locator and of a worker."""
    size_bias: float = -1.4
    """Of the sigmoid that glimpses' sides are made of: -1.4 is 0.2 of the frame at first; 3 is published,
    0.95.
    """
    assignment: Literal["workers", "glimpses", "uniform"] = "workers"
    """Each glimpse is shared out among the workers, as in the paper; each worker takes a share of the
    glimpses, as in the released program; or all get all alike.
    """
    learned_distance: bool = False
    """Of `ntu`: compare glimpses by a learned distance, the paper's, and not by one without parameters."""
    detached: bool = False
    """Let no gradient reach a place through its crop, as in the released program."""
    straight: bool = True
    """Let gradients pass from glimpse to glimpse through the states of locator and workers only."""
    counted: int | None = None
    """Frames at the end whose votes count, where what is asked is not known before; by default all."""
    keep: float = 0.0
    """First bias of the gates by which workers stay as they are; not of `ntu`."""
    unbounded: bool = False
    """Tell the locator places as they are before the hyperbolic tangent that its own go through, which it can
    then repeat exactly; not of `ntu`.
    """
    hands: bool = False
    """Of `ntu`: look at the hands of both people, which must be known, instead of finding places."""

    def __post_init__(self) -> None:
        checks.positive(self, "image_shape", "pose", "reduce", "channels", "crop_size", "glimpses", "workers")
        checks.positive(self, "size", "reader", "hidden", "counted")
        checks.not_empty(self, "channels", "reader")
        checks.finite(self, "size_bias", "keep")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses beside that of the class."""

    pose: float = 0.1
    """Of the joints that are found."""
    attraction: float = 1.0
    """Of the distance of glimpses from joints."""
    diversity: float = 1.0
    """Of the nearness of glimpses to each other."""
    overview: float = 0.0
    """Of the class by the global path."""

    def __post_init__(self) -> None:
        checks.not_negative(self, "pose", "attraction", "diversity", "overview")


@dataclass(frozen=True)
class StageConfig:
    """A stage before the one in which workers learn."""

    steps: int = 0
    """How many; 0 leaves the stage out."""
    batch_size: int = 32
    """Videos in a step, of all processes together."""
    learning_rate: float = 1e-3
    """At the start; it falls to 0."""
    pose: float = 0.1
    """Weight of the joints; reading has none."""

    def __post_init__(self) -> None:
        checks.not_negative(self, "steps", "pose")
        checks.positive(self, "batch_size", "learning_rate")


@dataclass(frozen=True)
class GlimpseCloudsConfig(RunConfig):
    """Train Glimpse Clouds to tell what goes on in videos, and evaluate it on held-out ones.

    Stages: `reading`, in which what is read of a glimpse learns to name single things, for the relay;
    `glance`, in which the maps learn by the global path and by joints; and the main one.
    """

    MOST_USED: ClassVar[tuple[str, ...]] = (
        "output",
        "resume",
        "overwrite",
        "data.source",
        "data.fold",
        "network.workers",
        "training.steps",
        "training.minutes",
        "training.seed",
        "device",
    )

    output: Path = runtime_field(Path("runs/glimpse-clouds"))
    """Folder for the log, the checkpoints, the metrics and the pictures."""
    objective: Literal["clouds", "glance"] = "clouds"
    """What is trained and evaluated: workers with glimpses; or the global path alone, for comparison."""
    batch_size: int = 32
    """Videos in a step, of all processes together."""
    learning_rate: float = 1e-3
    """Of Adam, at the start."""
    fall: bool = True
    """Let it fall to 0 along a half cosine; the published one is constant."""
    frozen: bool = False
    """Keep maps, context and reading as the stages before have made them, as published."""
    samples: int = 1
    """Clips of a held-out video whose answers are averaged; 5 are published."""
    initial: Path | None = None
    """Weights of a ResNet-50 for pictures to start `ntu` from, as torchvision publishes them."""
    monitor_videos: int = 200
    """Greatest number of held-out videos that are looked at during training."""
    reading: StageConfig = StageConfig(batch_size=4, learning_rate=2e-3)
    """The first stage."""
    glance: StageConfig = StageConfig()
    """The second stage."""
    data: ActionDataConfig = ActionDataConfig()
    """The videos."""
    network: NetworkConfig = NetworkConfig()
    """The network."""
    loss: LossConfig = LossConfig()
    """The objective of the main stage."""
    training: TrainingConfig = TrainingConfig(steps=3_000, evaluate_every=250, clip_norm=1.0)
    """The main stage; `minutes` are of all stages, in proportion to the videos in their steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive(self, "batch_size", "learning_rate", "samples", "monitor_videos")
        if self.reading.steps and not self.data.source == "relay":
            raise FieldError("reading.steps", "is for the relay, whose things are known", self.reading.steps)
        if self.initial is not None and self.network.kind != "ntu":
            raise FieldError("initial", "is for `network.kind` = ntu", str(self.initial))
        if self.network.hands and (self.network.kind, self.data.source[:4]) != ("ntu", "ntu:"):
            expected = "is for `network.kind` = ntu and `data.source` = ntu:FOLDER, whose hands are known"
            raise FieldError("network.hands", expected, self.network.hands)


HANDS = ((0, 7), (0, 11), (1, 7), (1, 11))
"""Person and joint of the hands of NTU's skeletons."""


def build(network: NetworkConfig) -> GlimpseClouds:
    """Make the model of a configuration whose image shape, names and pose are known."""
    if network.image_shape is None or not network.names:
        raise ValueError("`network.image_shape` and `network.names` are not known")
    classes, channels = len(network.names), network.image_shape[0]
    if network.kind == "ntu":
        if channels != 3:
            raise ValueError(f"`network.kind` = ntu needs colour videos, got {channels} channels")
        return ntu_glimpse_clouds(
            classes,
            network.image_shape[1:],
            network.glimpses,
            network.workers,
            learned_distance=network.learned_distance,
            joints=HANDS if network.hands else None,
            pose=network.pose or (2, 25),
            detached=network.detached,
            straight=network.straight,
            assignment=_ASSIGNMENTS[network.assignment],
            counted=network.counted,
        )
    strides = (2, *[1] * (len(network.channels) - 1))
    features: Any = (
        CoarseFrames(channels, network.reduce, network.channels, strides)
        if network.kind == "coarse"
        else ConvClip(channels, network.channels, network.reduce)
    )
    sizes = ("glimpses", "workers", "size", "hidden", "size_bias", "pose", "reader")
    same = (*sizes, "detached", "straight", "counted", "keep")
    options: dict[str, Any] = {name: getattr(network, name) for name in same}
    return small_glimpse_clouds(
        network.image_shape,
        classes,
        features=features,
        crop_size=(network.crop_size, network.crop_size),
        assignment=_ASSIGNMENTS[network.assignment],
        context=UnboundedPlaces if network.unbounded else PlacesContext,
        **options,
    )


_RELAY = GlimpseCloudsConfig(
    output=Path("runs/glimpse-clouds-relay"),
    threads=1,
    learning_rate=2e-3,
    frozen=True,
    reading=StageConfig(steps=3_000, batch_size=8, learning_rate=2e-3),
    glance=StageConfig(steps=400, batch_size=32, learning_rate=1e-2, pose=1.0),
    network=NetworkConfig(crop_size=24, reader=(16, 32, 64), hidden=128, counted=2, keep=2.0, unbounded=True),
    loss=LossConfig(attraction=10.0, diversity=0.0),
    training=TrainingConfig(
        steps=2_000, evaluate_every=100, clip_norm=1.0, log_every=50, checkpoint_every=250
    ),
)

_NTU = GlimpseCloudsConfig(
    output=Path("runs/glimpse-clouds-ntu"),
    batch_size=32,
    learning_rate=1e-4,
    fall=False,
    frozen=True,
    samples=5,
    # 37,646 clips of 40,320 for training: ten epochs of each stage.
    glance=StageConfig(steps=40_000, batch_size=10, learning_rate=1e-4),
    data=ActionDataConfig(source="ntu:nturgb+d", stretch=120, drop=2),
    network=NetworkConfig(kind="ntu", glimpses=3, workers=3, size_bias=3.0, straight=False),
    training=TrainingConfig(steps=12_500, evaluate_every=1_250),
)

_WEIZMANN = GlimpseCloudsConfig(
    output=Path("runs/glimpse-clouds-weizmann"),
    threads=1,
    samples=5,
    glance=StageConfig(steps=2_000, batch_size=16, learning_rate=2e-3),
    data=ActionDataConfig(source="weizmann:weizmann", stretch=32, shift=8, mirror=True),
    network=NetworkConfig(
        kind="conv", reduce=2, channels=(16, 32, 64), crop_size=4, glimpses=3, workers=3, size_bias=0.0
    ),
    # As published, diversity is most of a gradient that is clipped, and the class is hardly learned.
    loss=LossConfig(diversity=0.1, overview=1.0),
    training=TrainingConfig(steps=800, evaluate_every=80, clip_norm=1.0),
)

PRESETS: dict[str, Any] = {
    "relay": _RELAY,
    # The global path alone, on frames as small as the context sees them, by a network of its own.
    "relay-global": replace(
        _RELAY,
        output=Path("runs/glimpse-clouds-relay-global"),
        objective="glance",
        reading=StageConfig(),
        glance=StageConfig(),
        loss=replace(_RELAY.loss, pose=0.0),
        network=NetworkConfig(kind="conv", channels=(16, 32, 64)),
    ),
    "weizmann": _WEIZMANN,
    "folders": replace(
        _WEIZMANN,
        output=Path("runs/glimpse-clouds"),
        data=ActionDataConfig(source="folders:videos", shift=8, zoom=1.2),
    ),
    "ntu": _NTU,
    "nucla": replace(
        _NTU,
        output=Path("runs/glimpse-clouds-nucla"),
        glance=replace(_NTU.glance, steps=1_000),
        data=replace(_NTU.data, source="nucla:multiview_action", fold=3),
        training=replace(_NTU.training, steps=310, evaluate_every=30),
    ),
}
