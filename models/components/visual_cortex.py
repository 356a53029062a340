"""What HART sees in a glimpse: maps of features, what is there (ventral), and where the object is (dorsal).

Kosiorek, Bewley & Posner, *Hierarchical Attentive Recurrent Tracking*, 2017, section 3. The paper's names are
those of the visual cortex: V1 feeds two streams, of which the dorsal one is told what to look for.

| V1             | glimpse          | maps         | for                                   |
|----------------|------------------|--------------|---------------------------------------|
| `AlexNetV1`    | 3 x 56 x 56      | 384 x 14 x 14 | KITTI, the paper's                   |
| `SmallV1`      | 56 x 56, 28 x 28 | 64 x 14 x 14, 64 x 7 x 7 | generated data, CPU       |
| `ClassifierV1` | 1 x 28 x 28      | 64 x 7 x 7   | KTH, the first blocks of RATM's network |

Each has `map_shape`: channels, rows and columns of its maps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Size
from .dynamic_filters import DynamicFilterLayer
from .feature_extractors import ConvPoolFeatures
from .initialisers import glorot_uniform

Normalisation = Callable[[int], nn.Module]
"""Makes a normalisation of maps with so many channels."""


def batch_normalisation(channels: int) -> nn.Module:
    """Batch normalisation with the constants of HART's program.

    Statistics are taken at each time step and share one running average. Frames that only fill a batch up are
    in them too: for videos of different lengths `group_normalisation` is the better choice.
    """
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.05)


def group_normalisation(channels: int) -> nn.Module:
    """Normalisation of each sample alone, in up to eight groups of channels."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


def contrast_normalised(glimpses: Tensor) -> Tensor:
    """Glimpses `(B, C, h, w)` stretched over [0, 1], then centred channel by channel.

    Darkest and brightest value are those of all channels together; gradients flow through them. HART's
    program adds 1e-5 to the range of grey values from 0 to 255; here they go to 1.
    """
    low, high = glimpses.amin(dim=(1, 2, 3), keepdim=True), glimpses.amax(dim=(1, 2, 3), keepdim=True)
    stretched = (glimpses - low) / (high - low + 1e-5)
    return stretched - stretched.mean(dim=(2, 3), keepdim=True)


class AlexNetV1(nn.Module):
    """The first three convolutions of AlexNet, without its maximum pooling.

    The paper says that one pooling is left and the first stride is 1; the authors' program has none and keeps
    the stride of 4, which alone makes 14 x 14 maps of 56 x 56 pixels. It starts from weights for ImageNet.

    Args:
        glimpse_shape: channels, height and width of a glimpse.
    """

    def __init__(self, glimpse_shape: tuple[int, int, int] = (3, 56, 56)) -> None:
        super().__init__()
        colours, height, width = glimpse_shape
        self.map_shape = torch.Size((384, math.ceil(height / 4), math.ceil(width / 4)))
        self.padding = (*_same_padding(width, 11, 4), *_same_padding(height, 11, 4))
        # PyTorch divides alpha by the number of channels: TensorFlow's is 2e-5.
        normalisation = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.layers = nn.Sequential(
            nn.Conv2d(colours, 96, 11, stride=4),
            nn.ReLU(),
            normalisation,
            nn.Conv2d(96, 256, 5, padding=2, groups=2),
            nn.ReLU(),
            normalisation,
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(),
        )
        _he_normal(self)

    def forward(self, glimpses: Tensor) -> Tensor:
        """Map glimpses `(B, C, h, w)` in [0, 1] to `(B, *map_shape)`."""
        return self.layers(F.pad(contrast_normalised(glimpses), self.padding))


