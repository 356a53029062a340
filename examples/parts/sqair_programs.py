"""SQAIR's model and guide, or AIR's with its parts, made of a configuration."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from whatwhere.examples.common.program import UsageError
from whatwhere.examples.common.user_code import call_named
from whatwhere.examples.parts.sqair_config import NetworkConfig, PriorConfig, SQAIRConfig
from whatwhere.examples.parts.sqair_grid import grid_of_guide, grid_of_model
from whatwhere.guides import (
    BackgroundGuide,
    BackgroundVAEGuide,
    CameraBackgroundGuide,
    Discovery,
    EvidenceDiscovery,
    ExplainingDiscovery,
    FurtherLatents,
    Propagation,
    RefinedLooks,
    SecondLook,
    SequenceAIRGuide,
    SlotDiscovery,
    SQAIRGuide,
    StaticBackgroundGuide,
    StaticLooks,
    StickyLooks,
    TrackingPropagation,
    WhatEncoder,
)
from whatwhere.guides.evidence_discovery import SKETCH_NATS
from whatwhere.models.background import Background, BackgroundVAE, CameraBackground, StaticBackground
from whatwhere.models.components.active_set import ActiveSet, use_active_set
from whatwhere.models.components.cells import Cells
from whatwhere.models.components.messages import Messages
from whatwhere.models.components.networks import ConvFeatures, SubPixelGlimpseDecoder, convolutions, mlp
from whatwhere.models.components.windows import PerspectiveWindows, SquashedWindows
from whatwhere.models.discovery import ChainDiscovery
from whatwhere.models.grid_discovery import GridDiscovery
from whatwhere.models.layered_decoder import LayeredDecoder
from whatwhere.models.priors import (
    DiscoveryCountPrior,
    DiscoveryWherePrior,
    FixedCountPrior,
    FixedWherePrior,
    FlowPrior,
    GeometricCount,
    GuidedPropagationPrior,
    MotionPrior,
    NormalPrior,
    PropagationPrior,
    RecurrentPropagationPrior,
    RelationalPropagationPrior,
    StaticLooksPrior,
    StickyLooksPrior,
    WithFurther,
    WithLooks,
)
from whatwhere.models.sequence_air import SequenceAIR
from whatwhere.models.sqair import SQAIR, LatentEncoder, LinearGlimpseDecoder, SceneDecoder

_CORRECTION = (0.3, 0.3, 0.1, 0.1)
"""Units of the second look's correction, where sizes are proposed as expected and places as seen."""

_OUT_OF_SIGHT = 1.85
"""Shift at which an object is out of sight, see `MotionPrior`, measured in the frame."""


_DEPTH_STEP = 0.1
"""Standard deviation of changes of depth, at first."""


class Programs(NamedTuple):
    """Model and guide."""

    model: SQAIR
    guide: SQAIRGuide


class AIRPrograms(NamedTuple):
    """Model and guide of single frames."""

    model: SequenceAIR
    guide: SequenceAIRGuide


def programs_of(config: SQAIRConfig, mean_image: Tensor | None = None) -> Programs | AIRPrograms:
    """Make the model and the guide of a configuration whose `network.image_shape` is known.

    AIR is what SQAIR has for the first frame.

    Args:
        config: of the run.
        mean_image: what the model's mean image starts from, black by default.

    Raises:
        UsageError: the user's own function, `config.build`, failed.
    """
    if config.build is not None:
        return _users(config, mean_image)
    explores = config.warm_start.explores
    programs = build(config.network, config.prior, mean_image, config.hold_steps > 0, explores)
    if config.model == "sqair":
        return programs
    model, guide = programs
    single = SequenceAIR(
        model.discovery, model.decoder, model.latent_encoder.size, config.prior.likelihood_scale
    )
    return AIRPrograms(single, SequenceAIRGuide(guide.discovery, guide.image_shape))


