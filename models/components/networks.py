"""Feed-forward networks that models and guides are built of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import checks
from .attention import Size


class LocScale(NamedTuple):
    """Parameters of a diagonal normal distribution."""

    loc: Tensor
    """Mean, `(..., D)`."""
    scale: Tensor
    """Standard deviation, `(..., D)`, positive."""

    def slot(self, i: int) -> LocScale:
        """The parameters of one slot, where there is an axis N of slots before D."""
        return LocScale(self.loc[..., i, :], self.scale[..., i, :])


def mlp(
    sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU, activate_last: bool = False
) -> nn.Sequential:
    """A multi-layer perceptron: `activation` after every layer but the last.

    Args:
        sizes: of the input, the hidden layers and the output.
        activation: class of the non-linearity.
        activate_last: apply it after the last layer too, where the output is a feature.
    """
    checks.at_least(1, sizes=list(sizes))
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*(layers if activate_last else layers[:-1]))


def initialise(*modules: nn.Module) -> None:
    """Initialise linear layers and convolutions as SQAIR's authors do (Sonnet's default).

    Weights are normal with standard deviation `1 / sqrt(fan_in)`, truncated at two of them; biases are zero.
    """
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                std = layer.weight[0].numel() ** -0.5
                nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def inverse_softplus(value: float) -> float:
    """The x with `softplus(x) = value`: a raw scale that starts from a given one.

    Raises:
        ValueError: if the value is not positive.
    """
    if not value > 0:
        raise ValueError(f"`value` of a softplus must be positive, got {value}")
    return value + math.log(-math.expm1(-value))


def fill_output_bias(network: nn.Sequential, value: float) -> None:
    """Set all biases of a network's last, linear, layer."""
    last = network[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError(f"the last layer of `network` must be linear, got {type(last).__name__}")
    nn.init.constant_(last.bias, value)


class GlimpseEncoder(nn.Module):
    """Parameters of `q(z_what | glimpse)`: an MLP with a softplus standard deviation.

    Args:
        glimpse_shape: channels, height and width of a glimpse.
        what_size: components of `z_what`.
        hidden: widths of the hidden layers.
        activation: class of the non-linearity.
    """

    def __init__(
        self,
        glimpse_shape: tuple[int, int, int],
        what_size: int,
        hidden: Sequence[int] = (200,),
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        checks.at_least(1, glimpse_shape=glimpse_shape, what_size=what_size, hidden=list(hidden))
        pixels = torch.Size(glimpse_shape).numel()
        self.network = mlp([pixels, *hidden, 2 * what_size], activation)

    def forward(self, glimpses: Tensor) -> LocScale:
        """Encode glimpses `(..., C, h, w)` to a normal over `(..., what_size)`."""
        loc, raw_scale = self.network(glimpses.flatten(-3)).chunk(2, dim=-1)
        return LocScale(loc, F.softplus(raw_scale))


class GlimpseDecoder(nn.Module):
    """What an object looks like, given `z_what`: an MLP with sigmoid pixels.

    The output bias starts at -2, so that objects begin nearly black (0.12). From a mid-grey start
    every object costs likelihood wherever it is put, and the guide learns to use none, or, to
    repair the damage, all of them.

    Args:
        what_size: components of `z_what`.
        glimpse_shape: channels, height and width of a glimpse.
        hidden: widths of the hidden layers.
        output_bias: constant added to the logits of the pixels.
        activation: class of the non-linearity.
    """

    def __init__(
        self,
        what_size: int,
        glimpse_shape: tuple[int, int, int],
        hidden: Sequence[int] = (200,),
        output_bias: float = -2.0,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        checks.at_least(1, glimpse_shape=glimpse_shape, what_size=what_size, hidden=list(hidden))
        self.glimpse_shape = torch.Size(glimpse_shape)
        self.output_bias = output_bias
        self.network = mlp([what_size, *hidden, self.glimpse_shape.numel()], activation)

    @property
    def glimpse_size(self) -> Size:
        """Height and width of a glimpse."""
        return self.glimpse_shape[1], self.glimpse_shape[2]

    def forward(self, z_what: Tensor) -> Tensor:
        """Decode `(..., what_size)` to glimpses `(..., C, h, w)` in (0, 1)."""
        pixels = (self.network(z_what) + self.output_bias).sigmoid()
        return pixels.unflatten(-1, self.glimpse_shape)


def convolutions(in_channels: int, channels: Sequence[int], strides: Sequence[int]) -> nn.Sequential:
    """Convolutions of 3 x 3 pixels, each with an ELU; each divides the size by its stride, rounded up.

    Sizes are those of TensorFlow's `SAME` padding, but the padding is one pixel on every side. Under
    stride 2, TensorFlow pads even sizes at the bottom and the right alone: the same network in a mirror.

    Args:
        in_channels: channels of the image.
        channels: of each convolution.
        strides: of each convolution, 1 or 2.

    Raises:
        ValueError: if `channels` and `strides` differ in length.
    """
    _check_lengths(channels, strides)
    layers: list[nn.Module] = []
    for before, after, stride in zip((in_channels, *channels), channels, strides, strict=False):
        layers += [nn.Conv2d(before, after, 3, stride, padding=1), nn.ELU()]
    return nn.Sequential(*layers)


class ConvFeatures(nn.Module):
    """`convolutions`, then a fully connected layer with an ELU.

    Several encoders, of images of different sizes, share their convolutions as `trunk`, as CONV-SQAIR's
    encoders of frames and glimpses do (Kosiorek et al., 2018); the fully connected layer is always their own.

    Args:
        image_shape: channels, height and width of an image.
        channels: of each convolution.
        strides: of each convolution.
        features: width of the fully connected layer.
        trunk: convolutions made elsewhere; `channels` and `strides` then have no part.

    Raises:
        ValueError: if `channels` and `strides` differ in length.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: Sequence[int] = (16, 32, 32, 64),
        strides: Sequence[int] = (2, 2, 1, 1),
        features: int = 256,
        trunk: nn.Sequential | None = None,
    ) -> None:
        super().__init__()
        self.image_shape = torch.Size(image_shape)
        self.convolutions = convolutions(image_shape[0], channels, strides) if trunk is None else trunk
        with torch.no_grad():
            pixels = self.convolutions(torch.zeros(1, *image_shape)).numel()
        self.readout = nn.Linear(pixels, features)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images `(..., C, H, W)` to features `(..., features)`."""
        maps = self.convolutions(images.reshape(-1, *self.image_shape))
        features = F.elu(self.readout(maps.flatten(1)))
        return features.reshape(*images.shape[:-3], self.readout.out_features)


class SubPixelGlimpseDecoder(nn.Module):
    """Sub-pixel convolutions from `z_what` to a glimpse, linear in the last layer.

    Fully connected layers make a small map. Each convolution then enlarges it by its stride s: it computes
    `s^2` values per pixel and channel, and these become a block of s x s pixels (Shi et al., *Real-Time
    Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network*, 2016,
    equation 4, up to the order of channels). A last convolution, which SQAIR's paper does not specify, maps
    to the glimpse's channels. Filters are of 3 x 3 pixels; ELU throughout, before the pixels are rearranged.
    The defaults are CONV-SQAIR's (Kosiorek et al., 2018, appendix D).

    Args:
        what_size: W.
        glimpse_shape: channels, height and width.
        hidden: widths of the fully connected layers before the map.
        channels: after each convolution; the first map has as many as the first.
        strides: factor by which each convolution enlarges height and width. The first map is smaller than the
            glimpse by their product, which must divide its height and width.

    Raises:
        ValueError: if `channels` and `strides` differ in length, or the strides do not divide the glimpse.
    """

    def __init__(
        self,
        what_size: int,
        glimpse_shape: tuple[int, int, int],
        hidden: Sequence[int] = (256,),
        channels: Sequence[int] = (32, 64, 64),
        strides: Sequence[int] = (1, 2, 2),
    ) -> None:
        super().__init__()
        _check_lengths(channels, strides)
        scale, (colours, height, width) = math.prod(strides), glimpse_shape
        if height % scale or width % scale:
            raise ValueError(
                f"`glimpse_shape` must have a height and a width divisible by {scale}, the product of "
                f"`strides`, but got {height} x {width}."
            )
        self.glimpse_shape = torch.Size(glimpse_shape)
        self.map_shape = torch.Size((channels[0], height // scale, width // scale))
        self.map = mlp([what_size, *hidden, self.map_shape.numel()], nn.ELU, activate_last=True)
        layers: list[nn.Module] = []
        for before, after, stride in zip((channels[0], *channels), channels, strides, strict=False):
            layers += [
                nn.Conv2d(before, after * stride**2, 3, padding=1),
                nn.ELU(),
                nn.PixelShuffle(stride),
            ]
        self.convolutions = nn.Sequential(*layers, nn.Conv2d(channels[-1], colours, 3, padding=1))
        initialise(self)

    def forward(self, z_what: Tensor) -> Tensor:
        """Decode `(..., W)` to `(..., C, h, w)`."""
        maps = self.map(z_what).reshape(-1, *self.map_shape)
        return self.convolutions(maps).reshape(*z_what.shape[:-1], *self.glimpse_shape)


def _check_lengths(channels: Sequence[int], strides: Sequence[int]) -> None:
    if len(channels) != len(strides):
        raise ValueError(
            f"`channels` and `strides` must have one length, got {len(channels)} and {len(strides)}."
        )
