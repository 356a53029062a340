"""What a look at the videos tells SQAIR: `--auto`."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from whatwhere.checks import FieldError
from whatwhere.datasets import Preparation
from whatwhere.examples.common import look
from whatwhere.examples.common.look import Choice
from whatwhere.examples.common.video_models import GENERATED, Split, load_data
from whatwhere.examples.parts.sqair_config import PRESETS, SQAIRConfig
from whatwhere.inference.evaluation import Perspective, object_statistics, perspective_of

_ROOM = 1.1
"""Side of a window over that of the object that it is expected around, where perspective tells its size."""
_WIDEST = 1.25
"""Width over height of a window, over that of the expected one: nearer to one object than to a pair."""
_SIGMAS, _LEAST_DEVIATION = 3.0, 0.05
"""Standard deviations that objects differ from the size of their place, and the least that is believed."""


def chosen(config: SQAIRConfig, speak: bool) -> tuple[SQAIRConfig, Split]:
    """The configuration with what a look at the videos tells, and the videos, see `look.chosen`.

    A model that knows the camera's image sees frames as they are; objects are looked for as if it did not.
    """
    knows_camera = config.network.background == "camera"
    found, split = look.chosen(
        config,
        speak and (config.auto or not knows_camera),  # a look is for objects on black
        GENERATED,
        lambda config: load_data(config.data, config.frames),
        _fitted,
    )
    if not (config.auto and knows_camera):
        return found, split
    found = in_front_of_camera(found)
    if speak:
        print(
            f"auto: network.contrast: {found.network.contrast} (network.background: camera, so frames are "
            "not prepared, but what stands out from its image is stretched)"
        )
    return found, load_data(found.data, found.frames)


def in_front_of_camera(config: SQAIRConfig) -> SQAIRConfig:
    """A configuration for frames as they are, made one for what stands out from their ground.

    Raises:
        FieldError: if what was prepared is not the difference to an image of a camera that stands still.
    """
    data, network = config.data, config.network
    prepare = data.prepare
    if prepare.background not in ("none", "median"):
        raise FieldError(
            "network.background",
            "must be another than camera where the light changes or the camera moves (the ground that "
            f"objects stand out from is {prepare.background!r})",
            network.background,
        )
    cut = "motion" if data.cut == "activity" else data.cut
    contrast = network.contrast
    free = contrast == SQAIRConfig().network.contrast and "network.contrast" not in config.keep
    if free and prepare.white is not None:
        # Without subtraction black is the ground, else what is left of its noise.
        ground = prepare.black or 0.0 if prepare.background == "none" else 0.0
        contrast = max(0.001, round((prepare.white - ground) / 255, 3))
    return replace(
        config,
        data=replace(data, prepare=Preparation(), cut=cut),
        network=replace(network, contrast=contrast),
    )


def _fitted(config: SQAIRConfig, split: Split) -> tuple[SQAIRConfig, list[str]]:
    """The settings of network and priors for objects such as are in the training videos."""
    frames, seen, shape = _whole_frames(config), None, None
    if frames is not None:
        seen = perspective_of(frames)
        if seen is not None or config.network.perspective is not None:
            shape = object_statistics(frames).shape.median
    presets = (SQAIRConfig(), *PRESETS.values())
    own = look.is_set(config, "prior.likelihood_scale", presets)
    likelihood_scale = config.prior.likelihood_scale if own else None
    choice = look.settings_of(look.look_at(split.train).statistics, shape, likelihood_scale)
    size, spread, limits, glimpse, scale, price, slots, search, least = choice.reasons
    size_limits = choice.size_limits
    widest = None
    if seen is not None:
        size_limits, limits = _limits(seen, size_limits[1])
        if config.network.background != "camera":  # contrasts with an image are told apart without
            widest = _WIDEST
    choices = [
        Choice("prior.object_size", choice.object_size, size),
        Choice("prior.size_scale", choice.size_scale, spread),
        Choice("network.size_limits", size_limits, limits),
        Choice("network.glimpse_size", choice.glimpse_size, glimpse),
        Choice("prior.likelihood_scale", choice.likelihood_scale, scale),
        Choice("prior.price", choice.price, price),
        Choice("network.max_count", choice.slots, slots),
    ]
    if choice.search is not None:
        choices.append(Choice("network.search", choice.search, search))
    if choice.least is not None and config.network.discovery == "evidence":
        choices.append(Choice("network.least", choice.least, least))
    if widest is not None:
        shapes = (
            "of the shape of a window, which is as wide as most objects are for their height: what is wider "
            "is a pair"
        )
        choices.append(Choice("network.widest", widest, shapes))
    config, lines = look.with_choices(config, choices, presets)
    if seen is None:
        return config, lines
    assert config.prior.object_size is not None
    places = plane(seen, config.prior.object_size[0])
    plain = (
        "in whole frames objects are the larger the lower they are, as on a plane below a horizon: that "
        f"leaves {seen.unexplained:.0%} of how they differ"
    )
    config, more = look.with_choices(config, [Choice("network.perspective", places, plain)], presets)
    return config, lines + more


def plane(seen: Perspective, height: float) -> tuple[float, float]:
    """The horizon, and the row where windows are as high as expected: `network.perspective`."""
    return round(seen.horizon, 2), round(seen.row(height / _ROOM), 2)


def _limits(seen: Perspective, most: float) -> tuple[tuple[float, float], str]:
    """Sizes of windows in a perspective, over the expected one: hardly an object is beyond; and why."""
    deviation = max(seen.deviation, _LEAST_DEVIATION)
    least, most = math.exp(-_SIGMAS * deviation), min(math.exp(_SIGMAS * deviation), most)
    return (round(least / _ROOM, 2), round(most / _ROOM, 2)), (
        f"of what it is where an object stands; heights differ from that by {seen.deviation:.0%}"
    )


def _whole_frames(config: SQAIRConfig) -> Tensor | None:
    """Frames `(B, 1, C, H, W)` that may have a perspective: if parts of them are trained on."""
    data = config.data
    if data.crop is None or config.network.discovery != "evidence":
        return None
    return look.read_raw(data, data.source, 1).seen(data.frame_recipe())
