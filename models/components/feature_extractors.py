"""What RATM sees in a glimpse: its pixels, or the activations of a small convolutional network.

Kahou, Michalski & Memisevic, *RATM: Recurrent Attentive Tracking Model*, 2017. The networks are trained
beforehand as classifiers of glimpse-sized pictures, and then frozen.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .networks import mlp


class PixelFeatures(nn.Module):
    """The grey values themselves.

    Args:
        glimpse_shape: channels, height and width of a glimpse.
    """

    def __init__(self, glimpse_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.size = torch.Size(glimpse_shape).numel()

    def forward(self, glimpses: Tensor) -> Tensor:
        """Flatten glimpses `(..., C, h, w)` to `(..., size)`."""
        return glimpses.flatten(-3)


class ConvPoolFeatures(nn.Module):
    """Blocks of convolution, maximum pooling over 2 x 2 pixels, dropout and rectification.

    Convolutions keep the size, and pooling halves it, rounded down. Weights are uniform in
    `+-1 / sqrt(fan_in)` at first, and biases zero.

    Args:
        glimpse_shape: channels, height and width of a glimpse.
        channels: of each convolution.
        kernels: sides of the filters, odd.
        dropout: probability with which an activation is dropped.
        grey_levels: what white, 1 in a glimpse, is for the first convolution.

    Raises:
        ValueError: if `channels` and `kernels` differ in length, a kernel is even, or nothing is left of the
            glimpse.
    """

    def __init__(
        self,
        glimpse_shape: tuple[int, int, int],
        channels: Sequence[int],
        kernels: Sequence[int],
        dropout: float = 0.0,
        grey_levels: float = 1.0,
    ) -> None:
        super().__init__()
        if len(channels) != len(kernels) or any(side % 2 == 0 for side in kernels):
            raise ValueError(
                "`kernels` must be odd and as many as `channels`, "
                f"but got {tuple(kernels)} for {len(channels)} channels."
            )
        colours, height, width = self.glimpse_shape = torch.Size(glimpse_shape)
        shrink = 2 ** len(channels)
        if min(height, width) < shrink:
            raise ValueError(f"a glimpse must be at least {shrink} x {shrink}, but got {height} x {width}.")
        self.size = channels[-1] * (height // shrink) * (width // shrink)
        self.grey_levels = grey_levels
        layers: list[nn.Module] = []
        for (before, after), side in zip(itertools.pairwise((colours, *channels)), kernels, strict=True):
            layers += [nn.Conv2d(before, after, side, padding=side // 2), nn.MaxPool2d(2)]
            layers += [nn.Dropout(dropout), nn.ReLU()]
        self.blocks = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, glimpses: Tensor) -> Tensor:
        """Map glimpses `(..., C, h, w)` in [0, 1] to features `(..., size)`."""
        maps = self.blocks(self.grey_levels * glimpses.reshape(-1, *self.glimpse_shape))
        return maps.reshape(*glimpses.shape[:-3], self.size)


class GlimpseClassifier(nn.Module):
    """A classifier on top of a feature extractor: what trains the features.

    Args:
        features: maps glimpses to `(..., features.size)`.
        classes: number of classes.
        hidden: widths of fully connected layers with rectification in between.

    Attributes:
        embedding: glimpses to the activations that are read out, `(..., E)`.
    """

    def __init__(
        self, features: PixelFeatures | ConvPoolFeatures, classes: int, hidden: Sequence[int] = ()
    ) -> None:
        super().__init__()
        sizes = [features.size, *hidden]
        head = mlp(sizes, activate_last=True)
        self.embedding = nn.Sequential(features, head)
        self.readout = nn.Linear(sizes[-1], classes)
        _initialise(head, self.readout)

    def forward(self, glimpses: Tensor) -> Tensor:
        """Logits `(..., classes)` of glimpses `(..., C, h, w)` in [0, 1]."""
        return self.readout(self.embedding(glimpses))


class Frozen(nn.Module):
    """A network that is used but not trained: its parameters get no gradient, its input does.

    It stays in evaluation mode whatever it is a part of, so that it never drops activations. The network
    itself is changed, not copied.

    Args:
        network: a module, frozen from now on.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Frozen:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, *args: Any) -> Any:
        """What the network returns."""
        return self.network(*args)


def digit_features(
    glimpse_shape: tuple[int, int, int] = (1, 28, 28), dropout: float = 0.25
) -> ConvPoolFeatures:
    """RATM's network for digits: 32 filters of 5 x 5, twice; 1,568 features of 28 x 28 pixels.

    The paper does not tell the padding; with this one the filters reach beyond the border, as in the network
    for people.
    """
    return ConvPoolFeatures(glimpse_shape, (32, 32), (5, 5), dropout)


def digit_classifier(glimpse_shape: tuple[int, int, int] = (1, 28, 28)) -> GlimpseClassifier:
    """RATM's classifier of digits: `digit_features`, read out to ten classes."""
    return GlimpseClassifier(digit_features(glimpse_shape), 10)


def human_features(
    glimpse_shape: tuple[int, int, int] = (1, 28, 28), grey_levels: float = 255.0
) -> ConvPoolFeatures:
    """RATM's network for KTH: 128 filters of 5 x 5, then 64 of 3 x 3; 3,136 features of 28 x 28 pixels.

    Args:
        glimpse_shape: channels, height and width of a glimpse.
        grey_levels: the authors feed grey values from 0 to 255, which their published weights need.
    """
    return ConvPoolFeatures(glimpse_shape, (128, 64), (5, 3), grey_levels=grey_levels)


def human_classifier(
    glimpse_shape: tuple[int, int, int] = (1, 28, 28), grey_levels: float = 255.0
) -> GlimpseClassifier:
    """RATM's classifier of background (0) and people (1), with an embedding of 256 activations.

    The tracker's objective compares embeddings; its recurrent cell gets `human_features`.
    """
    return GlimpseClassifier(human_features(glimpse_shape, grey_levels), 2, hidden=(256,))


@torch.no_grad()
def load_released_human_weights(classifier: GlimpseClassifier, arrays: Mapping[str, Any]) -> None:
    """Load the weights that RATM's authors have published, `human_convnet_val_best.h5`.

    Their convolutions turn the filters around, and their fully connected layers multiply from the left.

    Args:
        classifier: as `human_classifier` makes it.
        arrays: the file's data sets by name: `conv0_W`, `bias0_b`, `conv1_W`, `bias1_b`, `fc2_W`, `fc2_b`,
            `fc3_W` and `fc3_b`, anything that `torch.as_tensor` takes.

    Raises:
        KeyError: if an array is missing.
        ValueError: if an array does not fit.
    """
    layers = [layer for layer in classifier.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    names = [(f"conv{i}_W", f"bias{i}_b") for i in range(2)] + [(f"fc{i}_W", f"fc{i}_b") for i in (2, 3)]
    for layer, (weight_name, bias_name) in zip(layers, names, strict=True):
        weight = torch.as_tensor(arrays[weight_name])
        weight = weight.flip(-1, -2) if isinstance(layer, nn.Conv2d) else weight.mT
        for name, own, given in (
            (weight_name, layer.weight, weight),
            (bias_name, layer.bias, torch.as_tensor(arrays[bias_name])),
        ):
            if own is None or given.shape != own.shape:
                expected = None if own is None else tuple(own.shape)
                raise ValueError(f"`{name}` must become {expected}, but becomes {tuple(given.shape)}.")
            own.copy_(given)


def _initialise(*modules: nn.Module) -> None:
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                bound = layer.weight[0].numel() ** -0.5
                nn.init.uniform_(layer.weight, -bound, bound)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
