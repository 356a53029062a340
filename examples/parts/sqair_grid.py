"""SQAIR's discovery by a grid of cells, of the model and of the guide, made of a configuration."""

from __future__ import annotations

from whatwhere.examples.parts.sqair_config import NetworkConfig
from whatwhere.guides import FurtherLatents, GridFeatures, WhatEncoder
from whatwhere.guides import GridDiscovery as GridDiscoveryGuide
from whatwhere.models.components.cells import Cells
from whatwhere.models.components.networks import convolutions
from whatwhere.models.grid_discovery import GridDiscovery
from whatwhere.models.priors import (
    DiscoveryCountPrior,
    FixedCountPrior,
    FixedWherePrior,
    FlowPrior,
    NormalPrior,
)
from whatwhere.models.sqair import SQAIR

_CHANNELS = (16, 32, 64, 64)
_STRIDES = (2, 2, 2, 1)

Sizes = tuple[float, float]


def grid_of_model(
    network: NetworkConfig,
    cells: Cells,
    count_prior: DiscoveryCountPrior | FixedCountPrior,
    size_logits: Sizes,
    scales: Sizes,
    what: FlowPrior | None,
    depth: dict[str, NormalPrior],
) -> GridDiscovery:
    """What the model says of new objects.

    Args:
        network: sizes.
        cells: the grid.
        count_prior: of their number.
        size_logits: means of the sizes, x before y.
        scales: standard deviations of sizes, and of places in cells.
        what: prior of appearances, by default a standard normal.
        depth: priors of further variables.
    """
    return GridDiscovery(
        cells, count_prior, FixedWherePrior(size_logits, *scales), network.what_size, what, **depth
    )


def grid_of_guide(
    network: NetworkConfig,
    cells: Cells,
    model: SQAIR,
    what_encoder: WhatEncoder,
    size_logits: Sizes,
    hold: bool,
    exploration: bool,
    further: FurtherLatents | None,
) -> GridDiscoveryGuide:
    """How the guide finds new objects."""
    channels, size = model.decoder.mean_image.shape[0], network.glimpse_size
    features = GridFeatures(cells, convolutions(channels, _CHANNELS, _STRIDES), _CHANNELS[-1], network.narrow)
    return GridDiscoveryGuide(
        cells,
        features,
        network.narrow,
        what_encoder,
        network.max_count,
        network.what_size,
        (size, size),
        model.latent_encoder.size,
        network.narrow,
        size_logit=size_logits,
        where_floor=network.where_floor,
        hold=hold,
        exploration=exploration,
        further=further,
    )
