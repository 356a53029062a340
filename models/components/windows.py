"""How `z_where` means a window of the image: SQAIR's unbounded one, and AIR's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ... import checks
from .attention import (
    MIN_SCALE,
    Size,
    air_inverse_scale,
    clip_straight_through,
    coords_to_air,
    sqair_squash,
)


@dataclass(frozen=True)
class SquashedWindows:
    """Windows of `z_where = (a_x, a_y, b_x, b_y)`: `s = u sigmoid(a)`, `t = reach tanh(u b / reach)`.

    Model and guide are given the same one. With the published reach of 1 no window's centre leaves the
    image, so that an object most of which is outside has no place; one is out of sight where `|t| > 1 + s`,
    and a reach of 2 goes there. Near the middle b is t, whatever the reach.

    With the units u, `z_where` is measured in a frame of another size than the image's: in a larger image the
    same change of `z_where` moves an object by as many pixels. So a model of crops is one of whole frames.
    """

    reach: float = 1.0
    """Greatest distance of a centre from the middle of the image, whose border is at 1."""
    unit: tuple[float, float] = (1.0, 1.0)
    """Width and height of the frame in which `z_where` is measured, over those of the image."""

    def __post_init__(self) -> None:
        if not self.reach > 0:
            raise ValueError(f"`reach` must be positive, got {self.reach}")
        checks.positive(unit=self.unit)

    @classmethod
    def measured_in(cls, frame: Size, image: Size, reach: float = 1.0) -> SquashedWindows:
        """Windows of images whose `z_where` is that of frames of another size.

        Args:
            frame: height and width of the frames in which places are measured, in pixels, at least 2.
            image: those of the images.
            reach: as the field.
        """
        checks.at_least(2, frame=frame, image=image)
        height, width = ((old - 1) / (new - 1) for old, new in zip(frame, image, strict=True))
        return cls(reach, (width, height))

    def __call__(self, z_where: Tensor) -> Tensor:
        """Coords `(s_x, s_y, t_x, t_y)`, see `attention`, of `(..., 4)`."""
        if self.unit == (1.0, 1.0):
            return sqair_squash(z_where, self.reach)
        unit = z_where.new_tensor(self.unit)
        size = clip_straight_through(unit * z_where[..., :2].sigmoid(), MIN_SCALE)
        return torch.cat([size, self.reach * (unit * z_where[..., 2:] / self.reach).tanh()], dim=-1)

    def inverse(self, coords: Tensor) -> Tensor:
        """`z_where` of coords `(..., 4)`; those that no finite one has are moved within what one has."""
        size = (coords[..., :2] / coords.new_tensor(self.unit)).clamp(1e-4, 1 - 1e-4).logit()
        shifts = [self.inverse_shift(coords[..., 2 + axis], axis) for axis in (0, 1)]
        return torch.cat([size, torch.stack(shifts, dim=-1)], dim=-1)

    def inverse_shift(self, shift: Tensor, axis: int) -> Tensor:
        """B of shifts t, of any shape; beyond 0.95 of the reach it is that of 0.95.

        Args:
            shift: t.
            axis: 0 for x, 1 for y.
        """
        return (shift / self.reach).clamp(-0.95, 0.95).atanh() * (self.reach / self.unit[axis])

    def slope(self, coords: Tensor) -> Tensor:
        """Derivative of the coords `(..., 4)` in `z_where`, component by component."""
        unit = coords.new_tensor(self.unit)
        size, shift = coords[..., :2], coords[..., 2:] / self.reach
        return torch.cat([size * (1 - size / unit), unit * (1 - shift.square())], dim=-1)


@dataclass(frozen=True)
class InverseScaleWindows:
    """Windows of AIR's `z_where = (s, x, y)`, see `attention.air_inverse_scale`; they are all square."""

    def __call__(self, z_where: Tensor) -> Tensor:
        """Coords `(..., 4)` of `(..., 3)`."""
        return air_inverse_scale(z_where)

    def inverse(self, coords: Tensor) -> Tensor:
        """`z_where` of coords `(..., 4)`."""
        return coords_to_air(coords)
