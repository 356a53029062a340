"""How SQAIR's unbounded `z_where` means a window of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .attention import sqair_squash


@dataclass(frozen=True)
class SquashedWindows:
    """Windows of `z_where = (a_x, a_y, b_x, b_y)`: `s = sigmoid(a)`, `t = reach tanh(b / reach)`.

    Model and guide are given the same one. With the published reach of 1 no window's centre leaves the
    image, so that an object most of which is outside has no place; one is out of sight where `|t| > 1 + s`,
    and a reach of 2 goes there. Near the middle b is t, whatever the reach.
    """

    reach: float = 1.0
    """Greatest distance of a centre from the middle of the image, whose border is at 1."""

    def __post_init__(self) -> None:
        if not self.reach > 0:
            raise ValueError(f"`reach` must be positive, got {self.reach}")

    def __call__(self, z_where: Tensor) -> Tensor:
        """Coords `(s_x, s_y, t_x, t_y)`, see `attention`, of `(..., 4)`."""
        return sqair_squash(z_where, self.reach)

    def inverse(self, coords: Tensor) -> Tensor:
        """`z_where` of coords `(..., 4)`; those that no finite one has are moved within what one has."""
        size = coords[..., :2].clamp(1e-4, 1 - 1e-4).logit()
        return torch.cat([size, self.inverse_shift(coords[..., 2:])], dim=-1)

    def inverse_shift(self, shift: Tensor) -> Tensor:
        """B of shifts t, of any shape; beyond 0.95 of the reach it is that of 0.95."""
        return (shift / self.reach).clamp(-0.95, 0.95).atanh() * self.reach

    def slope(self, coords: Tensor) -> Tensor:
        """Derivative of the coords `(..., 4)` in `z_where`, component by component."""
        size, shift = coords[..., :2], coords[..., 2:] / self.reach
        return torch.cat([size * (1 - size), 1 - shift.square()], dim=-1)
