"""What a look at the images tells AIR: `--auto`."""

from __future__ import annotations

import math

from whatwhere.examples.common import look
from whatwhere.examples.common.look import Choice
from whatwhere.examples.parts.air_config import PRESETS, AIRConfig
from whatwhere.examples.parts.air_data import GENERATED, Split, load_data


def chosen(config: AIRConfig, speak: bool) -> tuple[AIRConfig, Split]:
    """The configuration with what a look at the images tells, and the images, see `look.chosen`."""
    return look.chosen(config, speak, GENERATED, lambda config: load_data(config.data), _fitted, whole=True)


def _fitted(config: AIRConfig, split: Split) -> tuple[AIRConfig, list[str]]:
    """The settings of network and prior for objects such as are in the training images."""
    presets = (AIRConfig(), *PRESETS.values())
    own = look.is_set(config, "prior.likelihood_scale", presets)
    likelihood_scale = config.prior.likelihood_scale if own else None
    choice = look.settings_of(look.look_at(split.train).statistics, likelihood_scale=likelihood_scale)
    height, width = split.train.shape[-2:]
    inverse = min(height / choice.object_size[0], width / choice.object_size[1])
    size, spread, _, glimpse, scale, price, slots, *_ = choice.reasons
    choices = [
        Choice("prior.inverse_scale", round(inverse, 2), f"{size}; images have {height} x {width}"),
        Choice("prior.inverse_scale_std", round(choice.size_scale * inverse, 2), spread),
        Choice("network.discovery", "evidence", "objects are small, on black"),
        Choice("network.glimpse_size", choice.glimpse_size, glimpse),
        Choice("prior.likelihood_scale", choice.likelihood_scale, scale),
        Choice(
            "prior.count_ratio", math.exp(-choice.price), f"an object costs {choice.price:.0f} nats, {price}"
        ),
        Choice("prior.final_count_ratio", None, "an object costs the same to the end"),
        Choice("network.max_count", choice.slots, slots),
    ]
    return look.with_choices(config, choices, presets)
