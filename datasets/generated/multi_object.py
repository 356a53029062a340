"""Still images of several digits at random places: the data of AIR, and the first frames of SQAIR's."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ... import checks
from ..storage.video import VideoData
from ..streams import stream
from .digit_images import Digits, Split
from .digits import Source, load_digits

Bytes = npt.NDArray[np.uint8]

MAX_ATTEMPTS = 10_000
"""How often an image is begun again before a recipe is given up as impossible."""


class Sprite(NamedTuple):
    """The ink of one object, at its place in the image."""

    ink: Bytes
    """Grey values `(height, width)`."""
    top: int
    """First row of the image that `ink` covers."""
    left: int
    """First column of the image that `ink` covers."""
    label: int
    """Class of the object."""

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the image that `ink` covers."""
        height, width = self.ink.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def box(self) -> tuple[int, int, int, int]:
        """The tight box of the pixels > 0: `(left, top, width, height)` in the image."""
        left, top, width, height = tight_box(self.ink)
        return self.left + left, self.top + top, width, height


class Scene(NamedTuple):
    """One image and the objects in it."""

    image: Bytes
    """Grey values `(image_size, image_size)`."""
    sprites: list[Sprite]
    """The objects, in the order in which they were drawn."""


class Recipe(Protocol):
    """How an image is made of digits; `PyroRecipe` and `StaticSqairRecipe` are the two in the literature."""

    @property
    def min_objects(self) -> int:
        """Smallest number of objects in an image."""

    @property
    def max_objects(self) -> int:
        """Greatest number of objects in an image."""

    @property
    def image_size(self) -> int:
        """Side of the image in pixels."""

    def draw(self, digits: Digits, count: int, rng: np.random.Generator) -> Scene:
        """Draws an image of exactly `count` digits."""


@dataclass(frozen=True)
class PyroRecipe:
    """Multi-MNIST as Pyro's AIR example makes it: digits of random size whose canvases are added.

    The number of objects is drawn once; when ink overlaps so that a pixel of the sum exceeds 255, digits,
    sizes and places of the whole image are drawn again *for the same number*, so that it stays uniform. Ink
    may still overlap where the sum is small. Digits never touch the last row and column, as in the original.

    Source: pyro.contrib.examples.multi_mnist, after Eslami et al. (2016), Attend, Infer, Repeat.

    Raises:
        ValueError: if the numbers contradict each other.
    """

    min_objects: int = 0
    """Smallest number of objects in an image."""
    max_objects: int = 2
    """Greatest number of objects in an image; the number is uniform."""
    image_size: int = 50
    """Side of the image in pixels."""
    shrink_mean: float = 1.3
    """Mean of the factor c by which a digit's 28 pixels are divided: its side is int(28 / c)."""
    shrink_std: float = 0.1
    """Standard deviation of the factor."""

    def __post_init__(self) -> None:
        check_counts(self.min_objects, self.max_objects)
        checks.whole(self, "image_size")
        checks.finite(self, "shrink_mean", "shrink_std")
        if self.shrink_mean <= 0 or self.shrink_std < 0:
            raise ValueError(
                "`shrink_mean` must be positive and `shrink_std` not negative, "
                f"got {self.shrink_mean} and {self.shrink_std}."
            )
        # Beyond 28 a digit has no pixel, and its factor would be drawn again for ever.
        checks.within("(0, 28]", self, "shrink_mean")
        checks.within("[0, 28]", self, "shrink_std")
        if int(28 / self.shrink_mean) >= self.image_size:
            raise ValueError(
                f"`image_size` must exceed the digits' side, {int(28 / self.shrink_mean)}, "
                f"got {self.image_size}."
            )

    def draw(self, digits: Digits, count: int, rng: np.random.Generator) -> Scene:
        """Draws an image of exactly `count` digits.

        Raises:
            ValueError: if so many digits do not get past each other in `MAX_ATTEMPTS` images.
        """
        for _ in range(MAX_ATTEMPTS):
            canvas = np.zeros((self.image_size, self.image_size), dtype=np.uint16)
            sprites = []
            for _ in range(count):
                sprite = self._sprite(digits, rng)
                canvas[sprite.window] += sprite.ink
                sprites.append(sprite)
                if canvas[sprite.window].max() > 255:
                    break
            else:
                return Scene(canvas.astype(np.uint8), sprites)
        raise _too_full(self, count)

    def _sprite(self, digits: Digits, rng: np.random.Generator) -> Sprite:
        which = rng.integers(len(digits))
        side = self.image_size
        # The normal is cut where a digit would have no pixel or fill the image; with the defaults that is 7
        # sigma away.
        while not 1 <= side < self.image_size:
            shrink = rng.normal(self.shrink_mean, self.shrink_std)
            side = int(28 / shrink) if shrink > 0 else 0
        picture = Image.fromarray(digits.images[which])
        ink = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))
        top, left = rng.integers(self.image_size - side, size=2)
        return Sprite(ink, int(top), int(left), int(digits.labels[which]))


