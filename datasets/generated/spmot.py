"""Videos of coloured sprites that come and go: Sprites-MOT, a benchmark of following objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, hypot
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ... import checks
from ..storage.generated_videos import Bytes, GeneratedVideos
from .coloured_sprites import RGB, Canvas
from .digit_images import Split

SHAPES = ("circle", "rectangle", "triangle", "diamond")
"""The shapes of sprites, in the order of their classes."""

_SIDE = 128  # of a frame as it is drawn
_SPRITE = 21  # side of a sprite before it is resized
_FIRST, _LAST = 10.0, 117.0  # of the square in which centres are
_STEP = 5.3  # pixels from a frame to the next
_SLOTS = 3
_SHORTEST = int((_LAST - _FIRST) / _STEP) + 1  # frames that an object is shown
_WAIT = 6  # frames without an object, before one may be born in each
_LONGEST = 64  # frames of a cycle; longer ones have a probability of 2e-9


@dataclass(frozen=True)
class SpMOTRecipe:
    """How a video of Sprites-MOT is made.

    Each of three slots goes through cycles: an object crosses the scene, nothing is there for six frames, and
    then in every frame a new object is born with probability one half; it is shown from the next frame on. It
    goes from a uniform point of one side of the square [10, 117]^2 straight to one of the opposite side, 5.3
    pixels a frame, as long as its centre is in the square. Shape (circle, rectangle, triangle, diamond) and
    colour (of six) are uniform; height and width are `21 s r` and `21 s / r` with `s = 1 + U(-0.1, 0.1)` and
    `r^2 = 1 + U(-0.2, 0.2)`. Objects of later slots are drawn over those of earlier ones.

    Where the original cuts its clips out of one endless video after the other, here each is cut out of a
    video of its own at a random time: the same distribution, but clip `i` can be made without those before.
    The place of a triangle's tip, and how frames of 128 x 128 pixels become such of 64 x 64, by means of four
    pixels each, are this project's choices; segments are every second pixel.

    Source: He et al. (2019), Tracking by Animation: Unsupervised Learning of Multi-Object Attentive Trackers;
    Weis et al. (2021), Benchmarking Unsupervised Object Representations for Video Sequences.

    Raises:
        ValueError: if a number is impossible.
    """

    frames: int = 10
    """Number of frames T."""
    image_size: Literal[64, 128] = 64
    """Side of the frames in pixels."""
    identities: Literal["true", "slot"] = "true"
    """Whether each object is one, or all objects of a slot are, as in the benchmark's labels: in an eighth of
    its clips an object takes over the identity of one that has gone.
    """

    def __post_init__(self) -> None:
        checks.at_least(1, self, "frames")
        checks.literals(self)

    @property
    def max_objects(self) -> int:
        """Greatest number of identities in a video; no more than three are shown in a frame."""
        if self.identities == "slot":
            return _SLOTS
        return _SLOTS * (1 + max(0, ceil((self.frames - 2 - _WAIT) / (_SHORTEST + _WAIT + 1))))


class SpMOT(GeneratedVideos):
    """Sprites-MOT, made when it is asked for, see `GeneratedVideos` and `SpMOTRecipe`.

    Labels, as in `VideoData`; a slot is an *identity*: those of one of the three slots follow each other, one
    that is not needed stays empty.

    - `count`: objects that are shown.
    - `classes`: the number of the shape in `SHAPES` plus 4 times that of the colour in
      `coloured_sprites.RGB`; -1 where one identity has several.
    - `boxes`: of the whole sprite, not cut off at the frame's border.
    - `visible`: the share of the sprite inside the frame; what is hidden by another counts as visible.
    - `segments`: the object that is seen at each pixel.

    Args:
        recipe: how a video is made.
        size: number of videos; the benchmark has 9,600 for training and 1,000 for testing.
        seed: seed of the videos.
        purpose: data sets of different purposes are independent for one and the same seed.

    Raises:
        ValueError: if `size` is not positive, or `seed` is not in [0, 2^64).
    """

    def __init__(self, recipe: SpMOTRecipe, size: int, seed: int, *, purpose: str = "spmot") -> None:
        super().__init__((size, recipe.frames, 3, recipe.image_size, recipe.image_size), seed, purpose)
        self.recipe = recipe

    def _make(self, rngs: Sequence[np.random.Generator]) -> tuple[Bytes, dict[str, npt.NDArray[Any]]]:
        videos, frames, slots = len(rngs), self.recipe.frames, self.recipe.max_objects
        pixels: Bytes = np.zeros((videos, frames, 3, _SIDE, _SIDE), np.uint8)
        segments: Bytes = np.zeros((videos, frames, _SIDE, _SIDE), np.uint8)
        boxes = np.zeros((videos, frames, slots, 4), np.float32)
        visible = np.zeros((videos, frames, slots), np.float32)
        classes = np.full((videos, slots), -1, np.int64)
        for video, rng in enumerate(rngs):
            for slot in range(_SLOTS):
                for turn, (born, sprite) in enumerate(_shown(frames, rng)):
                    which = self._identity(slot, turn)
                    several = turn > 0 and self.recipe.identities == "slot"
                    classes[video, which] = -1 if several else sprite.kind
                    for t in range(max(born, 0), min(born + sprite.life, frames)):
                        corner = sprite.corner(t - born)
                        canvas = Canvas(pixels[video, t], segments[video, t])
                        visible[video, t, which] = canvas.draw(sprite.alpha, sprite.colour, corner, which)
                        boxes[video, t, which] = (*corner[::-1], *sprite.alpha.shape[::-1])
        labels = {
            "count": (visible > 0).sum(-1),
            "classes": classes,
            "boxes": boxes * np.float32(self.recipe.image_size / _SIDE),
            "visible": visible,
        }
        if self.recipe.image_size < _SIDE:
            halved = np.stack([_halved(video) for video in pixels])  # a video fits into the cache
            pixels, segments = halved, np.ascontiguousarray(segments[..., ::2, ::2])
        return pixels, {**labels, "segments": segments}

    def _identity(self, slot: int, turn: int) -> int:
        """The number of the object that is shown in a slot after `turn` others."""
        if self.recipe.identities == "slot":
            return slot
        return slot * (self.recipe.max_objects // _SLOTS) + turn


def spmot_videos(recipe: SpMOTRecipe, split: Split, size: int, seed: int) -> SpMOT:
    """Videos of Sprites-MOT, other ones for training than for testing.

    Args:
        recipe: how a video is made.
        split: `"train"` or `"test"`.
        size: number of videos.
        seed: seed of the videos.

    Raises:
        ValueError: if an argument is not one of those above.
    """
    checks.one_of(("train", "test"), split=split)
    return SpMOT(recipe, size, seed, purpose=f"spmot/{split}")


class _Sprite(NamedTuple):
    """An object that crosses the scene."""

    kind: int
    colour: tuple[int, int, int]
    alpha: Bytes
    start: tuple[float, float]
    """Centre in the first frame, y and x in pixels."""
    step: tuple[float, float]
    """From a frame to the next."""
    life: int
    """Number of frames in which it is shown."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Sprite":
        across, turned = rng.integers(2, size=2)
        begin, end = rng.uniform(_FIRST, _LAST, 2)
        length = hypot(_LAST - _FIRST, end - begin)
        along = _STEP / length * (_LAST - _FIRST)
        start, step = (_FIRST, begin), (along, _STEP / length * (end - begin))
        if turned:
            start, step = (_LAST, begin), (-along, step[1])
        if across:
            start, step = start[::-1], step[::-1]
        shape, colour = rng.integers(len(SHAPES)), rng.integers(len(RGB))
        scale, ratio = 1 + rng.uniform(-0.1, 0.1), (1 + rng.uniform(-0.2, 0.2)) ** 0.5
        size = round(_SPRITE * scale * ratio), round(_SPRITE * scale / ratio)
        kind = int(shape + len(SHAPES) * colour)
        alpha = _resized(SHAPES[shape], *size)
        return cls(kind, tuple(RGB.values())[colour], alpha, start, step, int(length / _STEP) + 1)

    def corner(self, age: int) -> tuple[int, int]:
        """First row and column, `age` frames after it was first shown."""
        y, x = (
            round(first + age * step - (side - 1) / 2)
            for first, step, side in zip(self.start, self.step, self.alpha.shape, strict=True)
        )
        return y, x


