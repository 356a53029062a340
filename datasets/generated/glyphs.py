"""Digits of printed fonts, warped to vary like handwriting: a stand-in for MNIST without files or network."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..streams import stream
from .digit_images import Digits, Split
from .fonts import FONTS, MASTER_EXTENT, MASTER_SIZE, masters

SIDE = 28
"""Side of a glyph's image, as MNIST's."""
LONGER_SIDE = (17.0, 20.0)
"""Range of the longer side of the ink, in pixels; MNIST's is 20."""
WEIGHT = (0.0, 0.5)
"""Range of what is added to each side of a stroke, in pixels."""
SLANT = 0.18
"""Standard deviation of the slant (tangent of its angle)."""
ROTATION = 0.07
"""Standard deviation of the rotation, in radians."""
STRETCH = 0.12
"""Standard deviation of the logarithm of the ratio of width to height."""
ELASTICITY = 0.09
"""Standard deviation of the lowest waves of the elastic distortion, as a fraction of half the longer side."""

_WAVES = 4
_MARGIN = 3.0
_CHUNK = 256

Floats = npt.NDArray[np.floating[Any]]


def make_glyphs(split: Split, size: int = 10_000, seed: int = 0, *, start: int = 0) -> Digits:
    """Glyphs number `start` to `start + size - 1` of the endless sequence `(split, seed)`.

    Each is a uniformly drawn digit of a uniformly drawn font of the split, with random slant, rotation,
    stretch, stroke weight, smooth (elastic) distortion and size. As in MNIST, the ink fits a box of 20 x 20
    pixels and its centre of mass is at the centre of the image of 28 x 28, as far as the box then keeps two
    pixels from the border. A glyph is a pure function of `(split, seed, index)`.

    Args:
        split: `"train"` or `"test"`; no font family is in both, see `fonts.FONTS`.
        size: number of glyphs.
        seed: 0 <= seed < 2^64.
        start: index of the first glyph.

    Raises:
        ValueError: if `split` is unknown, `size` is not positive, or `seed` or `start` is out of range.
    """
    if split not in FONTS:
        raise ValueError(f"`split` must be 'train' or 'test', got {split!r}.")
    if size < 1:
        raise ValueError(f"`size` must be at least 1, got {size}.")
    images = np.empty((size, SIDE, SIDE), dtype=np.uint8)
    labels = np.empty(size, dtype=np.uint8)
    for first in range(0, size, _CHUNK):
        rngs = [stream(f"glyphs/{split}", seed, start + i) for i in range(first, min(first + _CHUNK, size))]
        part = slice(first, first + len(rngs))
        images[part], labels[part] = _draw(split, rngs)
    return Digits(images, labels)


