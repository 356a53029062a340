"""The variational recurrent network's model and guide, made of a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from pyro import poutine
from torch import Tensor, nn

from whatwhere import checks
from whatwhere.checks import FieldError
from whatwhere.guides.vrnn import VRNNGuide
from whatwhere.inference.local_parameters import local_parameters
from whatwhere.models.components.networks import ConvFeatures, mlp
from whatwhere.models.vrnn import VRNN, NormalHead, TransposedConvDecoder, VRNNDynamics, VRNNFrame


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the networks.

    The defaults make 2.94 million parameters, within half a per cent of MLP-SQAIR, which the baseline is to
    equal in size; the preset `conv` has 2.62 million, 3 per cent less than CONV-SQAIR.
    """

    variant: Literal["mlp", "conv"] = "mlp"
    """Encoder and decoder of frames: multi-layer perceptrons or convolutions. CONV-VRNN also has one layer
    and 184 units, see the preset `conv`.
    """
    image_shape: tuple[int, int, int] | None = None
    """Channels, height and width of a frame; by default those of the training videos."""
    latent_size: int = 165
    """Components of the latent vector of a frame."""
    hidden: int = 256
    """Units of the hidden layers."""
    recurrent: int = 256
    """Units of the LSTM."""
    layers: int = 2
    """Hidden layers of each network."""
    channels: tuple[int, ...] = (32, 32, 32, 64, 64, 64)
    """Of the convolutions."""
    strides: tuple[int, ...] = (1, 2, 1, 2, 1, 2)
    """Of the convolutions."""

    def __post_init__(self) -> None:
        checks.literals(self)
        checks.positive(self, "image_shape", "latent_size", "hidden", "recurrent", "layers")
        checks.positive(self, "channels", "strides")
        if len(self.channels) != len(self.strides):
            raise FieldError("strides", f"must be as many as `channels`, {len(self.channels)}", self.strides)


class Programs(NamedTuple):
    """Model and guide."""

    model: VRNN
    guide: VRNNGuide


def build(network: NetworkConfig, likelihood_scale: float = 0.3) -> Programs:
    """Make the model and the guide of a configuration whose `network.image_shape` is known."""
    if network.image_shape is None:
        raise ValueError("`network.image_shape` is not known")
    image_shape, hidden, recurrent = network.image_shape, network.hidden, network.recurrent
    pixels, layers = torch.Size(image_shape).numel(), [hidden] * network.layers
    encoder: nn.Module
    decoder: nn.Module
    if network.variant == "conv":
        encoder = ConvFeatures(image_shape, network.channels, network.strides, hidden)
        decoder = TransposedConvDecoder(hidden + recurrent, image_shape, network.channels, network.strides)
    else:
        encoder = nn.Sequential(nn.Flatten(-3), mlp([pixels, *layers], nn.ELU, activate_last=True))
        decoder = nn.Sequential(
            mlp([hidden + recurrent, *layers, pixels], nn.ELU), nn.Unflatten(-1, image_shape)
        )
    dynamics = VRNNDynamics(
        encoder, hidden, image_shape, network.latent_size, hidden, recurrent, network.layers
    )
    posterior = NormalHead([recurrent + hidden, *layers], network.latent_size)
    return Programs(VRNN(dynamics, decoder, likelihood_scale), VRNNGuide(dynamics, posterior))


@torch.no_grad()
def reconstruct(programs: Programs, video: Tensor) -> Tensor:
    """What the model makes of one posterior sample of each of the videos, both `(B, T, C, H, W)`."""
    with local_parameters(*programs):
        trace = poutine.trace(programs.guide).get_trace(video)
        frames: list[VRNNFrame] = poutine.replay(programs.model, trace=trace)(video)
    return torch.stack([frame.canvas for frame in frames], dim=1)
