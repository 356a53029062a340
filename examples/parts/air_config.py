"""How AIR is made and trained, and the settings that have a name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from whatwhere import checks
from whatwhere.examples.common.program import RunConfig
from whatwhere.examples.parts.air_data import DataConfig
from whatwhere.examples.parts.air_objective import COMPARING, Estimator, check_continuous
from whatwhere.inference.objectives.continuous import Continuous
from whatwhere.inference.training import TrainingConfig, runtime_field


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the networks, those of Pyro's AIR unless said otherwise."""

    image_shape: tuple[int, int, int] | None = None
    """Channels, height and width of the images; by default those of the training images."""
    discovery: Literal["learned", "evidence"] = "learned"
    """How the guide finds objects: by a network that sees the whole image, as published; or where something
    is left to explain, see `guides.EvidenceAIRGuide`. The latter has no image encoder and no LSTM.
    """
    sketch_nats: float | None = 60.0
    """What each of several objects must explain for all to be sketched before one is drawn, in nats, for
    `evidence`; with `none` each is looked for in what those before have left.
    """
    sketch_from: float = 0.7
    """Share of training from which objects are sketched, which takes as long as the rest of a step; with
    `training.capture` they are from the first step on.
    """
    refine_looks: int = 2
    """Steps by which looks are corrected in evaluation, given what their picture leaves, for `evidence`, see
    `guides.RefinedLooks`.
    """
    max_count: int = 3
    """Slots: most objects the model can see in an image."""
    what_size: int = 50
    """Components of `z_what`."""
    glimpse_size: int = 28
    """Side of the attention window's crop, in pixels."""
    image_channels: tuple[int, ...] = ()
    """Channels of convolutions of stride 2 between the image and the guide's LSTM; Pyro's AIR has none."""
    image_features: int = 256
    """Features of the image, where there are convolutions."""
    rnn_hidden: int = 256
    """Units of the guide's LSTM."""
    head_hidden: tuple[int, ...] = (200,)
    """Hidden layers between LSTM and the parameters of presence and place."""
    encoder_hidden: tuple[int, ...] = (200,)
    """Hidden layers from the glimpse to the parameters of `z_what`."""
    decoder_hidden: tuple[int, ...] = (200,)
    """Hidden layers from `z_what` to the glimpse."""

    def __post_init__(self) -> None:
        checks.literals(self)
        checks.positive(self, "sketch_nats")
        checks.not_negative(self, "refine_looks", "sketch_from")
        checks.positive(self, "image_shape", "max_count", "what_size", "glimpse_size", "image_channels")
        checks.positive(self, "image_features", "rnn_hidden")
        checks.positive(self, "head_hidden", "encoder_hidden", "decoder_hidden")


@dataclass(frozen=True)
class PriorConfig:
    """The prior on objects, and the likelihood."""

    count_ratio: float = 0.01
    """Ratio of the geometric prior of the number of objects at the start: what another object costs."""
    final_count_ratio: float | None = 0.5
    """Ratio at the end of its schedule; with `none` it stays, as in Pyro. Once objects have found their
    places, cheaper ones keep the decoder from drawing two that overlap as one.
    """
    anneal_from: float = 0.2
    """Share of training after which the ratio begins to change, geometrically."""
    anneal_to: float = 0.6
    """Share of training at which it has reached its end."""
    inverse_scale: float = 3.0
    """Prior mean of the image's side over the object's."""
    inverse_scale_std: float = 0.2
    """Its standard deviation."""
    likelihood_scale: float = 0.3
    """Standard deviation of the pixels."""

    def __post_init__(self) -> None:
        checks.within("(0, 1]", self, "count_ratio", "final_count_ratio")
        checks.not_negative(self, "anneal_from", "anneal_to")
        checks.ordered(self, "anneal_from", "anneal_to")
        checks.positive(self, "inverse_scale", "inverse_scale_std", "likelihood_scale")