@dataclass(frozen=True)
class StaticSqairRecipe:
    """The first frames of SQAIR's moving multi-MNIST: digits of their own size whose boxes do not overlap.

    The digits of an image are different pictures. Each is cut to its tight box, its grey values stretched to
    0..255, and its box placed uniformly where it fits. While the box intersects one placed before, the place
    is drawn again; at the fifth time the image is begun again with other digits, but as many. Images are
    joined by the elementwise maximum.

    Source: the code of Kosiorek et al. (2018), Sequential Attend, Infer, Repeat.

    Raises:
        ValueError: if the numbers contradict each other.
    """

    min_objects: int = 0
    """Smallest number of objects in an image."""
    max_objects: int = 2
    """Greatest number of objects in an image; the number is uniform."""
    image_size: int = 50
    """Side of the image in pixels."""
    max_redraws: int = 5
    """The redraw of a place at which the image is begun again."""

    def __post_init__(self) -> None:
        check_counts(self.min_objects, self.max_objects)
        checks.whole(self, "image_size", "max_redraws")
        if self.image_size < 28:
            raise ValueError(f"`image_size` must be at least 28, the size of a digit, got {self.image_size}.")
        if self.max_redraws < 1:
            raise ValueError(f"`max_redraws` must be at least 1, got {self.max_redraws}.")

    def draw(self, digits: Digits, count: int, rng: np.random.Generator) -> Scene:
        """Draws an image of exactly `count` digits.

        Raises:
            ValueError: if there are fewer digits than `count`, or so many boxes find no place in
                `MAX_ATTEMPTS` images.
        """
        if len(digits) < count:
            raise ValueError(f"`digits` must have at least {count} digits, got {len(digits)}.")
        for _ in range(MAX_ATTEMPTS):
            sprites = self._sprites(digits, count, rng)
            if sprites is not None:
                image = np.zeros((self.image_size, self.image_size), dtype=np.uint8)
                for sprite in sprites:
                    image[sprite.window] = np.maximum(image[sprite.window], sprite.ink)
                return Scene(image, sprites)
        raise _too_full(self, count)

    def _sprites(self, digits: Digits, count: int, rng: np.random.Generator) -> list[Sprite] | None:
        """The objects of an image, or None if one of them found no place."""
        occupied = np.zeros((self.image_size, self.image_size), dtype=bool)
        sprites = []
        for which in distinct(len(digits), count, rng):
            ink = _crop(_stretch(digits.images[which]))
            room = self.image_size - np.array(ink.shape)
            for _ in range(self.max_redraws):
                top, left = (int(x) for x in np.rint(rng.uniform(0, room)))
                sprite = Sprite(ink, top, left, int(digits.labels[which]))
                if not occupied[sprite.window].any():
                    break
            else:
                return None
            occupied[sprite.window] = True
            sprites.append(sprite)
        return sprites


RECIPES: dict[str, type[PyroRecipe] | type[StaticSqairRecipe]] = {
    "pyro": PyroRecipe,
    "static_sqair": StaticSqairRecipe,
}
"""The recipes by name."""


