"""How `z_where` means a window of the image: SQAIR's unbounded one, and AIR's."""

from __future__ import annotations

import math
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
from .constants import constant

_MOST_GROWTH = 3.0
_LEAST_SHARE = 1e-6
"""Of a frame: logits of what is nearer to 0 or 1 are not finite, or have no gradients."""


@dataclass(frozen=True)
class SquashedWindows:
    """Windows of `z_where = (a_x, a_y, b_x, b_y)`: `s = u sigmoid(a)`, `t = reach tanh(u b / reach)`.

    Model and guide are given the same one. With the published reach of 1 no window's centre leaves the
    image, so that an object most of which is outside has no place; one is out of sight where `|t| > 1 + s`,
    and a reach of 2 goes there. Near the middle b is t, whatever the reach.

    With the units u, `z_where` is measured in a frame of another size than the image's: in a larger image the
    same change of `z_where` moves an object by as many pixels. So a model of crops is one of whole frames.

    Sizes can be limited: `s = u min(max(sigmoid(a), least), most)`. A window as wide as two objects draws two
    that stay side by side for the price of one, whatever a normal prior of sizes says of it: twice the size
    costs few nats. One of at most the root of two is nearer to one object than to two. Where sizes may differ
    by more, as near a camera and far from it, the shape tells a pair: a window is at most so much wider than
    high.
    """

    reach: float = 1.0
    """Greatest distance of a centre from the middle of the image, whose border is at 1."""
    unit: tuple[float, float] = (1.0, 1.0)
    """Width and height of the frame in which `z_where` is measured, over those of the image."""
    least: tuple[float, float] = (0.0, 0.0)
    """Least width and height of a window over those of that frame."""
    most: tuple[float, float] = (1.0, 1.0)
    """Greatest ones."""
    widest: float = math.inf
    """Greatest width over height, both over those of the frame."""

    def __post_init__(self) -> None:
        if not self.reach > 0:
            raise ValueError(f"`reach` must be positive, got {self.reach}")
        checks.positive(unit=self.unit)
        checks.within("(0, inf]", widest=self.widest)
        if not all(0 <= least < most <= 1 for least, most in zip(self.least, self.most, strict=True)):
            raise ValueError(
                f"`least` must be at least 0 and less than `most`, which is at most 1, got {self.least} "
                f"and {self.most}"
            )

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
        if self.unit == (1.0, 1.0) and not self.limited:
            return sqair_squash(z_where, self.reach)
        unit, share = constant(self.unit, z_where), z_where[..., :2].sigmoid()
        if self.limited:
            share = share.clamp(constant(self.least, share), constant(self.most, share))
            if self.widest < math.inf:
                share = _no_wider(share, self._greatest_width(share))
        size = clip_straight_through(unit * share, MIN_SCALE)
        return torch.cat([size, self.reach * (unit * z_where[..., 2:] / self.reach).tanh()], dim=-1)

    def inverse(self, coords: Tensor) -> Tensor:
        """`z_where` of coords `(..., 4)`; those that no finite one has are moved within what one has."""
        size = (coords[..., :2] / constant(self.unit, coords)).clamp(1e-4, 1 - 1e-4).logit()
        shifts = [self.inverse_shift(coords[..., 2 + axis], axis) for axis in (0, 1)]
        return self.within(torch.cat([size, torch.stack(shifts, dim=-1)], dim=-1))

    def within(self, z_where: Tensor) -> Tensor:
        """The nearest `z_where` `(..., 4)` whose size is not beyond its limits."""
        if not self.limited:
            return z_where
        least, most = (constant(limit, z_where).logit() for limit in (self.least, self.most))
        size = z_where[..., :2].clamp(least, most)
        if self.widest < math.inf:
            size = _no_wider(size, self._greatest_width(size.sigmoid()).logit(_LEAST_SHARE))
        return torch.cat([size, z_where[..., 2:]], dim=-1)

    @property
    def limited(self) -> bool:
        """Whether sizes have limits."""
        return self.least != (0.0, 0.0) or self.most != (1.0, 1.0) or self.widest != math.inf

    def _greatest_width(self, share: Tensor) -> Tensor:
        """Greatest widths `(...)` of windows of sizes `(..., 2)`, all over those of the frame."""
        return (share[..., 1] * self.widest).clamp(max=1)

    def growth(self, height: Tensor) -> Tensor:
        """How many times as large as its `z_where` says a window is whose middle is so high, `t_y`: 1."""
        return torch.ones_like(height)

    def inverse_shift(self, shift: Tensor, axis: int) -> Tensor:
        """B of shifts t, of any shape; beyond 0.95 of the reach it is that of 0.95.

        Args:
            shift: t.
            axis: 0 for x, 1 for y.
        """
        return (shift / self.reach).clamp(-0.95, 0.95).atanh() * (self.reach / self.unit[axis])

    def slope(self, coords: Tensor) -> Tensor:
        """Derivative of the coords `(..., 4)` in `z_where`, each by its own; at limits, within them."""
        unit = constant(self.unit, coords)
        size, shift = coords[..., :2], coords[..., 2:] / self.reach
        return torch.cat([size * (1 - size / unit), unit * (1 - shift.square())], dim=-1)


