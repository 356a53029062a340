"""How SQAIR is made and trained, and the settings that have a name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from whatwhere import checks
from whatwhere.checks import FieldError
from whatwhere.examples.common.user_code import check_name
from whatwhere.examples.common.video_models import DataConfig
from whatwhere.examples.common.video_training import VideoModelConfig
from whatwhere.examples.parts.warm_start_config import (
    FramesConfig,
    HeldConfig,
    LooksConfig,
    MotionConfig,
    WarmStartConfig,
)
from whatwhere.inference.training import TrainingConfig, runtime_field
from whatwhere.models.components import Contrast


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the networks, those of the authors' MLP-SQAIR unless said otherwise."""

    variant: Literal["mlp", "conv"] = "mlp"
    """Encoders and decoder: multi-layer perceptrons or convolutions. The paper's CONV-SQAIR also has `hidden`
    128 and `presence_hidden` 64, see the preset `conv`.
    """
    image_shape: tuple[int, int, int] | None = None
    """Channels, height and width of a frame; by default those of the training videos."""
    max_count: int = 3
    """Slots: most objects the model can see in a frame."""
    what_size: int = 50
    """Components of `z_what`."""
    glimpse_size: int = 20
    """Side of the attention window's crop, in pixels."""
    hidden: int = 256
    """Units of the recurrent networks and of most hidden layers."""
    narrow: int = 128
    """Units of the hidden layers of propagation's proposal and mask, and of the prior of places."""
    presence_hidden: int = 128
    """Units of the hidden layer of the presence networks."""
    what_hidden: int | None = None
    """Units of the hidden layers of the glimpses' encoder and decoder (`mlp`), by default `hidden`."""
    reach: float = 1.0
    """How far a window's centre may be from the middle of the frame, whose border is at 1. The published 1
    keeps centres inside; with 2, objects may leave.
    """
    where_floor: float = 0.01
    """Least standard deviation of places in the guide. The published 0.01 is jitter of a quarter of a pixel
    in frames of 50, which costs up to 18 nats a frame and digit; 0.001 costs none.
    """
    clamp: bool = False
    """Whether the canvas is clamped to [0, 1], where frames are."""
    background: Literal["learned", "fixed", "none", "static", "vae", "camera"] = "learned"
    """The mean image where objects are, which starts as that of the training frames: learned, kept, or left
    out. Or what is behind all of the frame, to which objects are added: an image of the camera (`static`),
    which starts as the median over time, or one that changes by ten numbers a frame (`vae`); or, of frames
    that are parts of a camera's (`camera`), that part of its image which fits best, and objects are brighter
    or darker than it.
    """
    camera: tuple[int, int] | None = None
    """Height and width of that camera's image; by default those of the training video's frames."""
    contrast: float = 1.0
    """Difference to the camera's image, of grey values in [0, 1], of the brightest objects, which is white to
    those who look for them, see `models.components.Contrast`. `auto` finds it.
    """
    layers: bool = False
    """Whether objects hide each other, in an order of depths `z_depth` that is inferred, and hide what is
    behind them, see `models.LayeredDecoder`; otherwise they are added.
    """
    second_look: bool = False
    """Whether discovery corrects places by a crop of them."""
    explain_away: bool = False
    """Whether discovery looks at each object in what the others have not drawn, see
    `guides.ExplainingDiscovery`; if it is by `evidence`, in evaluation, see `guides.EvidenceDiscovery`.
    """
    hindsight: int = 0
    """Frames that are looked at in evaluation before the objects of the first are drawn, which may touch
    there and come apart later, see `guides.hindsight`; for what explains away.
    """
    refine_looks: int = 0
    """Steps by which looks are corrected on discovery, given what their picture leaves of the frame, see
    `guides.RefinedLooks`: for what is `learned` and explains away, four times as many in evaluation; for
    `evidence`, in evaluation only.
    """
    refine_frames: float = 10.0
    """Number of frames that looks are drawn for: as many as a video has where they stay as they are."""
    looks: Literal["redrawn", "static", "sticky"] = "redrawn"
    """Appearance of known objects: drawn anew in every frame; drawn on discovery and kept; or small steps."""
    look_gate: float = -2.0
    """Logit of the share of what is seen anew that sticky looks take over in a frame, at first: -2 is an
    eighth. Living things change: with 3 they are seen anew.
    """
    look_scale: float = 0.05
    """Standard deviation of the steps of sticky looks, at first."""
    discovery: Literal["learned", "evidence", "grid"] = "learned"
    """How the guide finds new objects: by a network that sees the whole frame, as published; where something
    is left to explain, see `guides.EvidenceDiscovery`; or in the cells of a grid, all at once, of which the
    model knows too, see `models.GridDiscovery`.
    """
    cells: int = 4
    """Rows and columns of that grid."""
    follow: Literal["learned", "tracked"] = "learned"
    """How the guide follows objects: by networks that learn to, as published, or by searching for the
    decoder's picture of each, see `guides.TrackingPropagation`.
    """
    search: int = 24
    """How far `tracked` searches for an object in each direction, in samples of its glimpse: as far as one
    goes from a frame to the next, or while it is out of sight. What is farther away is not taken for it.
    """
    far: int = 0
    """How far `tracked` searches, likewise, for an object that it has not found there, in what no other
    object explains, so that what jumps is found again; 0 is not at all. Not while training.
    """
    trust: float = 0.5
    """How far `tracked` believes the fit of a picture beside what the prior of motion says when it searches:
    less where looks change from frame to frame, so that an object's own picture fits it no better than
    another object.
    """
    anywhere: bool = False
    """Whether objects move and are followed alike wherever they are in a frame: the networks of `motion` and
    `tracked` are not told. In parts of a larger scene a place means nothing.
    """
    stay: float | None = None
    """Share of `prior.price` that an object must explain of a frame for `tracked` to keep it, at first, see
    `guides.TrackingPropagation`; by default it is kept at first whatever it explains.
    """
    least: float | None = None
    """What a new object must explain of a frame when `evidence` discovery is evaluated, in units of
    `prior.price`: more than its price, or what is larger than any seen in training falls to pieces. By
    default its network decides alone, see `guides.EvidenceDiscovery`.
    """
    larger: float | None = None
    """Side over that of the expected window of a larger one that `evidence` discovery tries, too, when it is
    evaluated: for what is nearer to the camera than anything in training. By default there is none, nor
    where `perspective` says how large an object is.
    """
    size_limits: tuple[float, float] | None = None
    """Least and greatest size of a window over `prior.object_size`, see `models.components.SquashedWindows`:
    so that objects that stay side by side are not one of twice the width. By default there are none.
    """
    widest: float | None = None
    """Greatest width over height of a window, over that of `prior.object_size`: so that objects side by side
    are not one that is nearer to the camera. By default any.
    """
    perspective: tuple[float, float] | None = None
    """Of whole frames of a camera that stands still, for a model of parts of them: heights in the frame, from
    -1 at the top to 1, of the horizon and of the row where objects have the size of training; they are the
    larger, the farther below the horizon, see `models.components.PerspectiveWindows`.
    """
    relook: float = 0.0
    """Share of the way that `tracked` goes in each frame to where discovery by evidence would put a window
    around the object, so that sizes follow what is seen, see `guides.TrackingPropagation`.
    """
    measured_in: tuple[int, int] | None = None
    """Height and width of the frames in whose units places and sizes are measured; by default those of
    `image_shape`. A model of crops is one of whole frames, see `fitted_to`.
    """

    def __post_init__(self) -> None:
        checks.at_least(2, self, "measured_in", "camera")
        checks.literals(self)
        checks.positive(self, "image_shape", "max_count", "what_size", "glimpse_size", "search", "cells")
        checks.positive(self, "hidden", "narrow", "presence_hidden", "what_hidden")
        checks.positive(self, "reach", "where_floor", "stay", "least", "look_scale", "refine_frames")
        checks.not_negative(self, "refine_looks", "hindsight")
        if self.hindsight and (self.behind or not self.explain_away or self.discovery != "learned"):
            raise ValueError(
                '`hindsight` is for `discovery` "learned" with `explain_away`, without static or vae '
                f"`background`, got {self.discovery!r}, {self.explain_away} and {self.background!r}"
            )
        if self.explain_away and self.discovery == "grid":
            raise ValueError('`explain_away` is for `discovery` "learned" or "evidence", got \'grid\'')
        if self.refine_looks and not self.explain_away and self.discovery != "evidence":
            raise ValueError(
                f'`refine_looks` is for `explain_away`, or `discovery` "evidence", got {self.discovery!r}'
            )
        checks.share(self, "relook")
        checks.not_negative(self, "far")
        checks.positive(self, "trust")
        if self.relook > 0 and (self.discovery, self.follow) != ("evidence", "tracked"):
            raise ValueError(
                '`relook` is for `discovery` "evidence" and `follow` "tracked", '
                f"got {self.discovery!r} and {self.follow!r}"
            )
        for name in ("least", "larger"):
            if getattr(self, name) is not None and self.discovery != "evidence":
                raise ValueError(f'`{name}` is for `discovery` "evidence", got {self.discovery!r}')
        checks.within("(1, 2]", self, "larger")
        checks.positive(self, "size_limits")
        checks.at_least(1, self, "widest")
        if self.size_limits is not None and not self.size_limits[0] < 1 < self.size_limits[1]:
            raise FieldError("size_limits", "must be a number below 1 and one above it", self.size_limits)
        checks.within("(0, 1]", self, "contrast")
        if self.contrast != 1 and self.background != "camera":
            raise ValueError(f'`contrast` is for `background` "camera", got {self.background!r}')
        checks.finite(self, "perspective")
        if self.perspective is not None and not self.perspective[0] < self.perspective[1]:
            raise FieldError(
                "perspective", "must be a horizon and a row below it, that is more", self.perspective
            )
        checks.finite(self, "look_gate")
        if self.layers and self.background in ("learned", "fixed"):
            raise ValueError(
                "`layers` draw no mean image: set `background` to none, static or vae, "
                f"got {self.background!r}"
            )
        if self.discovery == "grid" and self.cells**2 < self.max_count:
            raise ValueError(
                f"`cells` must be so many that their square is at least `max_count` = {self.max_count}, "
                f"got {self.cells}"
            )

    @property
    def behind(self) -> bool:
        """Whether objects are added to a background of the whole frame."""
        return self.background in ("static", "vae", "camera")

    @property
    def seen_contrast(self) -> Contrast:
        """How objects stand out from the image of a camera that is known."""
        return Contrast(self.contrast)

    @property
    def channels(self) -> int:
        """Channels of what objects are looked for in, and of their glimpses."""
        assert self.image_shape is not None  # as wherever programs are made
        return self.image_shape[0] * (2 if self.background == "camera" else 1)