def multi_object_images(
    recipe: Recipe,
    split: Split,
    size: int,
    seed: int,
    *,
    source: Source = "mnist",
    folder: str | os.PathLike[str] | None = None,
) -> VideoData:
    """Still images of several digits: training images of training digits, test images of test digits.

    The number of objects is uniform from `recipe.min_objects` to `recipe.max_objects`. Labels are those of
    `VideoData`, in the order in which the objects were drawn: boxes are tight around an object's pixels > 0,
    and `visible` is 1, as all ink is inside the frame; that ink may be hidden by other ink does not count.
    Image `i` is a pure function of `(recipe, split, seed, i)` and the digits.

    Args:
        recipe: how an image is made.
        split: `"train"` or `"test"`.
        size: number of images.
        seed: seed of the images, and of the glyphs if they are the source.
        source: `"mnist"` or `"glyphs"`, as in `load_digits`.
        folder: where the MNIST files are, as in `load_digits`.

    Raises:
        DataError: if the MNIST files cannot be found, fetched or read.
        ValueError: if an argument is not one of those above, or the objects do not fit.
    """
    _check_size(size)
    digits = load_digits(source, split, seed=seed, folder=folder)
    return compose(recipe, digits, size, seed, purpose=f"multi_object/{split}")


def compose(
    recipe: Recipe, digits: Digits, size: int, seed: int, *, start: int = 0, purpose: str = "multi_object"
) -> VideoData:
    """Images number `start` to `start + size - 1` of the endless sequence `(recipe, digits, seed, purpose)`.

    Raises:
        ValueError: if `size` is not positive, or the objects do not fit.
    """
    _check_size(size)
    slots = recipe.max_objects
    video = np.empty((size, 1, 1, recipe.image_size, recipe.image_size), dtype=np.uint8)
    count = np.zeros((size, 1), dtype=np.int64)
    classes = np.full((size, slots), -1, dtype=np.int64)
    boxes = np.zeros((size, 1, slots, 4), dtype=np.float32)
    for i, scene in enumerate(_scenes(recipe, digits, size, seed, start, purpose)):
        video[i, 0, 0] = scene.image
        count[i, 0] = len(scene.sprites)
        for slot, sprite in enumerate(scene.sprites):
            classes[i, slot] = sprite.label
            boxes[i, 0, slot] = sprite.box()
    visible = (classes >= 0).astype(np.float32)[:, None]
    return VideoData(video, count, classes, boxes, visible)


def tight_box(ink: Bytes) -> tuple[int, int, int, int]:
    """The smallest box around all pixels > 0, `(left, top, width, height)`; all 0 if there is none."""
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not rows.size:
        return 0, 0, 0, 0
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def check_counts(min_objects: int, max_objects: int) -> None:
    """Refuses numbers of objects that cannot be.

    Raises:
        ValueError: unless 0 <= `min_objects` <= `max_objects` and `max_objects` >= 1.
    """
    checks.finite(min_objects=min_objects, max_objects=max_objects)
    if not 0 <= min_objects <= max_objects or max_objects < 1:
        raise ValueError(
            "expected 0 <= `min_objects` <= `max_objects` and `max_objects` >= 1, "
            f"got {min_objects} and {max_objects}."
        )


def distinct(size: int, count: int, rng: np.random.Generator) -> list[int]:
    """`count` different numbers in [0, size), uniformly."""
    # Redrawing repeats is uniform over distinct picks, and much cheaper than a choice from a permutation.
    picks: list[int] = []
    while len(picks) < count:
        pick = int(rng.integers(size))
        if pick not in picks:
            picks.append(pick)
    return picks


def _scenes(
    recipe: Recipe, digits: Digits, size: int, seed: int, start: int, purpose: str
) -> Iterator[Scene]:
    for index in range(start, start + size):
        rng = stream(purpose, seed, index)
        count = int(rng.integers(recipe.min_objects, recipe.max_objects + 1))
        yield recipe.draw(digits, count, rng)


def _check_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"`size` must be at least 1, got {size}.")


def _too_full(recipe: PyroRecipe | StaticSqairRecipe, count: int) -> ValueError:
    return ValueError(
        f"found no place for {count} digits in {MAX_ATTEMPTS} images of {recipe.image_size} x "
        f"{recipe.image_size} pixels: reduce `max_objects` or increase `image_size`."
    )


def _stretch(picture: Bytes) -> Bytes:
    """The grey values mapped linearly so that they span 0..255; the background stays 0."""
    low, high = int(picture.min()), int(picture.max())
    if low == high:
        return picture
    return np.rint((picture.astype(np.float32) - low) * (255 / (high - low))).astype(np.uint8)


def _crop(picture: Bytes) -> Bytes:
    left, top, width, height = tight_box(picture)
    return picture[top : top + height, left : left + width]
