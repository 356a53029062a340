"""Frames as grids of equal cells, each of which may hold an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ... import checks
from .constants import constant
from .windows import SquashedWindows


class Chosen(NamedTuple):
    """Slots of the cells that hold an object, in their order."""

    z_pres: Tensor
    """Presence, `(..., N)`: a prefix."""
    cell: Tensor
    """The cell that each is in, `(..., N)`, int64; any cell where it is absent."""

    def of(self, values: Tensor) -> Tensor:
        """Values of the cells of slots, `(..., N, D)`, given those of all cells, `(..., K, D)`."""
        leading = torch.broadcast_shapes(values.shape[:-2], self.cell.shape[:-1])
        index = self.cell.unsqueeze(-1).expand(*leading, self.cell.shape[-1], values.shape[-1])
        return values.expand(*leading, *values.shape[-2:]).gather(-2, index)


@dataclass(frozen=True)
class Cells:
    r"""A grid of K cells, row by row, and what the place of an object in its cell means.

    Of `(a_x, a_y, b_x, b_y)` the sizes are as those of `SquashedWindows`, and the centre is at

    $$ t = c + \frac{2}{G} \tanh(b), $$

    with the centre c of the cell, and G columns for x or rows for y: up to the centres of its neighbours.
    Model and guide are given the same grid.
    """

    rows: int = 4
    """Of the grid."""
    columns: int = 4
    """Of the grid."""
    windows: SquashedWindows = SquashedWindows()
    """What `z_where` means."""

    def __post_init__(self) -> None:
        checks.at_least(1, self, "rows", "columns")

    def __len__(self) -> int:
        return self.rows * self.columns

    def centres(self, like: Tensor) -> Tensor:
        """Centres of the cells, x and y with the frame's borders at -1 and 1, `(K, 2)`."""
        x, y = (
            (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5) * (2 / n) - 1
            for n in (self.columns, self.rows)
        )
        return torch.stack([x.repeat(self.rows), y.repeat_interleave(self.columns)], dim=-1)

    def choose(self, present: Tensor, count: int) -> Chosen:
        """The first N cells that hold an object.

        Args:
            present: `(..., K)`, 0 and 1.
            count: N, at most K.
        """
        order = (1 - present).argsort(dim=-1, stable=True)[..., :count]
        return Chosen(present.gather(-1, order), order)

    def places(self, local: Tensor, centres: Tensor) -> Tensor:
        """`z_where` in frames, of places in cells.

        Args:
            local: places in cells, `(..., 4)`.
            centres: of the cells, `(..., 2)`.
        """
        size, shift = local.split(2, dim=-1)
        reach = constant((2 / self.columns, 2 / self.rows), shift)
        centre = centres + reach * shift.tanh()
        axes = [self.windows.inverse_shift(centre[..., axis], axis) for axis in (0, 1)]
        return torch.cat([size, torch.stack(axes, dim=-1)], dim=-1)