def _users(config: SQAIRConfig, image: Tensor | None) -> Programs | AIRPrograms:
    """What a user's function makes; it runs, so its name must be from the command line."""
    assert config.build is not None
    assert config.network.image_shape is not None  # as wherever programs are made
    image = _black(config.network) if image is None else image
    made = call_named(config.build, config, image)
    if not isinstance(made, tuple) or len(made) != 2 or not all(isinstance(x, nn.Module) for x in made):
        raise UsageError(f"`{config.build}` must return a model and a guide, two modules, got {made!r:.80}")
    if isinstance(made[0], SQAIRGuide | SequenceAIRGuide):
        raise UsageError(f"`{config.build}` must return a model and a guide, got the guide first")
    return Programs(*made) if config.model == "sqair" else AIRPrograms(*made)


def _black(network: NetworkConfig) -> Tensor:
    """What the mean image, or that of the camera, starts from where a checkpoint has it."""
    assert network.image_shape is not None  # as wherever programs are made
    return torch.zeros(network.image_shape[0], *(network.camera or network.image_shape[1:]))


def fitted_to(
    config: SQAIRConfig, image_shape: tuple[int, int, int], max_count: int | None = None
) -> SQAIRConfig:
    """The configuration of a model with the same parameters for frames of another size, with other slots.

    Args:
        config: with the shape of the images.
        image_shape: channels, height and width of the frames.
        max_count: number of slots, by default as many as before.

    Raises:
        ValueError: if parameters depend on what is to change.
    """
    network, prior = config.network, config.prior
    assert network.image_shape is not None  # a trained model has one
    changed = replace(
        network,
        image_shape=image_shape,
        measured_in=network.measured_in or network.image_shape[1:],
        max_count=max_count or network.max_count,
    )
    reasons = []
    if image_shape != network.image_shape:
        reasons += [
            ("frames of another size", f"{field} is not {value!r}")
            for field, (value, *others), given in (
                ("network.discovery", ("evidence",), network.discovery),
                ("network.background", ("none", "camera"), network.background),
                ("prior.where", ("fixed",), prior.where),
            )
            if given not in (value, *others)
        ]
    whole = network.camera if network.background == "camera" else None
    if whole is not None and any(new > old for new, old in zip(image_shape[1:], whole, strict=True)):
        reasons.append((f"frames of {image_shape[1:]}", f"those of the camera that it knows have {whole}"))
    if image_shape[0] != network.image_shape[0]:
        reasons.append(("frames of other channels", f"glimpses have {network.image_shape[0]}"))
    if changed.max_count != network.max_count and prior.price is None:
        reasons.append(
            ("other slots", "the prior of the number of objects is learned: `prior.price` is none")
        )
    if reasons:
        raise ValueError("the model is not one for " + "; ".join(": ".join(reason) for reason in reasons))
    return replace(config, network=changed)


def refitted(
    config: SQAIRConfig,
    programs: Programs | AIRPrograms,
    image_shape: tuple[int, int, int],
    max_count: int | None = None,
) -> tuple[SQAIRConfig, Programs | AIRPrograms]:
    """A trained model and guide for frames of another size, or with another number of slots, see `fitted_to`.

    A model that was trained on parts of frames becomes one of whole frames.

    Args:
        config: of the programs.
        programs: trained.
        image_shape: channels, height and width of the frames.
        max_count: number of slots.
    """
    config = fitted_to(config, image_shape, max_count)
    return config, rebuilt(config, programs)


def rebuilt(config: SQAIRConfig, programs: Programs | AIRPrograms) -> Programs | AIRPrograms:
    """A trained model and guide by another configuration that has the same parameters."""
    changed = programs_of(config)
    for new, old in zip(changed, programs, strict=True):
        new.load_state_dict(old.state_dict())
        new.to(next(old.parameters()).device).train(old.training)
        use_active_set(new, on=any(each.active_set for each in old.modules() if isinstance(each, ActiveSet)))
    return changed