@dataclass(frozen=True)
class PerspectiveWindows(SquashedWindows):
    """Windows of things on a plane before a camera: `s = g(t_y) u sigmoid(a)`, the larger the lower they are.

    Things of one size are seen in proportion to how far they are below the horizon h, so that sizes of
    `z_where` are those that a thing has where its middle is in row r: `g(y) = (y - h) / (r - h)`, between a
    third and three. Model and guide know of it alike: what comes nearer grows, and its `z_where` does not.
    Frames are whole then, since places in them mean something.
    """

    horizon: float = -2.0
    """Height h of the horizon in the image, -1 at its upper border and 1 at its lower one."""
    row: float = 0.0
    """Height r of the row where sizes are those of `SquashedWindows`, below the horizon."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.horizon < self.row:
            raise ValueError(
                f"`horizon` must be above `row`, that is less, got {self.horizon} and {self.row}"
            )

    def growth(self, height: Tensor) -> Tensor:
        """G of heights `t_y`, of any shape."""
        return ((height - self.horizon) / (self.row - self.horizon)).clamp(1 / _MOST_GROWTH, _MOST_GROWTH)

    def __call__(self, z_where: Tensor) -> Tensor:
        """Coords `(s_x, s_y, t_x, t_y)`, see `attention`, of `(..., 4)`."""
        return self._grown(super().__call__(z_where))

    def inverse(self, coords: Tensor) -> Tensor:
        """As that of `SquashedWindows`."""
        return super().inverse(self._shrunk(coords))

    def slope(self, coords: Tensor) -> Tensor:
        """Derivative of each of the coords `(..., 4)` in its own component of `z_where`."""
        return self._grown(super().slope(self._shrunk(coords)), coords)

    def _grown(self, coords: Tensor, at: Tensor | None = None) -> Tensor:
        growth = self.growth((coords if at is None else at)[..., 3:])
        return torch.cat([coords[..., :2] * growth, coords[..., 2:]], dim=-1)

    def _shrunk(self, coords: Tensor) -> Tensor:
        return torch.cat([coords[..., :2] / self.growth(coords[..., 3:]), coords[..., 2:]], dim=-1)


def _no_wider(size: Tensor, most: Tensor) -> Tensor:
    """Sizes `(..., 2)` whose widths are at most so large, `(...)`."""
    return torch.stack([size[..., 0].minimum(most), size[..., 1]], dim=-1)


@dataclass(frozen=True)
class InverseScaleWindows:
    """Windows of AIR's `z_where = (s, x, y)`, see `attention.air_inverse_scale`; they are all square."""

    def __call__(self, z_where: Tensor) -> Tensor:
        """Coords `(..., 4)` of `(..., 3)`."""
        return air_inverse_scale(z_where)

    def growth(self, height: Tensor) -> Tensor:
        """As that of `SquashedWindows`: 1."""
        return torch.ones_like(height)

    def inverse(self, coords: Tensor) -> Tensor:
        """`z_where` of coords `(..., 4)`."""
        return coords_to_air(coords)