def _draw(split: str, rngs: list[np.random.Generator]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    outlines = masters(split)
    digits = np.array([rng.integers(10) for rng in rngs])
    fonts = np.array([rng.integers(len(outlines)) for rng in rngs])
    normal = np.stack([rng.standard_normal(3 + 2 * _WAVES**2, dtype=np.float32) for rng in rngs])
    uniform = np.stack([rng.random(2, dtype=np.float32) for rng in rngs])  # (B, 2)
    warp = _Warp(outlines.reshape(-1), fonts * 10 + digits, normal)
    extent = LONGER_SIDE[0] + (LONGER_SIDE[1] - LONGER_SIDE[0]) * uniform[:, 0]
    weight = WEIGHT[0] + (WEIGHT[1] - WEIGHT[0]) * uniform[:, 1]

    # First a coarse look at where the warped ink lies, then the picture, on the grid that frames it.
    coarse = np.tile(np.linspace(-1.8, 1.8, 40, dtype=np.float32), (len(rngs), 1))
    x_range, x_mean, y_range, y_mean = _extents(
        warp.coverage(coarse, coarse, weight, np.float32(2) / extent), coarse[0]
    )
    pitch = np.maximum(x_range[:, 1] - x_range[:, 0], y_range[:, 1] - y_range[:, 0]) / extent
    xs = _grid(x_range, x_mean, pitch)
    ys = _grid(y_range, y_mean, pitch)
    coverage = warp.coverage(xs, ys, weight, pitch)
    return np.rint(255 * coverage).astype(np.uint8), digits


class _Warp:
    """Random smooth maps from the plane of the picture to the master's, half the digit's extent as 1."""

    def __init__(self, outlines: Floats, which: npt.NDArray[np.int64], normal: Floats) -> None:
        self.outlines = outlines
        self.offset = which * MASTER_SIZE**2
        slant, angle, stretch = SLANT * normal[:, 0], ROTATION * normal[:, 1], STRETCH * normal[:, 2]
        cos, sin, wide = np.cos(angle), np.sin(angle), np.exp(stretch / 2)
        # Rows of the matrix: rotation after a shear along x, each axis stretched.
        self.matrix = np.stack(
            [cos / wide, (slant * cos - sin) * wide, sin / wide, (slant * sin + cos) * wide], axis=1
        )  # (B, 4), determinant 1
        order = np.arange(_WAVES)
        decay = 1 / (1 + order[:, None] + order).astype(np.float32)
        decay[0, 0] = 0  # a shift, which centring takes out again
        self.waves = ELASTICITY * decay * normal[:, 3:].reshape(-1, 2, _WAVES, _WAVES)  # (B, 2, y, x)

    def coverage(self, xs: Floats, ys: Floats, weight: Floats, pitch: Floats) -> Floats:
        """How much of each pixel is ink, `(B, rows, columns)`.

        Args:
            xs: where the columns are, `(B, columns)`.
            ys: where the rows are, `(B, rows)`.
            weight: pixels added on each side of a stroke, `(B,)`.
            pitch: distance between neighbouring pixels of the final picture, `(B,)`.
        """
        basis_x, basis_y = _cosines(xs), _cosines(ys)
        shift = basis_y[:, None] @ self.waves @ basis_x[:, None].swapaxes(-1, -2)  # (B, 2, rows, columns)
        a, b, c, d = (self.matrix[:, i, None, None] for i in range(4))
        x, y = xs[:, None, :], ys[:, :, None]
        source_x = a * x + b * y + shift[:, 0]
        source_y = c * x + d * y + shift[:, 1]
        distance = self._sample(source_x, source_y) / (MASTER_EXTENT / 2)
        return np.clip(0.5 + distance / pitch[:, None, None] + weight[:, None, None], 0, 1)

    def _sample(self, x: Floats, y: Floats) -> Floats:
        # Bilinear; beyond the border of the master, the value at the border, which is background.
        column = np.clip(x * (MASTER_EXTENT / 2) + (MASTER_SIZE - 1) / 2, 0, MASTER_SIZE - 1.001)
        row = np.clip(y * (MASTER_EXTENT / 2) + (MASTER_SIZE - 1) / 2, 0, MASTER_SIZE - 1.001)
        left, top = column.astype(np.int64), row.astype(np.int64)
        column -= left
        row -= top
        corner = self.offset[:, None, None] + top * MASTER_SIZE + left
        above = self.outlines[corner] * (1 - column) + self.outlines[corner + 1] * column
        corner += MASTER_SIZE
        below = self.outlines[corner] * (1 - column) + self.outlines[corner + 1] * column
        return above * (1 - row) + below * row


def _cosines(positions: Floats) -> Floats:
    """Waves of 0, 1/2, 1, ... periods over [-1, 1], `(B, n, _WAVES)`."""
    phase = (positions[..., None] + 1) * np.float32(np.pi / 2)
    return np.cos(phase * np.arange(_WAVES, dtype=np.float32))


def _extents(coverage: Floats, grid: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Range `(B, 2)` and mean `(B,)` of the ink along x, then along y."""
    result = []
    for axis in (1, 2):
        profile = coverage.sum(axis)  # (B, n)
        inked = coverage.max(axis) >= 0.5
        low, high = inked.argmax(-1), len(grid) - 1 - inked[:, ::-1].argmax(-1)
        half = (grid[1] - grid[0]) / 2
        result.append(np.stack([grid[low] - half, grid[high] + half], axis=1))
        result.append((profile * grid).sum(-1) / profile.sum(-1))
    return result[0], result[1], result[2], result[3]


def _grid(ink: Floats, mean: Floats, pitch: Floats) -> Floats:
    """Centres of pixels along one axis `(B, SIDE)`: the mean in the middle, if the margin stays free."""
    half = (SIDE / 2 - _MARGIN) * pitch
    centre = np.clip(mean, ink[:, 1] - half, ink[:, 0] + half)
    steps = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    return centre[:, None] + steps * pitch[:, None]
