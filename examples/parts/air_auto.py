"""What a look at the images tells AIR: `--auto`."""

from __future__ import annotations

import math
from dataclasses import replace

from whatwhere.examples.common import look
from whatwhere.examples.parts.air_config import PRESETS, AIRConfig
from whatwhere.examples.parts.air_data import GENERATED, Split, load_data


def chosen(config: AIRConfig, speak: bool) -> tuple[AIRConfig, Split]:
    """The configuration with what a look at the images tells, and the images, see `look.chosen`."""
    return look.chosen(config, speak, GENERATED, lambda config: load_data(config.data), _fitted, whole=True)


def _fitted(config: AIRConfig, split: Split) -> tuple[AIRConfig, list[str]]:
    """The settings of network and prior for objects such as are in the training images."""
    choice = look.settings_of(look.look_at(split.train).statistics)
    bases = (AIRConfig(), *PRESETS.values())
    height, width = split.train.shape[-2:]
    inverse = min(height / choice.object_size[0], width / choice.object_size[1])
    mean, deviation = round(inverse, 2), round(choice.size_scale * inverse, 2)
    network = look.fitted_to_default(
        config.network,
        [base.network for base in bases],
        discovery="evidence",
        max_count=choice.slots,
        glimpse_size=choice.glimpse_size,
    )
    prior = look.fitted_to_default(
        config.prior,
        [base.prior for base in bases],
        inverse_scale=mean,
        inverse_scale_std=deviation,
        likelihood_scale=choice.likelihood_scale,
        count_ratio=math.exp(-choice.price),
        final_count_ratio=None,
    )
    size, spread, _, glimpse, scale, price, slots, *_ = choice.reasons
    places = f"{size}; images have {height} x {width}"
    rows = [
        ("prior.inverse_scale", prior.inverse_scale, mean, places),
        ("prior.inverse_scale_std", prior.inverse_scale_std, deviation, spread),
        ("network.discovery", network.discovery, "evidence", "objects are small, on black"),
        ("network.glimpse_size", network.glimpse_size, choice.glimpse_size, glimpse),
        ("prior.likelihood_scale", prior.likelihood_scale, choice.likelihood_scale, scale),
        (
            "prior.count_ratio",
            f"{prior.count_ratio:.2g}",
            f"{math.exp(-choice.price):.2g}",
            f"{choice.price:.0f} nats, {price}",
        ),
        ("network.max_count", network.max_count, choice.slots, slots),
    ]
    return replace(config, network=network, prior=prior), [look.told(*row) for row in rows]
