"""How far an image is from what is behind the objects: what is brighter, and what is darker, apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ... import checks


@dataclass(frozen=True)
class Contrast:
    r"""What is brighter than the background, and what is darker, as images of objects on black.

    $$c^\pm = \max(0, \pm(x - b)) / white, \quad x = b + white (c^+ - c^-),$$

    as the ON and OFF cells of a retina see them: whatever looks for bright objects on black finds both, and
    those that differ by `white` as bright as a clamped canvas can be. Behind such a one another is hidden to
    those who look; in the image contrasts add up.

    Args:
        white: the difference of the brightest objects, in (0, 1].
    """

    white: float = 1.0

    def __post_init__(self) -> None:
        checks.within("(0, 1]", self, "white")

    def of(self, images: Tensor, behind: Tensor) -> Tensor:
        """The contrasts of images `(..., C, H, W)` to a background of that shape: `(..., 2 C, H, W)`.

        What is brighter comes first; none is negative.
        """
        signed = images - behind
        return torch.cat([signed, -signed], dim=-3).relu() / self.white

    def added(self, drawn: Tensor, channels: int) -> Tensor:
        """What colours, or a contrast, add to an image of so many channels, `(..., C, H, W)`."""
        if drawn.shape[-3] != 2 * channels:
            return drawn
        brighter, darker = drawn.chunk(2, dim=-3)
        return self.white * (brighter - darker)

    def in_front(self, drawn: Tensor, behind: Tensor, covered: Tensor | None = None) -> Tensor:
        """An image of which something is drawn in front of a background.

        Args:
            drawn: colours, `(..., C, H, W)`, or a contrast to the background, `(..., 2 C, H, W)`.
            behind: the background, `(..., C, H, W)`.
            covered: how much of it colours hide, `(..., H, W)`; by default they are added to it.

        Returns:
            `(..., C, H, W)`.
        """
        channels = behind.shape[-3]
        if covered is None or drawn.shape[-3] != channels:  # a contrast hides nothing
            return behind + self.added(drawn, channels)
        return drawn + (1 - covered).unsqueeze(-3) * behind
