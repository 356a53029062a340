"""What a look at the videos tells SQAIR: `--auto`."""

from __future__ import annotations

from dataclasses import replace

from whatwhere.checks import FieldError
from whatwhere.examples.common.look import choose_data, fitted_to_default, look_at, print_look, settings_of
from whatwhere.examples.common.video_models import GENERATED, Split, load_data, with_levels
from whatwhere.examples.parts.sqair_config import PRESETS, SQAIRConfig


def chosen(config: SQAIRConfig, speak: bool) -> tuple[SQAIRConfig, Split]:
    """The configuration with what a look at the videos tells, and the videos.

    Args:
        config: of the run.
        speak: whether to print what is chosen, and why.

    Raises:
        DataError: if the videos cannot be read.
        FieldError: if there is nothing to look at.
    """
    if config.data.source in GENERATED:
        if config.auto:
            raise FieldError("auto", "is for your own videos", config.data.source)
        return config, load_data(config.data, config.frames)
    reasons: list[str] = []
    if config.auto:
        data, reasons = choose_data(config.data, config.data.source)
        config = replace(config, data=data)
    config = replace(config, data=with_levels(config.data))
    split = load_data(config.data, config.frames)
    if config.auto:
        config, more = _fitted(config, split)
        reasons += more
    if speak:
        for line in reasons:
            print(f"auto: {line}")
        print_look(split.train, config.network.max_count)
    return config, split


def _fitted(config: SQAIRConfig, split: Split) -> tuple[SQAIRConfig, list[str]]:
    """The settings of network and priors for objects such as are in the training videos."""
    choice = settings_of(look_at(split.train).statistics)
    bases = (SQAIRConfig(), *PRESETS.values())
    network = fitted_to_default(
        config.network,
        [base.network for base in bases],
        max_count=choice.slots,
        glimpse_size=choice.glimpse_size,
    )
    prior = fitted_to_default(
        config.prior,
        [base.prior for base in bases],
        object_size=choice.object_size,
        size_scale=choice.size_scale,
        likelihood_scale=choice.likelihood_scale,
        price=choice.price,
    )
    size, spread, glimpse, scale, price, slots = choice.reasons
    return replace(config, network=network, prior=prior), [
        f"prior.object_size: {prior.object_size} ({size})",
        f"prior.size_scale: {prior.size_scale} ({spread})",
        f"network.glimpse_size: {network.glimpse_size} ({glimpse})",
        f"prior.likelihood_scale: {prior.likelihood_scale} ({scale})",
        f"prior.price: {prior.price} ({price})",
        f"network.max_count: {network.max_count} ({slots})",
    ]
