"""ResNet-50 over clips: convolutions for pictures, inflated to see the frames before and after.

He, Zhang, Ren & Sun, *Deep Residual Learning for Image Recognition*, 2016, inflated as Carreira & Zisserman,
*Quo Vadis, Action Recognition?*, 2017, do, with the weights in the middle of the new axis: at first the
network does on each frame what that for pictures does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ... import checks
from .clip_features import FeatureMaps

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the colours of ImageNet, which pictures are measured by."""

_WIDENING = 4


class InflatedBottleneck(nn.Module):
    """Convolutions of 1, 3 x 3 x 3 and 1 pixels beside a short cut.

    Args:
        before: channels of the input.
        width: channels in between; the output has four times as many.
        stride: of the second convolution over rows and columns; frames are never skipped.
    """

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        after = _WIDENING * width
        self.conv1 = nn.Conv3d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, (1, stride, stride), padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(after)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv3d(before, after, 1, (1, stride, stride), bias=False), nn.BatchNorm3d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        """From `(B, C, T, h, w)` to `(B, 4 width, T, h / stride, w / stride)`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class InflatedResNet(nn.Module):
    """An inflated ResNet, by default of 50 layers: `clip_features.ClipFeatures` of colour videos.

    The context are the maps of the third stage, `4 width 4` channels of a 16th of the frame's sides; glimpses
    are read from those of the fourth, of which the overview is the mean.

    Args:
        width: channels of the first convolution.
        blocks: in each of the four stages.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3)) -> None:
        super().__init__()
        checks.at_least(1, width=width, blocks=list(blocks))
        if len(blocks) != 4:
            raise ValueError(f"`blocks` must be of four stages, got {tuple(blocks)}.")
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
        before, stages = width, []
        for stage, count in enumerate(blocks):
            layers = []
            for number in range(count):
                inner = width * 2**stage
                layers.append(InflatedBottleneck(before, inner, 2 if stage and not number else 1))
                before = _WIDENING * inner
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.glimpse_channels = self.overview_size = before
        self.context_channels = before // 2
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")

    def forward(self, video: Tensor) -> FeatureMaps:
        """Maps of videos `(B, T, 3, H, W)` in [0, 1]."""
        frames = (video.flatten(0, 1) - self.mean) / self.std
        maps = self.pool(self.relu(self.bn1(self.conv1(frames))))
        maps = maps.unflatten(0, video.shape[:2]).transpose(1, 2)
        context = self.layer3(self.layer2(self.layer1(maps)))
        last = self.layer4(context)
        return FeatureMaps(context.transpose(1, 2), last.transpose(1, 2), last.mean((2, 3, 4)))


def inflated(weights: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for pictures as weights for clips: a filter is the middle one of the three over time.

    Args:
        weights: state of a ResNet for pictures of the same width, as torchvision publishes it; what is only
            there, its classifier, is left out.
        like: state of an `InflatedResNet`.

    Raises:
        ValueError: if one is missing, or has another shape.
    """
    found = {}
    for name, own in like.items():
        given = weights.get(name)
        if given is None and name.endswith("num_batches_tracked"):
            found[name] = own
            continue
        shape = own.shape if own.dim() < 5 else (*own.shape[:2], *own.shape[3:])
        if given is None or given.shape != shape:
            got = None if given is None else tuple(given.shape)
            raise ValueError(f"`{name}` must have shape {tuple(shape)}, but got {got}.")
        if own.dim() == 5:
            middle = torch.zeros_like(own)
            middle[:, :, own.shape[2] // 2] = given
            given = middle
        found[name] = given.to(own)
    return found
