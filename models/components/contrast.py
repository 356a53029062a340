"""How far an image is from what is behind the objects: what is brighter, and what is darker, apart."""

from __future__ import annotations

import torch
from torch import Tensor


def contrast(images: Tensor, behind: Tensor) -> Tensor:
    """What is brighter than the background, and then what is darker, of each channel.

    Both are on black, as the ON and OFF cells of a retina see them, so that whatever looks for bright objects
    on black finds both.

    Args:
        images: `(..., C, H, W)`.
        behind: the background, `(..., C, H, W)`.

    Returns:
        `(..., 2 C, H, W)`, not negative.
    """
    signed = images - behind
    return torch.cat([signed.relu(), (-signed).relu()], dim=-3)


def difference(drawn: Tensor, channels: int) -> Tensor:
    """What colours, or a contrast, add to an image of so many channels, `(..., C, H, W)`."""
    if drawn.shape[-3] != 2 * channels:
        return drawn
    brighter, darker = drawn.chunk(2, dim=-3)
    return brighter - darker


def in_front(drawn: Tensor, behind: Tensor, covered: Tensor | None = None) -> Tensor:
    """An image of which something is drawn in front of a background.

    Args:
        drawn: colours, `(..., C, H, W)`, or a contrast to the background, `(..., 2 C, H, W)`, of which
            `contrast` is the inverse where no pixel is both.
        behind: the background, `(..., C, H, W)`.
        covered: how much of it colours hide, `(..., H, W)`; by default they are added to it.

    Returns:
        `(..., C, H, W)`.
    """
    channels = behind.shape[-3]
    if covered is None or drawn.shape[-3] != channels:  # a contrast hides nothing
        return behind + difference(drawn, channels)
    return drawn + (1 - covered).unsqueeze(-3) * behind