@dataclass(frozen=True)
class PriorConfig:
    """The priors, and the likelihood."""

    propagation: Literal[
        "recurrent", "guided", "random_walk", "relational", "motion", "relational-motion"
    ] = "recurrent"
    """How objects go on: predicted from their past; moved from where they are; a random walk; predicted from
    their past and that of the others (`relational`), of which the guide knows too; or a mixture of going on,
    staying and bouncing (`motion`), for looks that are not redrawn, which may know of the others too
    (`relational-motion`).
    """
    stay_logit: float = 10.0
    """Added to the prior's logit of staying."""
    where: Literal["recurrent", "fixed"] = "recurrent"
    """Places of new objects: learned, each given the one before; or the same normal for all."""
    what: Literal["normal", "flow"] = "normal"
    """Appearances of new objects: a standard normal; or learned, see `models.priors.FlowPrior`."""
    price: float | None = None
    """What each new object costs in nats, in every frame (a geometric prior of their number); by default the
    prior of their number is learned.
    """
    object_size: tuple[float, float] | None = None
    """Height and width in pixels of the window of a new object, the mean of their prior; in place of
    `size_logit`.
    """
    size_logit: float = -2.0
    """Mean logit of the sizes of new objects, relative to the frame, at first if learned; -2 is 0.12."""
    size_scale: float | None = None
    """Standard deviation of these logits; by default 1.32 at first (`recurrent`), or 1 (`fixed`)."""
    size_range: float | None = None
    """How far the guide's mean of them may be from theirs when an object is found, see `guides.Discovery`.
    """
    size_pull: float = 0.0
    """Share of the difference from the mean size of new objects by which sizes go back to it in each frame,
    of `motion`. Without it objects that stand beside others grow in long videos until they are both.
    """
    size_step: float | None = None
    """Standard deviation of the change of sizes in a frame, of `motion`, at first; by default small, for
    objects that keep their size.
    """
    shift_scale: float | None = None
    """Standard deviation of the places of new objects, with the same defaults."""
    likelihood_scale: float = 0.3
    """Standard deviation of the pixels, or of contrasts to a camera's image."""
    truncate: bool = True
    """Whether no more is discovered than there are free slots; in the authors' code it is not so."""

    def __post_init__(self) -> None:
        checks.literals(self)
        checks.finite(self, "stay_logit", "size_logit")
        checks.positive(self, "object_size", "size_scale", "size_range", "size_step", "shift_scale")
        checks.positive(self, "likelihood_scale")
        checks.not_negative(self, "price")
        checks.share(self, "size_pull")