def build(
    network: NetworkConfig,
    prior: PriorConfig,
    mean_image: Tensor | None = None,
    hold: bool = False,
    exploration: bool = False,
) -> Programs:
    """Make SQAIR's model and guide, see `programs_of`.

    Args:
        network: sizes.
        prior: the priors.
        mean_image: what the model's mean image, or its background, starts from, black by default.
        hold: whether objects can be held on to, see `SQAIRGuide`.
        exploration: whether discovery's decisions can be mixed with a coin's, see `Discovery`.

    Raises:
        ValueError: if the shape of the images is not known, or `motion` is to redraw looks.
    """
    if network.image_shape is None:
        raise ValueError("`network.image_shape` is not known")
    image_shape, hidden = network.image_shape, network.hidden
    what = network.what_size
    glimpse_shape = (network.channels, network.glimpse_size, network.glimpse_size)
    seen_shape = (network.channels, *image_shape[1:])
    encoders = _encoders(network, glimpse_shape, seen_shape)
    what_encoder = WhatEncoder(encoders.glimpse, network.what_hidden or hidden, what)
    latent_encoder = LatentEncoder(what, hidden)
    windows = _windows(network, prior)
    if mean_image is None:
        mean_image = _black(network)
    background, background_guide = _background(network, mean_image)
    if network.background == "camera":
        mean_image = torch.zeros(seen_shape)
    depth = {"z_depth": NormalPrior.standard(1)} if network.layers else {}
    going_on: PropagationPrior = _propagation_prior(network, prior)
    if network.layers:
        going_on = WithFurther(going_on, z_depth=StickyLooksPrior(1, _DEPTH_STEP))
    model = SQAIR(
        going_on,
        _discovery_prior(network, prior, windows, depth),
        latent_encoder,
        _scene_decoder(network, glimpse_shape, mean_image, windows),
        prior.likelihood_scale * network.contrast,
        prior.truncate,
        background,
    )
    further = _further(network, model)
    propagation = _propagation(network, prior, model, what_encoder, hold, further)
    discovery: SlotDiscovery
    if network.discovery == "grid":
        sizes = size_logits(network, prior)
        cells = model.discovery.cells
        discovery = grid_of_guide(network, cells, model, what_encoder, sizes, hold, exploration, further)
    else:
        make = _discovery if network.discovery == "learned" else _evidence_discovery
        discovery = make(network, prior, model, encoders.image, what_encoder, hold, exploration, further)
    if isinstance(propagation, TrackingPropagation) and isinstance(discovery, EvidenceDiscovery):
        propagation.seen_again = discovery.place_at
    guide = SQAIRGuide(
        propagation,
        discovery,
        latent_encoder,
        image_shape,
        prior.truncate,
        background_guide,
        network.hindsight,
    )
    return Programs(model, guide)


def _discovery_prior(
    network: NetworkConfig, prior: PriorConfig, windows: SquashedWindows, depth: dict[str, NormalPrior]
) -> ChainDiscovery | GridDiscovery:
    """What the model says of new objects."""
    counts = _count_prior(network, prior)
    what = FlowPrior(network.what_size) if prior.what == "flow" else None
    if network.discovery == "grid":
        cells = Cells(network.cells, network.cells, windows)
        scales = prior.size_scale or 1.0, prior.shift_scale or 1.0
        return grid_of_model(network, cells, counts, size_logits(network, prior), scales, what, depth)
    return ChainDiscovery(counts, _where_prior(network, prior), network.what_size, what, **depth)


def _scene_decoder(
    network: NetworkConfig, glimpse_shape: tuple[int, int, int], mean_image: Tensor, windows: SquashedWindows
) -> SceneDecoder | LayeredDecoder:
    """How objects are put together."""
    if network.layers:
        channels, height, width = glimpse_shape
        covering = _decoder(network, (channels + 1, height, width))
        return LayeredDecoder(covering, (*mean_image.shape,), windows, contrast=network.seen_contrast)
    return SceneDecoder(
        _decoder(network, glimpse_shape),
        mean_image,
        windows=windows,
        clamp=network.clamp,
        background=_of_decoder(network),
        contrast=network.seen_contrast,
    )


def _further(network: NetworkConfig, model: SQAIR) -> FurtherLatents | None:
    """What infers depths."""
    if not network.layers:
        return None
    size = network.glimpse_size, network.glimpse_size
    pixels = model.decoder.mean_image.shape[0] * network.glimpse_size**2
    features = nn.Sequential(nn.Flatten(-3), mlp([pixels, network.narrow], nn.ELU, activate_last=True))
    return FurtherLatents(
        features, network.narrow, network.what_size, {"z_depth": 1}, size, windows=model.decoder.windows
    )