def _shown(frames: int, rng: np.random.Generator) -> list[tuple[int, _Sprite]]:
    """The objects of one slot in a clip, and the first frame of each, which may be before the clip's.

    The clip begins at a random time of an endless video: within a cycle, which is drawn with a probability in
    proportion to its length, uniformly.
    """
    while True:
        sprite, rest = _Sprite.draw(rng), _WAIT + int(rng.geometric(0.5))
        born = -int(rng.integers(_LONGEST))
        if -born < sprite.life + rest:
            break
    found = []
    while born < frames:
        if born + sprite.life > 0:
            found.append((born, sprite))
        born += sprite.life + rest
        sprite, rest = _Sprite.draw(rng), _WAIT + int(rng.geometric(0.5))
    return found


@lru_cache(maxsize=512)
def _resized(shape: str, height: int, width: int) -> Bytes:
    """How far a sprite covers each pixel of its box."""
    at = np.arange(_SPRITE) - (_SPRITE - 1) / 2
    y, x = at[:, None], at[None]
    covers = {
        "circle": y**2 + x**2 <= 10.5**2,
        "rectangle": (abs(y) <= 10.5) & (abs(x) <= 10.5),
        "triangle": abs(x) <= (y + 10.5) / 2,
        "diamond": abs(y) + abs(x) <= 10.5,
    }
    picture = Image.fromarray(np.where(covers[shape], 255, 0).astype(np.uint8))
    alpha = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    alpha.setflags(write=False)
    return alpha


def _halved(pixels: Bytes) -> Bytes:
    """Frames of half the height and width: means of 2 x 2 pixels."""
    pairs = pixels.view(np.uint16)  # of neighbours in a row: their sum is that of the two bytes
    sums = (pairs & 255) + (pairs >> 8)
    return ((sums[..., ::2, :] + sums[..., 1::2, :] + 2) >> 2).astype(np.uint8)