@dataclass(frozen=True)
class SQAIRConfig(VideoModelConfig):
    """Train SQAIR to find and follow the objects of videos, and evaluate it on held-out ones."""

    MOST_USED: ClassVar[tuple[str, ...]] = (
        "output",
        "resume",
        "overwrite",
        "initial",
        "data.source",
        "auto",
        "first_frames",
        "frames",
        "network.max_count",
        "training.steps",
        "training.minutes",
        "training.seed",
        "device",
    )

    output: Path = runtime_field(Path("runs/sqair"))
    auto: bool = False
    """Look at the videos first, and choose from that what is done to them, how large objects and glimpses
    are, how many there are, and what they are worth. What is set by an option stays. For real
    video together with the preset `video`.
    """
    keep: tuple[str, ...] = runtime_field(())
    """Names of settings that `auto` leaves as they are, as `prior.likelihood_scale`. Options that are given
    are among them.
    """
    initial: Path | None = None
    """A checkpoint to start from, of networks of the same sizes; only its parameters are taken."""
    active_set: bool | None = runtime_field(None)
    """Run networks only on slots where there is an object: the same numbers, faster on a CPU, slower on a
    GPU. By default on the CPU.
    """
    model: Literal["sqair", "air"] = "sqair"
    """SQAIR, or AIR with SQAIR's discovery and decoder, for which every frame is the first: its objective is
    that of single frames.
    """
    estimator: Literal["vimco", "sqair_code"] = "vimco"
    """Gradient of presence: unbiased (`vimco`), or what the authors' code computes."""
    particles: int = 5
    """Particles of the objective, at least 2."""
    first_frames: int = 3
    """Frames of each video at the start of training."""
    hold_steps: int = 0
    """Steps after each lengthening during which objects are held on to: for the first half of them those of
    the first frame stay and nothing new is discovered, then in a falling share of decisions. A start at one
    frame needs it, see `guides.SQAIRGuide`.
    """
    motion_rate: float = 1.0
    """Learning rate of how objects move in the motion prior, as a factor, in the training proper. At 0 it
    stays as `warm_start` has fitted it: where objects vanish and come back, to believe in jumps out of sight
    and back again would be cheaper than to discover them anew.
    """
    decay_parts: tuple[int, ...] = (4, 6, 10)
    build: str | None = None
    """A function of your own that makes the model and the guide, `package.module:function`, looked for in the
    current folder first. It is called with this configuration and the image that a background starts from,
    and returns the two, see `docs/new_model.md`.
    """
    network: NetworkConfig = NetworkConfig()
    """The networks."""
    prior: PriorConfig = PriorConfig()
    """The priors."""
    warm_start: WarmStartConfig = WarmStartConfig()
    """Stages before the training proper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.at_least(2, self, "particles")
        checks.not_negative(self, "hold_steps", "motion_rate")
        if self.motion_rate != 1 and (self.model == "air" or self.prior.propagation != "motion"):
            raise FieldError(
                "motion_rate", "needs `model` sqair with `prior.propagation` motion", self.motion_rate
            )
        check_name("build", self.build)
        warm = self.warm_start
        if self.model == "air" and warm.motion.share + warm.held.share + warm.refit.share > 0:
            raise ValueError("`warm_start.motion`, `held` and `refit` are for SQAIR: AIR has no motion")
        if self.network.discovery == "grid" and self.prior.where != "fixed":
            raise ValueError(
                "`network.discovery` grid is for places that are the same for all: `prior.where` fixed"
            )
        if self.network.discovery == "grid" and self.warm_start.share > 0:
            raise ValueError("`warm_start` sums out objects one after the other, which a grid has not")
        behind = self.network.background
        if self.network.behind and self.model == "air":
            raise ValueError("`network.background` static, vae or camera is for SQAIR: AIR has none")
        if behind in ("static", "vae") and self.warm_start.share > 0:
            raise ValueError(
                "`network.background` static or vae is for SQAIR without `warm_start`: what learns from "
                "single frames knows no background"
            )
        if behind == "camera" and (self.network.discovery == "grid" or self.warm_start.held.share > 0):
            raise ValueError(
                "`network.background` camera is neither for `network.discovery` grid nor for the stage `held`"
            )
        if self.network.layers and self.warm_start.held.share > 0:
            raise ValueError("`network.layers` is not for the stage `held`, which does not know of depths")


_PAPER = SQAIRConfig(output=Path("runs/sqair-paper"), data=DataConfig(source="mnist"))


_GLYPHS = SQAIRConfig(
    output=Path("runs/sqair-glyphs"),
    threads=1,
    frames=3,
    optimizer="adam",
    learning_rate=3e-4,
    decay_parts=(3, 1),
    training=TrainingConfig(steps=8_000, evaluate_every=500, clip_norm=100.0),
)


_FAST = SQAIRConfig(
    output=Path("runs/sqair-mnist"),
    threads=1,
    first_frames=10,
    optimizer="adam",
    learning_rate=2e-5,
    decay_parts=(1, 1, 1),
    monitor_videos=200,
    data=DataConfig(source="mnist"),
    warm_start=WarmStartConfig(
        frames=FramesConfig(share=0.12, size_logit=-0.1),
        looks=LooksConfig(share=0.28),
        again=FramesConfig(
            share=0.08,
            learning_rate=5e-4,
            first_weight=10.0,
            weight=10.0,
            rise=(0.0, 0.0),
            exploration=0.0,
            size_logit=-0.1,
            size_scale=0.1,
            looks_rate=0.2,
        ),
        motion=MotionConfig(share=0.06, videos=4_000),
        held=HeldConfig(share=0.40, price=40.0),
    ),
    network=NetworkConfig(
        glimpse_size=24,
        what_hidden=512,
        reach=2.0,
        where_floor=0.001,
        clamp=True,
        background="none",
        second_look=True,
        explain_away=True,
        hindsight=4,
        refine_looks=2,
        looks="static",
        follow="tracked",
        far=40,
    ),
    # A window of 23 pixels of 50, and hardly another one: digits are of one size.
    prior=PriorConfig(
        propagation="motion",
        what="flow",
        size_logit=-0.1,
        size_scale=0.2,
        size_range=0.1,
        shift_scale=0.7,
    ),
    training=TrainingConfig(
        steps=100_000, minutes=50.0, clock="cpu", clip_factor=2.0, evaluate_every=500, checkpoint_minutes=2.0
    ),
)


_VIDEO = SQAIRConfig(
    output=Path("runs/sqair-video"),
    threads=1,
    batch_size=16,
    first_frames=3,
    frames=3,
    optimizer="adam",
    learning_rate=3e-4,
    decay_parts=(1, 1, 1),
    monitor_videos=100,
    warm_start=WarmStartConfig(
        frames=FramesConfig(
            share=0.6,
            learning_rate=1.5e-3,
            final_learning_rate=1.5e-4,
            first_weight=0.2,
            weight=1.0,
            price=44.0,
            exploration=0.1,
            exploration_decay=0.2,
            size_logit=None,
            size_scale=None,
        ),
    ),
    network=NetworkConfig(
        glimpse_size=16,
        reach=4.0,
        where_floor=0.001,
        clamp=True,
        background="none",
        discovery="evidence",
        looks="sticky",
        look_gate=3.0,
        look_scale=0.3,
        follow="tracked",
        far=40,
        trust=0.03,
        relook=0.3,
        anywhere=True,
        stay=0.5,
        least=2.5,
        larger=1.4,
    ),
    prior=PriorConfig(
        propagation="motion",
        where="fixed",
        price=100.0,
        object_size=(16.0, 16.0),
        size_scale=0.2,
        size_step=0.2,
        shift_scale=0.7,
        likelihood_scale=0.1,
    ),
    training=TrainingConfig(
        steps=100_000, minutes=5.0, clock="cpu", clip_factor=2.0, evaluate_every=500, checkpoint_minutes=1.0
    ),
)


# The three below are made of this project's parts as the models of that name are made of theirs; they are not
# those models, whose presences are numbers between 0 and 1, and whose sizes are others.
_SCALOR = SQAIRConfig(
    output=Path("runs/scalor-like"),
    threads=1,
    batch_size=16,
    particles=3,
    first_frames=2,
    frames=10,
    stage_steps=500,
    hold_steps=200,
    optimizer="adam",
    learning_rate=3e-4,
    decay_parts=(3, 1),
    monitor_videos=100,
    data=DataConfig(source="spmot"),
    network=NetworkConfig(
        max_count=5,
        what_size=16,
        glimpse_size=16,
        hidden=128,
        narrow=64,
        presence_hidden=64,
        reach=1.5,
        background="vae",
        layers=True,
        discovery="grid",
        looks="sticky",
    ),
    prior=PriorConfig(
        propagation="guided",
        where="fixed",
        object_size=(14.0, 14.0),
        size_scale=0.2,
        likelihood_scale=0.2,
    ),
    training=TrainingConfig(steps=20_000, evaluate_every=500, clip_factor=2.0, checkpoint_minutes=2.0),
)


_GSWM = replace(
    _SCALOR,
    output=Path("runs/gswm-like"),
    data=DataConfig(source="balls-interaction"),
    network=replace(_SCALOR.network, max_count=4),
    prior=replace(_SCALOR.prior, propagation="relational", object_size=(18.0, 18.0)),
)


_AGAIN = replace(
    _VIDEO.warm_start.frames,
    share=0.15,
    learning_rate=5e-4,
    final_learning_rate=1e-4,
    first_weight=1.0,
    price=None,  # that of the model
    exploration=0.0,
)

_SPRITES = replace(
    _VIDEO,
    output=Path("runs/sprites"),
    data=DataConfig(source="spmot"),
    warm_start=WarmStartConfig(
        frames=replace(_VIDEO.warm_start.frames, share=0.25, price=600.0),
        looks=LooksConfig(share=0.2, frames=8_000, weight=3.0),
        again=_AGAIN,
    ),
    # They move by three pixels a frame, and look alike: what is farther away is another one. What others hide
    # for the most part stays.
    network=replace(
        _VIDEO.network,
        max_count=3,
        layers=True,
        relook=0.0,
        search=8,
        far=0,
        trust=0.02,
        stay=0.1,
        least=None,
        larger=None,
    ),
    prior=replace(_VIDEO.prior, price=1_500.0, size_step=0.02),
    training=replace(_VIDEO.training, minutes=18.0),
)

_BALLS = replace(
    _SPRITES,
    output=Path("runs/balls"),
    learning_rate=1e-5,  # at 3e-4 the last minute undoes a fifth of what `motion` has learned
    first_frames=12,
    frames=12,
    data=DataConfig(source="balls-interaction"),
    warm_start=WarmStartConfig(
        frames=replace(_SPRITES.warm_start.frames, share=0.14, price=700.0),
        looks=replace(_SPRITES.warm_start.looks, share=0.1, frames=4_000),
        again=replace(_AGAIN, share=0.06),
        motion=MotionConfig(share=0.62, videos=3_000),
    ),
    network=replace(_SPRITES.network, layers=False, looks="static", anywhere=False),
    prior=replace(_SPRITES.prior, propagation="relational-motion", object_size=(20.0, 20.0)),
    training=replace(_SPRITES.training, minutes=15.0),
)

_OCCLUSION = replace(
    _BALLS,
    output=Path("runs/balls-occlusion"),
    data=DataConfig(source="balls-occlusion"),
    network=replace(_BALLS.network, layers=True),
    prior=replace(_BALLS.prior, propagation="motion"),
)


PRESETS = {
    # Adam learns in thousands of steps what RMSProp at the published learning rate does in hundreds of
    # thousands. Three frames from the start: a guide that has seen two at most gives up propagation when the
    # third comes, unless it is held on to.
    "glyphs": _GLYPHS,
    "glyphs-10": replace(
        _GLYPHS,
        output=Path("runs/sqair-glyphs-10"),
        initial=_GLYPHS.output / "checkpoint.pt",
        first_frames=4,
        frames=10,
        stage_steps=150,
        hold_steps=60,
        training=replace(_GLYPHS.training, steps=1_500, evaluate_every=150, checkpoint_every=250),
    ),
    "from-one-frame": replace(
        _GLYPHS,
        output=Path("runs/sqair-from-one-frame"),
        first_frames=1,
        stage_steps=1_500,
        hold_steps=600,
        training=replace(_GLYPHS.training, steps=9_000),
    ),
    "mnist-fast": _FAST,
    # Objects of a few pixels on black: `prior` and slots are to be fitted to them, as `auto` does.
    "video": _VIDEO,
    "paper": _PAPER,
    "authors": replace(
        _PAPER,
        output=Path("runs/sqair-authors"),
        estimator="sqair_code",
        prior=PriorConfig(truncate=False),
    ),
    # Sprites that come and go, found in the cells of a grid, in layers before a background.
    "scalor-like": _SCALOR,
    # Coloured sprites that come and go and hide each other, by the evidence: Sprites-MOT.
    "sprites": _SPRITES,
    # Balls that collide: most of the time is for the prior of motion, which knows of the others.
    "balls": _BALLS,
    # Balls that hide each other and do not collide: in layers, with a prior of motion that knows of walls.
    "balls-occlusion": _OCCLUSION,
    # Balls that collide: the same with objects that know of each other.
    "gswm-like": _GSWM,
    # SQAIR with objects that know of each other, of model and guide.
    "r-sqair-like": replace(
        _GLYPHS,
        output=Path("runs/r-sqair-like"),
        prior=replace(_GLYPHS.prior, propagation="relational"),
    ),
    "conv": replace(
        _PAPER,
        output=Path("runs/sqair-conv"),
        network=NetworkConfig(variant="conv", hidden=128, presence_hidden=64),
    ),
}