def _of_decoder(network: NetworkConfig) -> Literal["learned", "fixed", "none"]:
    """What the decoder draws of a background."""
    return network.background if network.background in ("learned", "fixed") else "none"


def _background(network: NetworkConfig, image: Tensor) -> tuple[Background | None, BackgroundGuide | None]:
    """What is behind the objects, of the model and of the guide, starting from an image `(C, H, W)`."""
    if not network.behind:
        return None, None
    if network.background == "camera":
        assert network.image_shape is not None
        # Training windows may be mirrored; frames that the model was fitted to afterwards are not.
        camera = CameraBackground(image, network.image_shape[1:], mirror=network.measured_in is None)
        return camera, CameraBackgroundGuide(camera, network.seen_contrast)
    if network.background == "static":
        static = StaticBackground(image)
        return static, StaticBackgroundGuide(static)
    changing, features = BackgroundVAE(image), ConvFeatures((*image.shape,), features=network.hidden)
    return changing, BackgroundVAEGuide(changing, features, network.hidden)


def _discovery(
    network: NetworkConfig,
    prior: PriorConfig,
    model: SQAIR,
    image_encoder: nn.Module,
    what_encoder: WhatEncoder,
    hold: bool,
    exploration: bool,
    further: FurtherLatents | None,
) -> Discovery:
    """Finds new objects by what a network sees of the whole frame."""
    size, windows = (network.glimpse_size, network.glimpse_size), model.decoder.windows
    second_look = None
    if network.second_look:
        second_look = SecondLook(model.decoder.mean_image.shape[0], size, network.hidden, windows=windows)
    explaining = partial(
        ExplainingDiscovery,
        decoder=model.decoder,
        scale=prior.likelihood_scale,
        refined=_refined(network, prior, model),
    )
    make = explaining if network.explain_away else Discovery
    return make(
        image_encoder,
        what_encoder,
        network.hidden,
        model.latent_encoder.size,
        network.max_count,
        network.what_size,
        size,
        network.hidden,
        network.presence_hidden,
        hold=hold,
        exploration=exploration,
        where_floor=network.where_floor,
        windows=windows,
        second_look=second_look,
        size_logit=0.0 if prior.size_scale is None else size_logits(network, prior),
        size_range=prior.size_range,
        further=further,
    )


def _refined(network: NetworkConfig, prior: PriorConfig, model: SQAIR) -> RefinedLooks | None:
    """What corrects looks, if anything does."""
    if not network.refine_looks:
        return None
    learned = model.discovery.what_prior if prior.what == "flow" else None
    steps, frames = network.refine_looks, network.refine_frames
    return RefinedLooks(model.decoder, steps, prior.likelihood_scale, frames, learned)


def _evidence_discovery(
    network: NetworkConfig,
    prior: PriorConfig,
    model: SQAIR,
    image_encoder: nn.Module,
    what_encoder: WhatEncoder,
    hold: bool,
    exploration: bool,
    further: FurtherLatents | None,
) -> EvidenceDiscovery:
    """Finds new objects where something is left to explain."""
    glimpse_size, windows = (network.glimpse_size, network.glimpse_size), model.decoder.windows
    channels = model.decoder.mean_image.shape[0]
    x, y = (
        unit / (1 + math.exp(-logit))
        for unit, logit in zip(windows.unit, size_logits(network, prior), strict=True)
    )
    sketch_nats = (network.least or 1.0) * prior.price if prior.price else SKETCH_NATS
    return EvidenceDiscovery(
        model.decoder,
        (x, y),
        what_encoder,
        SecondLook(channels, glimpse_size, network.hidden, windows=windows, units=_CORRECTION),
        network.max_count,
        network.what_size,
        glimpse_size,
        model.latent_encoder.size,
        network.presence_hidden,
        scale=prior.likelihood_scale,
        where_floor=network.where_floor,
        least=_of_price("least", network.least, prior),
        larger=None if isinstance(windows, PerspectiveWindows) else network.larger,
        sketch_nats=sketch_nats if network.explain_away else None,
        refined=_refined(network, prior, model),
        hold=hold,
        exploration=exploration,
        further=further,
    )