@dataclass(frozen=True)
class AIRConfig(RunConfig):
    """Train AIR to count, locate and draw the objects of images, and evaluate it on held-out ones."""

    MOST_USED: ClassVar[tuple[str, ...]] = (
        "output",
        "resume",
        "overwrite",
        "data.source",
        "auto",
        "data.image_size",
        "network.max_count",
        "prior.inverse_scale",
        "estimator",
        "training.steps",
        "training.seed",
        "device",
    )

    output: Path = runtime_field(Path("runs/air"))
    auto: bool = False
    """Look at the images first, and choose from that what is done to them, how large objects and glimpses
    are, how many there are, and what they are worth. What is set by an option stays.
    """
    keep: tuple[str, ...] = runtime_field(())
    """Names of settings that `auto` leaves as they are, as `prior.likelihood_scale`. Options that are given
    are among them.
    """
    compile: bool = runtime_field(False)
    """Compile the networks with `torch.compile`; starting then takes a minute longer."""
    validate: bool = runtime_field(False)
    """Let Pyro check the parameters and values of all distributions at every step: slower, for debugging."""
    estimator: Estimator = "marginal"
    """How presence is learned: exactly, by summing over the number of objects (`marginal`), or by sampling:
    with several particles `vimco`, `ovis`, `wake_sleep` (the guide has an objective of its own) and
    `sqair_code` (what SQAIR's authors compute, biased); `nvil` (with a learned baseline), `reinforce`.
    """
    continuous: Continuous = "pathwise"
    """Gradient of places and looks, for `vimco`, `ovis` and `sqair_code`: reparameterised; without the part
    of mean 0 (sticking the landing, biased); or doubly reparameterised.
    """
    particles: int = 1
    """Particles of the objective; estimators that compare them need at least 2."""
    batch_size: int = 64
    """Images in a step, of all processes together."""
    exploration: float = 0.1
    """Share of the guide's decisions on presence that a fair coin takes at the start; it falls linearly to
    zero. Without it a slot that is never used never learns, and pairs that overlap stay one object.
    """
    exploration_end: float = 0.6
    """Share of training at which it has reached zero."""
    learning_rate: float = 2e-3
    """Learning rate of Adam at the start; Pyro uses 1e-4 throughout, and ten times as many steps."""
    final_learning_rate: float = 1e-4
    """Learning rate at the last step; the decay is exponential."""
    baseline_learning_rate: float = 1e-3
    """Learning rate of the baseline, for `nvil`; it decays by the same factor."""
    iwae_particles: int = runtime_field(100)
    """Particles of the importance-weighted bound that the evaluation reports."""
    monitor_images: int = runtime_field(1_000)
    """Held-out images on which counting is measured during training."""
    monitor_particles: int | None = runtime_field(None)
    """Particles of the importance-weighted bound that is measured on them too; by default it is not."""
    data: DataConfig = DataConfig()
    """The images."""
    network: NetworkConfig = NetworkConfig()
    """The networks."""
    prior: PriorConfig = PriorConfig()
    """The prior."""
    training: TrainingConfig = TrainingConfig(steps=20_000, evaluate_every=1_000)
    """The training loop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive(self, "particles", "batch_size", "iwae_particles", "monitor_images")
        checks.positive(self, "monitor_particles", "learning_rate", "final_learning_rate")
        checks.positive(self, "baseline_learning_rate")
        checks.ordered(self, "final_learning_rate", "learning_rate")
        checks.share(self, "exploration")
        checks.not_negative(self, "exploration_end")
        if self.estimator in COMPARING and self.particles < 2:
            raise ValueError(
                f"`estimator` {self.estimator} compares particles: set `particles` to 2 or more, "
                "for example 5"
            )
        check_continuous(self.estimator, self.continuous)
        if self.estimator == "nvil" and self.network.discovery == "evidence":
            raise ValueError(
                "`estimator` nvil has a baseline that goes with `network.discovery` learned, got evidence"
            )


PRESETS = {
    # One thread is 40 % slower than two on an idle machine, and many times faster on a busy one.
    "demo": AIRConfig(
        output=Path("runs/demo"),
        threads=1,
        data=DataConfig(train_images=20_000, test_images=2_000),
        training=TrainingConfig(steps=4_000, evaluate_every=500),
    ),
    "multi-mnist": AIRConfig(output=Path("runs/multi-mnist"), data=DataConfig(source="mnist")),
    # What is seen apart from the start needs no cheap objects to come apart, and dear ones are not pieces.
    "multi-mnist-evidence": AIRConfig(
        output=Path("runs/multi-mnist-evidence"),
        data=DataConfig(source="mnist"),
        network=NetworkConfig(discovery="evidence", sketch_from=0.5),
        prior=PriorConfig(final_count_ratio=None),
    ),
    # Eslami et al. anneal the prior from "objects are free" to "objects are dear"; the schedule is the one
    # their readers report, of 100,000 steps.
    "eslami": AIRConfig(
        output=Path("runs/eslami"),
        data=DataConfig(source="mnist"),
        prior=PriorConfig(count_ratio=1.0, final_count_ratio=1e-7, anneal_from=0.003, anneal_to=1 / 3),
        estimator="nvil",
        exploration=0.0,
        learning_rate=1e-4,
        final_learning_rate=1e-4,
        training=TrainingConfig(steps=300_000, evaluate_every=5_000, checkpoint_every=5_000),
    ),
}