class SmallV1(nn.Module):
    """Convolutions of 3 x 3 pixels, each with a normalisation and an ELU.

    For 56 x 56 pixels `channels=(32, 64, 64)` and `strides=(2, 2, 1)`.

    Args:
        glimpse_shape: channels, height and width of a glimpse.
        channels: of each convolution.
        strides: of each convolution; sizes are divided by them and rounded up.
        normalisation: makes the normalisations.

    Raises:
        ValueError: if `channels` and `strides` differ in length.
    """

    def __init__(
        self,
        glimpse_shape: tuple[int, int, int] = (3, 28, 28),
        channels: Sequence[int] = (32, 64),
        strides: Sequence[int] = (2, 2),
        normalisation: Normalisation = group_normalisation,
    ) -> None:
        super().__init__()
        if len(channels) != len(strides):
            raise ValueError(
                f"`channels` and `strides` must have one length, got {len(channels)} and {len(strides)}."
            )
        colours, height, width = glimpse_shape
        layers: list[nn.Module] = []
        for (before, after), stride in zip(itertools.pairwise((colours, *channels)), strides, strict=True):
            layers += [
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                normalisation(after),
                nn.ELU(),
            ]
            height, width = math.ceil(height / stride), math.ceil(width / stride)
        self.map_shape = torch.Size((channels[-1], height, width))
        self.layers = nn.Sequential(*layers)
        _he_normal(self)

    def forward(self, glimpses: Tensor) -> Tensor:
        """Map glimpses `(B, C, h, w)` in [0, 1] to `(B, *map_shape)`."""
        return self.layers(contrast_normalised(glimpses))


class ClassifierV1(nn.Module):
    """The blocks of a network that was trained as a classifier of glimpses, as on KTH.

    Contrast is left as it is.

    Args:
        features: for KTH `human_features()`, as it is in a `human_classifier()` that was trained before.
    """

    def __init__(self, features: ConvPoolFeatures) -> None:
        super().__init__()
        self.features = features
        _, height, width = features.glimpse_shape
        shrink = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in features.blocks)
        rows, columns = height // shrink, width // shrink
        self.map_shape = torch.Size((features.size // (rows * columns), rows, columns))

    def forward(self, glimpses: Tensor) -> Tensor:
        """Map glimpses `(B, C, h, w)` in [0, 1] to `(B, *map_shape)`."""
        return self.features(glimpses).unflatten(-1, self.map_shape)


class VentralStream(nn.Module):
    """What is in a glimpse: a few channels, read out pixel by pixel.

    The paper drops activations at the end of V1; the authors' program, and this, after the read-out, so that
    the dorsal stream has all of them.

    Args:
        in_channels: of V1's maps.
        channels: of the result.
        dropout: probability with which an activation is dropped.
        normalisation: makes the normalisation.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 5,
        dropout: float = 0.25,
        normalisation: Normalisation = batch_normalisation,
    ) -> None:
        super().__init__()
        self.in_channels, self.channels = in_channels, channels
        self.readout = nn.Conv2d(in_channels, channels, 1)
        self.dropout = nn.Dropout(dropout)
        self.normalisation = normalisation(channels)
        glorot_uniform(self.readout)

    def forward(self, maps: Tensor) -> Tensor:
        """Map `(B, in_channels, r, c)` to `(B, channels, r, c)`."""
        return F.elu(self.normalisation(self.dropout(self.readout(maps))))


class Location(NamedTuple):
    """Where the dorsal stream sees the object."""

    logits: Tensor
    """Of every place being the object's, `(B, r, c)`."""
    filters: Tensor
    """Weights and biases of all dynamic filters, `(B, F)`, for the regulariser."""


class DorsalStream(nn.Module):
    """Where the object is in a glimpse: filters made from its appearance, then one logit for each place.

    Args:
        in_channels: of V1's maps.
        control_size: components of the vector that describes the appearance.
        channels: of the maps in between.
    """

    def __init__(self, in_channels: int, control_size: int, channels: int = 5) -> None:
        super().__init__()
        self.in_channels, self.control_size = in_channels, control_size
        self.first = DynamicFilterLayer(in_channels, channels, 1, control_size)
        self.second = DynamicFilterLayer(channels, channels, 3, control_size)
        self.readout = nn.Conv2d(channels, 1, 1)
        glorot_uniform(self.readout)

    def forward(self, maps: Tensor, appearance: Tensor) -> Location:
        """Locate the object of `appearance` `(B, control_size)` in `maps` `(B, in_channels, r, c)`."""
        maps, first = self.first(maps, appearance)
        maps, second = self.second(maps, appearance)
        filters = [part.flatten(1) for part in (*first, *second)]
        return Location(self.readout(maps).squeeze(1), torch.cat(filters, dim=-1))


def _same_padding(length: int, side: int, stride: int) -> Size:
    """TensorFlow's `SAME`: what is missing before and after, the odd pixel after."""
    missing = max((math.ceil(length / stride) - 1) * stride + side - length, 0)
    return missing // 2, missing - missing // 2


def _he_normal(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