def _propagation(
    network: NetworkConfig,
    prior: PriorConfig,
    model: SQAIR,
    what_encoder: WhatEncoder,
    hold: bool,
    further: FurtherLatents | None,
) -> Propagation | TrackingPropagation:
    """How the guide follows objects."""
    size, what = (network.glimpse_size, network.glimpse_size), network.what_size
    sticky = StickyLooks(what, network.look_gate, network.look_scale)
    looks = {"redrawn": None, "static": StaticLooks(), "sticky": sticky}[network.looks]
    if network.follow == "learned":
        return Propagation(
            what_encoder,
            what,
            size,
            network.hidden,
            network.narrow,
            presence_hidden=network.presence_hidden,
            hold=hold,
            where_floor=network.where_floor,
            windows=model.decoder.windows,
            looks=looks,
            relations=Messages(what) if prior.propagation.startswith("relational") else None,
            further=further,
        )
    if looks is None:
        raise ValueError(
            '`network.follow` "tracked" searches for what objects looked like: set `network.looks` to '
            '"static" or "sticky", got "redrawn"'
        )
    stay_nats = _of_price("stay", network.stay, prior)
    return TrackingPropagation(
        model.propagation_prior,
        model.decoder,
        what_encoder,
        what,
        size,
        network.hidden,
        looks=looks,
        scale=prior.likelihood_scale,
        margin=network.search,
        far=network.far,
        trust=network.trust,
        where_floor=network.where_floor,
        presence_bias=5.0 if stay_nats is None else 0.0,
        hold=hold,
        anywhere=network.anywhere,
        stay_nats=stay_nats,
        relook=network.relook,
        further=further,
    )


def _of_price(name: str, share: float | None, prior: PriorConfig) -> float | None:
    """The nats that a share of the price of an object is."""
    if share is None:
        return None
    if not prior.price:
        raise ValueError(f"`network.{name}` is a share of `prior.price`, which is not given")
    return share * prior.price


class _Encoders(NamedTuple):
    """Features of glimpses and of whole frames."""

    glimpse: nn.Module
    image: nn.Module


def _encoders(network: NetworkConfig, *shapes: tuple[int, int, int]) -> _Encoders:
    """The two encoders; convolutions are shared, fully connected layers are not."""
    widths = network.what_hidden or network.hidden, network.hidden
    if network.variant == "conv":
        trunk = convolutions(shapes[0][0], (16, 32, 32, 64), (2, 2, 1, 1))
        return _Encoders(
            *(
                ConvFeatures(shape, features=width, trunk=trunk)
                for shape, width in zip(shapes, widths, strict=True)
            )
        )
    sizes = ([torch.Size(shape).numel(), width, width] for shape, width in zip(shapes, widths, strict=True))
    return _Encoders(
        *(nn.Sequential(nn.Flatten(-3), mlp(layers, nn.ELU, activate_last=True)) for layers in sizes)
    )


def _decoder(network: NetworkConfig, glimpse_shape: tuple[int, int, int]) -> nn.Module:
    if network.variant == "conv":
        return SubPixelGlimpseDecoder(network.what_size, glimpse_shape)
    return LinearGlimpseDecoder(network.what_size, glimpse_shape, network.what_hidden or network.hidden)


def _windows(network: NetworkConfig, prior: PriorConfig) -> SquashedWindows:
    """What `z_where` means."""
    windows, least, most = _measure(network), 0.0, math.inf
    if network.size_limits is not None:
        least, most = network.size_limits
    if network.perspective is not None:
        horizon, row = network.perspective
        seen = PerspectiveWindows(windows.reach, windows.unit, horizon=horizon, row=row)
        if network.measured_in is None:
            # Parts of frames can be from the upper border, where objects are smallest, or from the lower one.
            smallest, largest = seen.growth(torch.tensor([-1.0, 1.0])).tolist()
            least, most = least * smallest, most * largest
        else:
            windows = seen
    x, y = (1 / (1 + math.exp(-logit)) for logit in size_logits(network, prior))
    widest = math.inf if network.widest is None else network.widest * x / y
    return replace(
        windows,
        least=(least * x, least * y),
        most=(min(most * x, 1.0), min(most * y, 1.0)),
        widest=widest,
    )


