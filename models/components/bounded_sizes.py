"""Sizes that cannot run away: near those of the first box, and back to them without reasons against it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BoundedSizes:
    """How sizes of a tracked object may change, in place of free steps from frame to frame.

        r_t = (1 - leak) r_{t-1} + step u_t,   sides = first sides * exp(r_t),   u_t in [-1, 1]

    so that `|r|` stays below `step / leak`. Free steps multiply: an error of 5 % a frame is a factor of 19
    after 60 frames. Both sides change by the same factor, since most objects come nearer or go away; for the
    rest there are the corrections of single boxes, which are not fed back, and are bounded too.

    Raises:
        ValueError: if a number is out of range.
    """

    step: float = 0.02
    """Greatest change of the logarithm of the sides, per frame."""
    leak: float = 0.03
    """Share of the way back to the first size, per frame."""
    shift: float = 0.15
    """Greatest correction of a box's middle, in units of its window's sides."""
    stretch: float = 0.03
    """Greatest correction of its sides, in the same units."""

    def __post_init__(self) -> None:
        for name in ("step", "leak", "shift", "stretch"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in (0, 1], got {getattr(self, name)}")

    def next(self, size: Tensor, change: Tensor) -> Tensor:
        """R `(B, 1)` of the next frame, of that of this one, and numbers `(B, n)` whose mean is u."""
        return (1 - self.leak) * size + self.step * change.mean(dim=-1, keepdim=True)

    def correction(self, change: Tensor) -> Tensor:
        """What is added to a box, `(..., 4)` in units of the window, for numbers `(..., 4)` in [-1, 1].

        The first two move the middle, the others change the sides about it.
        """
        extent = self.stretch * change[..., 2:]
        return torch.cat([self.shift * change[..., :2] - extent / 2, extent], dim=-1)
