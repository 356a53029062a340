"""A second look at where discovery believes an object to be."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..models.components.attention import Size, crop
from ..models.components.constants import constant
from ..models.components.networks import initialise, mlp
from ..models.components.windows import SquashedWindows


def centre_of_ink(glimpses: Tensor) -> Tensor:
    """Mean position of what is bright in glimpses `(..., C, h, w)`, x and y in [-1, 1], `(..., 2)`.

    With less than a pixel of full brightness it is drawn to the middle, where that of black is.
    """
    ink = glimpses.sum(-3)
    height, width = ink.shape[-2:]
    ys, xs = (torch.linspace(-1, 1, n, device=ink.device, dtype=ink.dtype) for n in (height, width))
    x, y = (ink.sum(-2) * xs).sum(-1), (ink.sum(-1) * ys).sum(-1)
    return torch.stack([x, y], dim=-1) / ink.sum((-1, -2)).clamp(min=1.0).unsqueeze(-1)


class SecondLook(nn.Module):
    """Corrects mean and standard deviation of a place by what is seen there.

    A network that sees the whole frame says where an object is to a pixel or two. Here the window of that
    place, somewhat enlarged, is cropped, and an MLP of the crop and its centre of ink says by how much the
    place is off. It starts with no correction. The crop is made without gradient in the place: what the first
    look learns from is its own place, not how well it can be seen from there.

    Args:
        channels: of the images.
        glimpse_size: height and width of the crop.
        hidden: width of the hidden layer.
        features: width of the features that the correction is linear in.
        enlarge: side of the crop's window over that of the place.
        windows: what `z_where` means.
        units: of the correction of each component of the mean.
    """

    def __init__(
        self,
        channels: int = 1,
        glimpse_size: Size = (20, 20),
        hidden: int = 256,
        features: int = 64,
        enlarge: float = 1.2,
        windows: Callable[[Tensor], Tensor] = SquashedWindows(),  # noqa: B008
        units: tuple[float, ...] = (0.1, 0.1, 0.1, 0.1),
    ) -> None:
        super().__init__()
        pixels = channels * math.prod(glimpse_size)
        self.features = nn.Sequential(
            nn.Flatten(-3), mlp([pixels, hidden, features], nn.ELU, activate_last=True)
        )
        self.correction = nn.Linear(features + 2, 2 * len(units))
        initialise(self.features)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        self.glimpse_size = glimpse_size
        self.enlarge = enlarge
        self.windows = windows
        self.units = units

    def forward(self, images: Tensor, z_where: Tensor) -> Tensor:
        """Corrections of mean and raw standard deviation, side by side, `(..., 2 D)`.

        Args:
            images: `(B, C, H, W)`.
            z_where: mean place of the first look, `(..., B, D)`.
        """
        size, shift = self.windows(z_where.detach()).chunk(2, dim=-1)
        glimpses = crop(images, torch.cat([self.enlarge * size, shift], dim=-1), self.glimpse_size)
        seen = torch.cat([centre_of_ink(glimpses), self.features(glimpses)], dim=-1)
        loc, raw_scale = self.correction(seen).chunk(2, dim=-1)
        return torch.cat([loc * constant(self.units, loc), raw_scale], dim=-1)