def _measure(network: NetworkConfig) -> SquashedWindows:
    """Windows of any size, in whose units places are measured."""
    assert network.image_shape is not None  # as wherever programs are made
    if network.measured_in is None:
        return SquashedWindows(network.reach)
    return SquashedWindows.measured_in(network.measured_in, network.image_shape[1:], network.reach)


def size_logits(network: NetworkConfig, prior: PriorConfig) -> tuple[float, float]:
    """Means of the size logits of new objects, x before y.

    Raises:
        ValueError: if objects are not smaller than the frames.
    """
    if prior.object_size is None:
        return prior.size_logit, prior.size_logit
    assert network.image_shape is not None  # as wherever programs are made
    frame = network.measured_in or network.image_shape[1:]
    if not all(length < whole for length, whole in zip(prior.object_size, frame, strict=True)):
        raise ValueError(
            f"`prior.object_size` must be less than the frames of {frame}, got {prior.object_size}"
        )
    y, x = (
        math.log(length / (whole - length)) for length, whole in zip(prior.object_size, frame, strict=True)
    )
    return x, y


def _count_prior(network: NetworkConfig, prior: PriorConfig) -> DiscoveryCountPrior | FixedCountPrior:
    if prior.price is None:
        return DiscoveryCountPrior(network.max_count)
    counts = GeometricCount(network.max_count)
    counts.log_ratio.fill_(-prior.price)
    return FixedCountPrior(counts)


def _where_prior(network: NetworkConfig, prior: PriorConfig) -> DiscoveryWherePrior | FixedWherePrior:
    sizes = size_logits(network, prior)
    if prior.where == "recurrent":
        # Where sizes or places are known, the first weights must not blur them.
        gain = 1.0 if prior.size_scale is None and prior.shift_scale is None else 0.1
        return DiscoveryWherePrior(
            network.hidden + 1, network.narrow, sizes, prior.size_scale, prior.shift_scale, gain
        )
    return fixed_where_prior(network, sizes, prior.size_scale or 1.0, prior.shift_scale or 1.0)


def fixed_where_prior(
    network: NetworkConfig, size_logit: float | tuple[float, float], scale: float, shift_scale: float
) -> FixedWherePrior:
    """A prior of places that does not change, in frames of any size.

    Args:
        network: says in what `z_where` is measured.
        size_logit: mean of the size logits, or of each, x before y.
        scale: their standard deviation.
        shift_scale: that of the shifts, relative to the frame.
    """
    x, y = (shift_scale / unit for unit in _measure(network).unit)
    return FixedWherePrior(size_logit, scale, (x, y))


def _propagation_prior(
    network: NetworkConfig, prior: PriorConfig
) -> RecurrentPropagationPrior | MotionPrior | WithLooks:
    sizes = network.what_size, network.hidden, prior.stay_logit
    going_on: RecurrentPropagationPrior | MotionPrior
    if prior.propagation in ("motion", "relational-motion"):
        if network.looks == "redrawn":
            raise ValueError(
                f'`prior.propagation` "{prior.propagation}" predicts no looks: set `network.looks` to '
                '"static" or "sticky", got "redrawn"'
            )
        x, y = (_OUT_OF_SIGHT / unit for unit in _measure(network).unit)
        going_on = MotionPrior(
            network.hidden,
            prior.stay_logit,
            (x, y),
            size=size_logits(network, prior),
            size_pull=prior.size_pull,
            **({} if prior.size_step is None else {"size_step": prior.size_step}),
            anywhere=network.anywhere,
            messages=Messages(network.what_size) if prior.propagation == "relational-motion" else None,
        )
    elif prior.propagation == "recurrent":
        going_on = RecurrentPropagationPrior(*sizes)
    elif prior.propagation == "relational":
        going_on = RelationalPropagationPrior(*sizes)
    else:
        scale = 0.1 if prior.propagation == "guided" else 0.0
        going_on = GuidedPropagationPrior(*sizes, update_scale=scale)
    if network.looks == "redrawn":
        return going_on
    if network.looks == "static":
        return going_on if isinstance(going_on, MotionPrior) else WithLooks(going_on, StaticLooksPrior())
    return WithLooks(going_on, StickyLooksPrior(network.what_size, network.look_scale))
