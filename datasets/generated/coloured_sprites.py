"""Drawing coloured objects over each other, and which of them is seen at each pixel."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..storage.generated_videos import Bytes

RGB = {
    "blue": (0, 0, 255),
    "green": (0, 255, 0),
    "aqua": (0, 255, 255),
    "red": (255, 0, 0),
    "fuchsia": (255, 0, 255),
    "yellow": (255, 255, 0),
}
"""The corners of the cube of colours that are neither black nor white."""


class Canvas(NamedTuple):
    """A frame that objects are drawn into, one over the other."""

    pixels: Bytes
    """`(3, H, W)`."""
    segments: Bytes
    """1 + the number of the object that is seen at each pixel, 0 for none, `(H, W)`."""

    def draw(self, alpha: Bytes, colour: npt.ArrayLike, corner: tuple[int, int], number: int) -> float:
        """Draws an object over what is there.

        What it covers by more than a half belongs to it.

        Args:
            alpha: how far it covers each pixel, `(h, w)`, 255 for the whole.
            colour: `(3,)`, 0 to 255.
            corner: row and column of its first pixel; it may be out of the frame.
            number: of the object, from 0.

        Returns:
            The share of the object that is inside the frame.
        """
        (rows, top), (columns, left) = map(_overlap, corner, alpha.shape, self.segments.shape)
        part = alpha[rows, columns]
        share = part[None].astype(np.float32) / 255
        below = self.pixels[:, top, left]
        colours = np.asarray(colour, np.float32)[:, None, None]
        below[...] = np.rint(share * colours + (1 - share) * below)
        self.segments[top, left][part > 127] = number + 1
        return float(part.sum(dtype=np.int64) / alpha.sum(dtype=np.int64))


def _overlap(first: int, length: int, size: int) -> tuple[slice, slice]:
    """The part of an object that is in a frame, and where it is there, along one axis."""
    start, stop = min(max(first, 0), size), min(max(first + length, 0), size)
    return slice(start - first, stop - first), slice(start, stop)
