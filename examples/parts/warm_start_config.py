"""The stages that SQAIR's training can begin with."""

from __future__ import annotations

from dataclasses import dataclass

from whatwhere import checks


@dataclass(frozen=True)
class FramesConfig:
    """Finding objects in single frames, of all times of the videos, with their number summed out."""

    share: float = 0.0
    """Share of the run's time, or of its steps; 0 leaves the stage out."""
    batch_size: int = 64
    """Frames in a step."""
    learning_rate: float = 1e-3
    """At the start of the stage."""
    final_learning_rate: float = 1e-4
    """At its end, which is reached exponentially."""
    first_weight: float = 1.0
    """Weight of the likelihood at the start: it counts the square of a pixel's error so many times."""
    weight: float = 8.0
    """Weight at the end: in how many frames an object is drawn with the looks that are paid for once."""
    rise: tuple[float, float] = (0.15, 0.5)
    """Between which shares of the stage the weight rises."""
    price: float | None = 8.0
    """What an object costs in nats, for each unit of the weight; it rises from 0 until `rise` begins. With
    `none` it is that of the model, `prior.price`.
    """
    exploration: float = 0.9
    """Share of presence that a fair coin decides at the start."""
    exploration_decay: float = 0.1
    """Share of the stage in which it falls by a factor of e."""
    size_logit: float | None = -0.35
    """Mean of the prior of size logits: -0.35 is a window of 0.41 of the frame. With `none` it is that of the
    model, see `prior.object_size`.
    """
    size_scale: float | None = 0.15
    """Its standard deviation; a narrow one keeps a window from holding two objects. With `none` it is that of
    the model, `prior.size_scale`.
    """
    shift_scale: float = 0.7
    """Standard deviation of the prior of places."""
    looks_rate: float = 1.0
    """Learning rate of the encoder and decoder of glimpses, as a factor."""

    def __post_init__(self) -> None:
        checks.share(self, "share", "rise", "exploration")
        checks.positive(self, "batch_size", "learning_rate", "final_learning_rate", "first_weight", "weight")
        checks.positive(self, "exploration_decay", "size_scale", "shift_scale")
        checks.not_negative(self, "price", "looks_rate")
        checks.finite(self, "size_logit")
        checks.ordered(first=self.rise[0], second=self.rise[1])


@dataclass(frozen=True)
class LooksConfig:
    """Learning what objects look like, at places that discovery has found before and that stay fixed."""

    share: float = 0.0
    """Share of the run's time, or of its steps; 0 leaves the stage out."""
    frames: int = 60_000
    """Frames in which objects are looked for at the start of the stage, of different videos if there are so
    many, or as many as half of its time allows; with their places they are kept in memory.
    """
    batch_size: int = 128
    """Frames in a step."""
    learning_rate: float = 1.5e-3
    """At the start of the stage."""
    final_learning_rate: float = 1e-4
    """At its end, which is reached exponentially."""
    weight: float = 10.0
    """Of the likelihood, see `FramesConfig.weight`."""
    most_jitter: float = 0.004
    """Places are drawn with the standard deviation with which they were found, but with no greater one."""

    def __post_init__(self) -> None:
        checks.share(self, "share")
        checks.positive(self, "frames", "batch_size", "learning_rate", "final_learning_rate", "weight")
        checks.not_negative(self, "most_jitter")


@dataclass(frozen=True)
class MotionConfig:
    """Fitting the prior of motion to the tracks of objects that the guide can follow without it."""

    share: float = 0.0
    """Share of the run's time, or of its steps; 0 leaves the stage out."""
    videos: int = 10_000
    """Videos in which objects are followed at the start of the stage, or as many as half of its time allows;
    the tracks are kept in memory.
    """
    batch_size: int = 128
    """Objects in a step, or videos if the prior tells objects of each other."""
    learning_rate: float = 1.5e-3
    """At the start of the stage."""
    final_learning_rate: float = 1e-4
    """At its end, which is reached exponentially."""
    particles: int = 0
    """Paths that are drawn where an object is out of sight; the one that leads to where it is seen again is
    more likely to be taken, see `TrackLikelihood.complete`. With 0 tracks stay as the guide has drawn them.
    """

    def __post_init__(self) -> None:
        checks.share(self, "share")
        checks.positive(self, "videos", "batch_size", "learning_rate", "final_learning_rate")
        checks.not_negative(self, "particles")


@dataclass(frozen=True)
class HeldConfig:
    """Learning everything on whole videos, while the objects of the first frame are held on to."""

    share: float = 0.0
    """Share of the run's time, or of its steps; 0 leaves the stage out."""
    learning_rate: float = 2e-4
    """At the start of the stage."""
    final_learning_rate: float = 2e-5
    """At its end, which is reached exponentially."""
    imitation: float = 10.0
    """Weight of the cross-entropy by which the guide imitates holding on, see `TaughtELBO`; beside the sum of
    all frames.
    """
    first_frame: float = 0.3
    """Weight of the objective of first frames, with the number of objects summed out: it teaches to count."""
    weight: float = 10.0
    """Of its likelihood, see `FramesConfig.weight`."""
    price: float = 8.0
    """Of an object, see `FramesConfig.price`. Where objects are explained away it has to be higher than what
    is left of one that is drawn well: or what is left is found to be one more.
    """

    def __post_init__(self) -> None:
        checks.share(self, "share")
        checks.positive(self, "learning_rate", "final_learning_rate", "weight")
        checks.not_negative(self, "imitation", "first_frame", "price")


@dataclass(frozen=True)
class WarmStartConfig:
    """Stages before the training proper, which gets the rest of the time; by default there are none.

    In each of them something is cheap to learn that the next needs: to find objects in single frames, what
    they look like, to find them again with the looks that have changed, how they move, and all of it together
    while objects cannot get lost, after which motion can be fitted again. The training proper then has the
    objective that is wanted, without bias.
    """

    frames: FramesConfig = FramesConfig()
    """Objects are found."""
    looks: LooksConfig = LooksConfig()
    """Their looks are learned."""
    again: FramesConfig = FramesConfig()
    """They are found with these looks."""
    motion: MotionConfig = MotionConfig()
    """Their motion is learned."""
    held: HeldConfig = HeldConfig()
    """Everything is learned together."""
    refit: MotionConfig = MotionConfig(particles=16)
    """Motion is fitted once more, to the tracks of the guide as it is then."""

    def __post_init__(self) -> None:
        if self.share >= 1:
            raise ValueError(f"the shares of all stages must leave time for training, got {self.share}")

    @property
    def share(self) -> float:
        """Share of the run that all stages take together."""
        stages = (self.frames, self.looks, self.again, self.motion, self.held, self.refit)
        return sum(stage.share for stage in stages)

    @property
    def explores(self) -> bool:
        """Whether discovery explores in one of them."""
        return any(stage.share > 0 and stage.exploration > 0 for stage in (self.frames, self.again))
