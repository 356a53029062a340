"""What generated objects and scenes look like: textures, and silhouettes that carry them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..storage.generated_videos import check_size
from ..streams import stream
from .digit_images import Digits, Split

Floats = npt.NDArray[np.floating[Any]]

SILHOUETTES = (
    "disc",
    "triangle",
    "square",
    "ring",
    "two lobes",
    "three lobes",
    "four lobes",
    "five lobes",
)
"""Names of the silhouettes' classes, in their order."""

_SIDE = 28  # of a silhouette's image, as that of a digit
_LONGER_SIDE = 20.0  # of its outline
_HOLE = 0.5  # of a ring, as a fraction of the outline
_LOBES = {4: (2, 0.45), 5: (3, 0.4), 6: (4, 0.35), 7: (5, 0.3)}  # their number and depth, by class
_CORNERS = {1: 3, 2: 4}  # by class
_HARMONICS = np.arange(2, 6)
_ANGLES = 256
_CHUNK = 256


def make_textures(purpose: str, size: int, side: int, seed: int) -> Floats:
    """Random periodic textures: `side` x `side` pixels that continue at the other side of the picture.

    A texture is white noise seen through a random filter, squashed by a random contrast. One half have a
    spectrum that falls with frequency f as f^-1.2 to f^-2.2, like natural images: clouds. The others keep
    frequencies around 6 to 20 waves per side, of all directions or of one: spots and stripes. So textures of
    another size look alike but for their resolution. A texture is a pure function of `(purpose, seed, index)`
    and `side`.

    Args:
        purpose: textures of different purposes are independent for one and the same seed.
        size: number of textures.
        side: of a texture in pixels.
        seed: 0 <= seed < 2^64.

    Returns:
        `(size, side, side)` float32 in [0, 1], each with a mean of about 1/2.

    Raises:
        ValueError: if `size` is not positive, `side` is below 2, or `seed` is out of range.
    """
    check_size(size, seed)
    if side < 2:
        raise ValueError(f"`side` must be at least 2, got {side}.")
    textures = np.empty((size, side, side), dtype=np.float32)
    for index, texture in enumerate(textures):
        rng = stream(purpose, seed, index)
        waves = np.fft.rfft2(rng.standard_normal((side, side))) * _filter(side, rng)
        picture = np.fft.irfft2(waves, (side, side))
        contrast = np.exp(rng.uniform(np.log(0.7), np.log(3))) / max(picture.std(), 1e-12)
        texture[...] = 0.5 + 0.5 * np.tanh(contrast * picture)
    return textures


def make_silhouettes(split: Split, size: int = 2_000, seed: int = 0) -> Digits:
    """Filled outlines of eight classes, in the form of digits: something to carry a texture.

    Each is a uniformly drawn class of `SILHOUETTES`, its outline bent by random waves, stretched and turned
    by any angle, the longer side of its box 20 pixels in the middle of 28 x 28. A silhouette is a pure
    function of `(split, seed, index)`.

    Args:
        split: `"train"` or `"test"`: independent draws of the same distribution.
        size: number of silhouettes.
        seed: 0 <= seed < 2^64.

    Raises:
        ValueError: if `split` is unknown, `size` is not positive, or `seed` is out of range.
    """
    check_size(size, seed)
    if split not in ("train", "test"):
        raise ValueError(f"`split` must be 'train' or 'test', got {split!r}.")
    images = np.empty((size, _SIDE, _SIDE), dtype=np.uint8)
    labels = np.empty(size, dtype=np.uint8)
    for first in range(0, size, _CHUNK):
        rngs = [stream(f"silhouettes/{split}", seed, i) for i in range(first, min(first + _CHUNK, size))]
        part = slice(first, first + len(rngs))
        images[part], labels[part] = _draw_silhouettes(rngs)
    return Digits(images, labels)


