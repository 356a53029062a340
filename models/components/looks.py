"""What a picture is compared by: its colours, and the slopes of its brightness."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_COLOUR = 0.5
"""Factor of colours beside slopes."""


def looks(images: Tensor) -> Tensor:
    """Colours, and how much the brightness rises and falls along both axes, each in a channel of its own.

    Slopes say more about an object than its colours do, and less about the light, as in Dalal and Triggs,
    *Histograms of Oriented Gradients for Human Detection*, 2005; in their four directions apart, they can be
    compared by correlation.

    Args:
        images: `(..., C, H, W)`, grey values in [0, 1].

    Returns:
        `(..., C + 4, H, W)`, not negative. A slope is the difference of the two neighbours, 0 at the border.
    """
    grey = images.mean(dim=-3, keepdim=True)
    across = F.pad(grey[..., 2:] - grey[..., :-2], (1, 1))
    down = F.pad(grey[..., 2:, :] - grey[..., :-2, :], (0, 0, 1, 1))
    slopes = torch.cat([across, -across, down, -down], dim=-3).relu()
    return torch.cat([_COLOUR * images, slopes], dim=-3)
