"""What is known of a whole clip before anybody looks closer: maps of features, and short words about them.

A network of this kind maps videos `(B, T, C, H, W)` in [0, 1] to `FeatureMaps`, and says how many channels
these have; `InflatedResNet` is another one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import checks

_WITHIN = 0.995
"""Places at the very border of the map are taken to be so near to it, where the tangent is not infinite."""


class FeatureMaps(NamedTuple):
    """Two views of a clip, frame by frame."""

    context: Tensor
    """`(B, T, C, h, w)`: tells where to look, and where joints are."""
    glimpses: Tensor
    """`(B, T, C', h', w')`: what glimpses are read from."""
    overview: Tensor
    """Of the whole clip, `(B, S)`: what the global path is told."""


class ClipFeatures(Protocol):
    """A network that makes `FeatureMaps`."""

    context_channels: int
    """C."""
    glimpse_channels: int
    """C'."""
    overview_size: int
    """S."""

    def __call__(self, video: Tensor) -> FeatureMaps:
        """Maps of videos `(B, T, C, H, W)` in [0, 1]."""


class CoarseFrames(nn.Module):
    """Glimpses are read from the frames themselves; the context sees them small, frame by frame.

    The frame is averaged over squares of `reduce` x `reduce` pixels, and goes through convolutions of 3 x 3
    pixels with rectification. So what is smaller than such a square, it takes a glimpse to see. The overview
    is the mean and the maximum of each channel.

    Args:
        image_channels: of a frame.
        reduce: side of the squares.
        channels: of each convolution.
        strides: of each convolution, 1 or 2.

    Raises:
        ValueError: if there are not as many strides as channels, or a number is impossible.
    """

    def __init__(
        self,
        image_channels: int,
        reduce: int = 4,
        channels: Sequence[int] = (16, 16),
        strides: Sequence[int] = (2, 1),
    ) -> None:
        super().__init__()
        checks.not_empty(channels=channels)
        checks.at_least(1, image_channels=image_channels, reduce=reduce, channels=list(channels))
        checks.one_of((1, 2), strides=list(strides))
        if len(strides) != len(channels):
            raise ValueError(
                f"`channels` and `strides` must have one length, got {len(channels)} and {len(strides)}."
            )
        self.reduce = reduce
        self.context_channels, self.glimpse_channels = channels[-1], image_channels
        self.overview_size = 2 * channels[-1]
        layers: list[nn.Module] = []
        for before, after, stride in zip((image_channels, *channels), channels, strides, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, video: Tensor) -> FeatureMaps:
        """Maps of videos `(B, T, C, H, W)`."""
        small = F.avg_pool2d(video.flatten(0, 1), self.reduce)
        context = self.convolutions(small).unflatten(0, video.shape[:2])
        overview = torch.cat([context.mean((1, 3, 4)), context.amax((1, 3, 4))], dim=-1)
        return FeatureMaps(context, video, overview)


class ConvClip(nn.Module):
    """Small convolutions, of which all but the first see the frames before and after too.

    Each has 3 x 3 pixels, stride 2, batch normalisation and rectification. The last but one makes the
    context, the last what glimpses are read from, and the overview, which is its mean.

    Args:
        image_channels: of a frame.
        channels: of each convolution, at least two.
        reduce: frames are first averaged over squares of so many pixels.
    """

    def __init__(self, image_channels: int, channels: Sequence[int] = (32, 64, 128), reduce: int = 1) -> None:
        super().__init__()
        checks.at_least(1, reduce=reduce)
        checks.at_least(1, image_channels=image_channels, channels=list(channels))
        if len(channels) < 2:
            raise ValueError(f"`channels` must be of at least two convolutions, got {tuple(channels)}.")
        self.reduce = reduce
        self.context_channels, self.glimpse_channels = channels[-2], channels[-1]
        self.overview_size = channels[-1]
        layers = [
            nn.Sequential(
                nn.Conv3d(
                    before,
                    after,
                    (3 if number else 1, 3, 3),
                    (1, 2, 2),
                    padding=(1 if number else 0, 1, 1),
                    bias=False,
                ),
                nn.BatchNorm3d(after),
                nn.ReLU(),
            )
            for number, (before, after) in enumerate(itertools.pairwise((image_channels, *channels)))
        ]
        self.first, self.last = nn.Sequential(*layers[:-1]), layers[-1]

    def forward(self, video: Tensor) -> FeatureMaps:
        """Maps of videos `(B, T, C, H, W)`."""
        small = F.avg_pool3d(video.transpose(1, 2), (1, self.reduce, self.reduce))
        context = self.first(small)
        last = self.last(context)
        return FeatureMaps(context.transpose(1, 2), last.transpose(1, 2), last.mean((2, 3, 4)))


class MeanContext(nn.Module):
    """Means of maps over their pixels, the published context.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.size = channels

    def forward(self, maps: Tensor) -> Tensor:
        """From `(..., C, h, w)` to `(..., C)`."""
        return maps.mean(dim=(-2, -1))


class PlacesContext(nn.Module):
    """Where in the map each channel is great: the expected place under a softmax over its pixels.

    A mean does not tell where something is, but by what deep networks with padding learn to write there; a
    small network needs this.

    Args:
        channels: of the maps.
        sharpness: of the softmax at first; it is learned for each channel.
    """

    def __init__(self, channels: int, sharpness: float = 10.0) -> None:
        super().__init__()
        checks.positive(channels=channels, sharpness=sharpness)
        self.size = 2 * channels
        self.log_sharpness = nn.Parameter(torch.full((channels,), sharpness).log())

    def forward(self, maps: Tensor) -> Tensor:
        """From `(..., C, h, w)` to `(..., 2 C)`: x and y in [-1, 1], from first to last pixel centre."""
        height, width = maps.shape[-2:]
        logits = maps * self.log_sharpness.exp()[:, None, None]
        weights = logits.flatten(-2).softmax(dim=-1).unflatten(-1, (height, width))
        xs, ys = (torch.linspace(-1, 1, n, device=maps.device, dtype=maps.dtype) for n in (width, height))
        return torch.cat([weights.sum(-2) @ xs, weights.sum(-1) @ ys], dim=-1)


class UnboundedPlaces(PlacesContext):
    """The same places, as they are before a hyperbolic tangent.

    What is made of them, the middles of glimpses and the joints, is the tangent of something linear. So it
    can be the very place; of places themselves, it is some pixels beside it.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """See `PlacesContext.forward`; unbounded."""
        return (_WITHIN * super().forward(maps)).atanh()
