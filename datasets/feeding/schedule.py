"""Which items are in the batch of each training step."""

from collections.abc import Sized
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from ... import checks
from ..streams import stream


class ReadInPieces(Protocol):
    """Items that are stored, and best read, piece by piece."""

    pieces: tuple[int, ...]
    """How many items each has; their number in total is that of the items."""
    mixed: int
    """Pieces that can be in memory at a time."""


def schedule_for(data: Sized, batch_size: int, seed: int) -> "BatchSchedule":
    """The schedule that suits a source: of one that is read in pieces, a batch is from few of them.

    Args:
        data: the items; see `ReadInPieces`.
        batch_size: number of items in a batch of all processes together.
        seed: of the orders.
    """
    pieces, mixed = getattr(data, "pieces", ()), getattr(data, "mixed", BatchSchedule.mixed)
    return BatchSchedule(len(data), batch_size, seed, pieces=pieces, mixed=mixed)


@dataclass(frozen=True)
class BatchSchedule:
    """The items of every batch, as a pure function of the seed and the step.

    The items pass in a fresh random order in every epoch, without replacement. A batch may reach over the end
    of an epoch: every batch is full and no item is left out. As nothing depends on the steps before, a
    resumed run needs no state but its step, and processes of a distributed run agree without talking to each
    other.

    Raises:
        ValueError: if `size` or `batch_size` is not positive, `seed` is out of [0, 2^64), or `batch_size` is
            no multiple of `world_size`.
    """

    size: int
    """Number of items in the data set."""
    batch_size: int
    """Number of items in a batch of all processes together."""
    seed: int
    """Seed of the orders; 0 <= seed < 2^64."""
    rank: int = 0
    """Number of this process, 0 <= rank < world_size; set by `shard`."""
    world_size: int = 1
    """Number of processes that share a batch; set by `shard`."""
    pieces: tuple[int, ...] = ()
    """How many items in a row are read together, piece by piece, as the parts of a film. The items of a batch
    are then from about `mixed` pieces, which change one by one, so that every piece is read once in an epoch,
    and two epochs differ as without pieces.
    """
    mixed: int = 24
    """See `pieces`; where there are no more, they do not matter."""

    def __post_init__(self) -> None:
        checks.finite(self, "size", "batch_size", "seed")
        if self.size < 1 or self.batch_size < 1:
            raise ValueError(
                f"`size` and `batch_size` must be at least 1, got {self.size} and {self.batch_size}."
            )
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"`seed` must be in [0, 2^64), got {self.seed}.")
        if self.pieces and sum(self.pieces) != self.size:
            raise ValueError(f"`pieces` must have {self.size} items together, got {sum(self.pieces)}.")
        checks.at_least(1, self, "mixed")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"`rank` must be in [0, {self.world_size}), got {self.rank}.")
        if self.batch_size % self.world_size:
            raise ValueError(
                f"`batch_size` must be a multiple of the {self.world_size} processes that share it, "
                f"got {self.batch_size}."
            )

    def shard(self, rank: int, world_size: int) -> "BatchSchedule":
        """The schedule of process `rank`: its contiguous slice of the same batches.

        Raises:
            ValueError: if `rank` is not in [0, world_size), or `batch_size` is no multiple of `world_size`.
                Slices of different length would give the data different weights when gradients are averaged
                over processes.
        """
        return replace(self, rank=rank, world_size=world_size)

    def epoch(self, step: int) -> int:
        """The epoch that the first item of the (whole) batch of `step` belongs to, counted from 0."""
        return step * self.batch_size // self.size

    def indices(self, step: int) -> torch.Tensor:
        """Items of the batch of `step`, `(batch_size // world_size,)` int64; steps count from 0.

        Raises:
            ValueError: if `step` is negative.
        """
        if step < 0:
            raise ValueError(f"`step` must not be negative, got {step}.")
        share = self.batch_size // self.world_size
        position = step * self.batch_size + self.rank * share
        pieces = []
        while share:
            epoch, offset = divmod(position, self.size)
            order = _order(self.size, self.seed, epoch, self.pieces, self.mixed)
            piece = order[offset : offset + share]
            pieces.append(piece)
            position += len(piece)
            share -= len(piece)
        return torch.from_numpy(np.concatenate(pieces))


# An order is read once per batch of its epoch; two are in use where a batch reaches over the end of an epoch.
@lru_cache(maxsize=4)
def _order(size: int, seed: int, epoch: int, pieces: tuple[int, ...], mixed: int) -> npt.NDArray[np.int64]:
    rng = stream("schedule", seed, epoch)
    if len(pieces) <= mixed:
        return rng.permutation(size)
    # Pieces are in a circle, in random order; an item comes anywhere in `mixed` places from its piece's on.
    place = rng.permutation(len(pieces))
    return np.argsort((np.repeat(place, pieces) + mixed * rng.random(size)) % len(pieces))
