"""SQAIR's model and guide, or AIR's with its parts, made of a configuration."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from whatwhere.examples.parts.sqair_config import NetworkConfig, PriorConfig, SQAIRConfig
from whatwhere.guides import Discovery, Propagation, SQAIRGuide, WhatEncoder
from whatwhere.guides.sequence_air import SequenceAIRGuide
from whatwhere.models.components.networks import ConvFeatures, SubPixelGlimpseDecoder, convolutions, mlp
from whatwhere.models.priors import (
    DiscoveryCountPrior,
    DiscoveryWherePrior,
    FixedWherePrior,
    GuidedPropagationPrior,
    RecurrentPropagationPrior,
)
from whatwhere.models.sequence_air import SequenceAIR
from whatwhere.models.sqair import SQAIR, LatentEncoder, LinearGlimpseDecoder, SceneDecoder


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
    """
    programs = build(config.network, config.prior, mean_image, hold=config.hold_steps > 0)
    if config.model == "sqair":
        return programs
    model, guide = programs
    single = SequenceAIR(
        model.discovery_count_prior,
        model.discovery_where_prior,
        model.decoder,
        model.latent_encoder.size,
        config.network.max_count,
        config.network.what_size,
        config.prior.likelihood_scale,
    )
    return AIRPrograms(single, SequenceAIRGuide(guide.discovery, guide.image_shape))


def build(
    network: NetworkConfig, prior: PriorConfig, mean_image: Tensor | None = None, hold: bool = False
) -> Programs:
    """Make SQAIR's model and guide, see `programs_of`.

    Args:
        network: sizes.
        prior: the priors.
        mean_image: what the model's mean image starts from, black by default.
        hold: whether objects can be held on to, see `SQAIRGuide`.
    """
    if network.image_shape is None:
        raise ValueError("`network.image_shape` is not known")
    image_shape, hidden, narrow = network.image_shape, network.hidden, network.narrow
    count, what = network.max_count, network.what_size
    glimpse_shape = (image_shape[0], network.glimpse_size, network.glimpse_size)
    encoders = _encoders(network, glimpse_shape, image_shape)
    what_encoder = WhatEncoder(encoders.glimpse, hidden, what)
    latent_encoder = LatentEncoder(what, hidden)
    mean_image = torch.zeros(image_shape) if mean_image is None else mean_image
    model = SQAIR(
        _propagation_prior(network, prior),
        DiscoveryCountPrior(count),
        DiscoveryWherePrior(hidden + 1, narrow) if prior.where == "recurrent" else FixedWherePrior(),
        latent_encoder,
        SceneDecoder(_decoder(network, glimpse_shape), mean_image),
        count,
        what,
        prior.likelihood_scale,
        prior.truncate,
    )
    propagation = Propagation(
        what_encoder,
        what,
        glimpse_shape[1:],
        hidden,
        narrow,
        presence_hidden=network.presence_hidden,
        hold=hold,
    )
    discovery = Discovery(
        encoders.image,
        what_encoder,
        hidden,
        latent_encoder.size,
        count,
        what,
        glimpse_shape[1:],
        hidden,
        network.presence_hidden,
        hold=hold,
    )
    guide = SQAIRGuide(propagation, discovery, latent_encoder, image_shape, prior.truncate)
    return Programs(model, guide)


class _Encoders(NamedTuple):
    """Features of glimpses and of whole frames."""

    glimpse: nn.Module
    image: nn.Module


def _encoders(network: NetworkConfig, *shapes: tuple[int, int, int]) -> _Encoders:
    """The two encoders; convolutions are shared, fully connected layers are not."""
    hidden = network.hidden
    if network.variant == "conv":
        trunk = convolutions(shapes[0][0], (16, 32, 32, 64), (2, 2, 1, 1))
        return _Encoders(*(ConvFeatures(shape, features=hidden, trunk=trunk) for shape in shapes))
    sizes = ([torch.Size(shape).numel(), hidden, hidden] for shape in shapes)
    return _Encoders(
        *(nn.Sequential(nn.Flatten(-3), mlp(widths, nn.ELU, activate_last=True)) for widths in sizes)
    )


def _decoder(network: NetworkConfig, glimpse_shape: tuple[int, int, int]) -> nn.Module:
    if network.variant == "conv":
        return SubPixelGlimpseDecoder(network.what_size, glimpse_shape)
    return LinearGlimpseDecoder(network.what_size, glimpse_shape, network.hidden)


def _propagation_prior(network: NetworkConfig, prior: PriorConfig) -> RecurrentPropagationPrior:
    sizes = network.what_size, network.hidden, prior.stay_logit
    if prior.propagation == "recurrent":
        return RecurrentPropagationPrior(*sizes)
    return GuidedPropagationPrior(*sizes, update_scale=0.1 if prior.propagation == "guided" else 0.0)