def _filter(side: int, rng: np.random.Generator) -> Floats:
    """A random amplitude for each wave of `numpy.fft.rfft2`, none for the constant one."""
    down, across = np.fft.fftfreq(side)[:, None] * side, np.fft.rfftfreq(side) * side
    frequency = np.hypot(down, across)
    frequency[0, 0] = np.inf
    clouds = rng.random() < 0.5
    slope = rng.uniform(1.2, 2.2)
    middle = np.exp(rng.uniform(np.log(6), np.log(20)))
    angle, directed = rng.uniform(0, np.pi), rng.random() < 0.5
    if clouds:
        return frequency**-slope
    # A Gaussian of the logarithm of the frequency, and one of the direction.
    band = np.exp(-(np.log(frequency / middle) ** 2) / (2 * 0.25**2))
    if directed:
        turn = (np.arctan2(down, across) - angle + np.pi / 2) % np.pi - np.pi / 2
        band *= np.exp(-(turn**2) / (2 * 0.2**2))
    return band


def _draw_silhouettes(rngs: list[np.random.Generator]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    labels = np.array([rng.integers(len(SILHOUETTES)) for rng in rngs], dtype=np.uint8)
    uniform = np.stack([rng.random(2) for rng in rngs])  # (n, 2)
    normal = np.stack([rng.standard_normal((len(_HARMONICS) + 1, 2)) for rng in rngs])
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    radius = np.stack([_outline(label, angles) for label in range(len(SILHOUETTES))])[labels]
    waves = _HARMONICS[:, None] * angles
    bends = normal[:, 1:, :1] * np.cos(waves) + normal[:, 1:, 1:] * np.sin(waves)  # (n, harmonics, angles)
    radius = radius * np.exp(np.clip(0.02 * bends.sum(1), -0.15, 0.15))

    turn, stretch = 2 * np.pi * uniform[:, 0], np.exp(np.clip(0.15 * normal[:, 0, 0], -0.4, 0.4))
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    x, y = stretch[:, None] * radius * np.cos(angles), radius * np.sin(angles) / stretch[:, None]
    x, y = cos * x - sin * y, sin * x + cos * y
    low, high = (np.stack([f(x, axis=1), f(y, axis=1)], axis=1) for f in (np.min, np.max))  # (n, 2)
    scale = _LONGER_SIDE / (high - low).max(1)

    # Backwards from the centres of pixels, relative to the box's, to the plane of the outline.
    grid = np.arange(_SIDE) + 0.5 - _SIDE / 2
    x = (grid / scale[:, None] + (low + high)[:, :1] / 2)[:, None, :]
    y = (grid / scale[:, None] + (low + high)[:, 1:] / 2)[:, :, None]
    cos, sin, stretch = cos[..., None], sin[..., None], stretch[:, None, None]
    x, y = (cos * x + sin * y) / stretch, (cos * y - sin * x) * stretch
    place = (np.arctan2(y, x) * (_ANGLES / (2 * np.pi))).round().astype(np.int64) % _ANGLES
    border = radius[np.arange(len(rngs))[:, None, None], place]
    distance = np.hypot(x, y)
    ink = np.clip(0.5 + (border - distance) * scale[:, None, None], 0, 1)
    hole = np.clip(0.5 + (distance - _HOLE * border) * scale[:, None, None], 0, 1)
    ink[labels == SILHOUETTES.index("ring")] *= hole[labels == SILHOUETTES.index("ring")]
    return np.rint(255 * ink).astype(np.uint8), labels


def _outline(label: int, angles: Floats) -> Floats:
    """Distance of a class's outline from the middle in each direction, before it is bent."""
    if label in _LOBES:
        number, depth = _LOBES[label]
        return 1 + depth * np.cos(number * angles)
    if label in _CORNERS:
        sector = 2 * np.pi / _CORNERS[label]
        return np.cos(sector / 2) / np.cos(angles % sector - sector / 2)
    return np.ones_like(angles)
