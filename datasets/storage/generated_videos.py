"""Videos that are made when they are asked for."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..streams import stream
from .video import Indices, VideoBatch, VideoData, as_indices, to_batch

Bytes = npt.NDArray[np.uint8]


class GeneratedVideos(ABC):
    """Videos that are made when they are asked for: the interface of `VideoData` without its memory.

    Video `i` is a pure function of `(seed, purpose, i)` and of what a subclass is made from: the same in
    whichever batch, process or order it is made.

    Args:
        shape: `(M, T, C, H, W)`: number of videos, frames, channels, height, width.
        seed: seed of the videos.
        purpose: data sets of different purposes are independent for one and the same seed.

    Raises:
        ValueError: if the number of videos is not positive, or `seed` is not in [0, 2^64).
    """

    def __init__(self, shape: tuple[int, int, int, int, int], seed: int, purpose: str) -> None:
        check_size(shape[0], seed)
        self.shape, self.seed, self.purpose = shape, seed, purpose

    def __len__(self) -> int:
        return self.shape[0]

    def batch(self, indices: Indices) -> VideoBatch:
        """The videos at `indices` as tensors on the CPU, grey values in [0, 1].

        Raises:
            IndexError: if an index is out of range.
            ValueError: if the objects of a video find no place in the first frame.
        """
        return to_batch(*self._make(self._streams(indices)))

    def subset(self, indices: Indices) -> VideoData:
        """The videos at `indices` as bytes, to keep or to save.

        Raises:
            DataError: if `indices` is empty.
            IndexError: if an index is out of range.
            ValueError: if the objects of a video find no place in the first frame.
        """
        video, labels = self._make(self._streams(indices))
        return VideoData(video, **labels)

    def _streams(self, indices: Indices) -> list[np.random.Generator]:
        where = as_indices(indices, len(self))
        return [stream(self.purpose, self.seed, index) for index in where.tolist()]

    @abstractmethod
    def _make(self, rngs: Sequence[np.random.Generator]) -> tuple[Bytes, dict[str, npt.NDArray[Any]]]:
        """Frames `(B, T, C, H, W)` and labels of the videos that these generators give; B may be 0."""


def check_size(size: int, seed: int) -> None:
    """Refuses data sets that cannot be.

    Raises:
        ValueError: if `size` is not positive, or `seed` is not in [0, 2^64).
    """
    if size < 1:
        raise ValueError(f"`size` must be at least 1, got {size}.")
    if not 0 <= seed < 2**64:
        raise ValueError(f"`seed` must be in [0, 2^64), got {seed}.")
