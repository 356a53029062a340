"""What a look at the videos tells SQAIR: `--auto`."""

from __future__ import annotations

from dataclasses import replace

from whatwhere.examples.common import look
from whatwhere.examples.common.video_models import GENERATED, DataConfig, Split, load_data
from whatwhere.examples.parts.sqair_config import PRESETS, NetworkConfig, SQAIRConfig
from whatwhere.inference.evaluation import Perspective, perspective_of

_ROOM = 1.1
"""Side of a window over that of the object that it is expected around, where perspective tells its size."""


def chosen(config: SQAIRConfig, speak: bool) -> tuple[SQAIRConfig, Split]:
    """The configuration with what a look at the videos tells, and the videos, see `look.chosen`."""
    return look.chosen(
        config, speak, GENERATED, lambda config: load_data(config.data, config.frames), _fitted
    )


def _fitted(config: SQAIRConfig, split: Split) -> tuple[SQAIRConfig, list[str]]:
    """The settings of network and priors for objects such as are in the training videos."""
    choice = look.settings_of(look.look_at(split.train).statistics)
    bases = (SQAIRConfig(), *PRESETS.values())
    network = look.fitted_to_default(
        config.network,
        [base.network for base in bases],
        max_count=choice.slots,
        glimpse_size=choice.glimpse_size,
        **({} if choice.search is None else {"search": choice.search}),
    )
    size, spread, glimpse, scale, price, slots, search = choice.reasons
    object_size, more = choice.object_size, []
    seen = _perspective(network, config.data)
    if seen is not None:
        # Sizes are known but for pairs that are taken for wide objects: the typical shape has none of them.
        object_size = object_size[0], round(object_size[0] * seen.shape, 1)
        size += f"; as wide as most are for their height, {seen.shape:.0%} of it"
    prior = look.fitted_to_default(
        config.prior,
        [base.prior for base in bases],
        object_size=object_size,
        size_scale=choice.size_scale,
        likelihood_scale=choice.likelihood_scale,
        price=choice.price,
    )
    if seen is not None:
        assert prior.object_size is not None
        places = round(seen.horizon, 2), round(seen.row(prior.object_size[0] / _ROOM), 2)
        network = replace(network, perspective=places)
        more = [
            f"network.perspective: {places} (in whole frames objects are the larger the lower they are, as "
            f"on a plane below a horizon: that leaves {seen.unexplained:.0%} of how they differ)"
        ]
    return replace(config, network=network, prior=prior), [
        f"prior.object_size: {prior.object_size} ({size})",
        f"prior.size_scale: {prior.size_scale} ({spread})",
        f"network.glimpse_size: {network.glimpse_size} ({glimpse})",
        f"prior.likelihood_scale: {prior.likelihood_scale} ({scale})",
        f"prior.price: {prior.price} ({price})",
        f"network.max_count: {network.max_count} ({slots})",
        f"network.search: {network.search} ({search})",
        *more,
    ]


def _perspective(network: NetworkConfig, data: DataConfig) -> Perspective | None:
    """How sizes depend on places in whole frames, if parts of these are trained on."""
    if data.crop is None or network.perspective is not None or network.discovery != "evidence":
        return None
    return perspective_of(look.read_raw(data, data.source, 1).seen(data.frame_recipe()))
