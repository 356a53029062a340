"""Videos of coloured balls that hide each other and collide, on which predictions are measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import checks
from ..storage.generated_videos import Bytes, GeneratedVideos
from .collisions import Balls, next_frame
from .coloured_sprites import RGB, Canvas
from .digit_images import Split
from .multi_object import distinct
from .trajectories import Floats

_COLOURS = ("blue", "red", "yellow", "fuchsia", "aqua")
_MOST = 255  # that segments can number, in a byte
_SUB_STEPS = 10  # of a frame
_ATTEMPTS = 500  # to place all balls, each of them up to a hundred times


@dataclass(frozen=True)
class ColouredBallsRecipe:
    """How a video of coloured balls is made.

    Balls of one radius begin anywhere inside the frame, in any direction at one speed, and go straight; walls
    reflect them, and balls of one layer may collide, as such of equal mass do. They are antialiased circles;
    those of a later layer, and in a layer those of a greater number, hide others. With one layer each ball
    has one of five colours; with two, those behind are blue and those in front red.

    Source: Lin et al. (2020), Improving Generative Imagination in Object-Centric World Models, and its code;
    the sets that have a name there are in `BALLS`.

    Raises:
        ValueError: if a number is impossible or numbers contradict each other.
    """

    objects: int = 3
    """Number of balls in each layer."""
    layers: int = 1
    """Number of layers, 1 or 2."""
    collide: bool = True
    """Whether the balls of a layer collide; otherwise they pass through each other, and so do those of
    different layers.
    """
    apart: bool = True
    """Whether no two balls overlap in the first frame."""
    distinct: bool = False
    """Whether the balls of a video have different colours, for up to five of them."""
    radius: float = 8.0
    """Of a ball, in pixels."""
    speed: float = 3.0
    """In pixels per frame."""
    image_size: int = 64
    """Side of the frames in pixels."""
    frames: int = 100
    """Number of frames T."""

    def __post_init__(self) -> None:
        checks.at_least(1, self, "objects", "image_size", "frames")
        checks.one_of((1, 2), self, "layers")
        if self.max_objects > _MOST:
            raise ValueError(f"`objects` must be at most {_MOST // self.layers}, got {self.objects}.")
        checks.positive(self, "radius")
        checks.not_negative(self, "speed")
        if self.image_size <= 2 * self.radius:
            raise ValueError(f"`image_size` must exceed {2 * self.radius:g}, got {self.image_size}.")
        if self.distinct and (self.layers > 1 or self.objects > len(_COLOURS)):
            raise ValueError(
                f"`distinct` is for one layer of up to {len(_COLOURS)} balls, "
                f"got {self.layers} of {self.objects}."
            )

    @property
    def max_objects(self) -> int:
        """Number of balls in a video, those of the layer behind first."""
        return self.layers * self.objects

    def draw(self, rng: np.random.Generator) -> Balls:
        """The balls of one video in its first frame, arrays `(N, 2)`; the last axis is (x, y).

        Raises:
            ValueError: if so many balls find no place.
        """
        angles = rng.uniform(0, 2 * np.pi, self.max_objects)
        velocity = self.speed * np.stack([np.cos(angles), np.sin(angles)], -1)
        for _ in range(_ATTEMPTS):
            if (position := self._placed(rng)) is not None:
                return Balls(position, velocity)
        raise ValueError(
            f"found no place for {self.max_objects} balls of radius {self.radius:g} in {_ATTEMPTS} frames "
            f"of {self.image_size} x {self.image_size} pixels: there are too many, or they are too large."
        )

    def colours(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Numbers of the balls' colours in `coloured_sprites.RGB`, `(N,)`."""
        names = tuple(RGB)
        if self.layers > 1:
            return np.repeat([names.index("blue"), names.index("red")], self.objects)
        count = len(_COLOURS)
        chosen = (
            distinct(count, self.objects, rng) if self.distinct else rng.integers(count, size=self.objects)
        )
        return np.array([names.index(_COLOURS[each]) for each in chosen])

    def follow(self, balls: Balls) -> Floats:
        """Centres `(V, T, N, 2)` in V videos, given the balls of the first frame, arrays `(V, N, 2)`."""
        centres = np.empty((len(balls.position), self.frames, self.max_objects, 2))
        for first in range(0, self.max_objects, self.objects):
            layer = Balls(*(value[:, first : first + self.objects] for value in balls))
            for t in range(self.frames):
                centres[:, t, first : first + self.objects] = layer.position
                layer = next_frame(
                    layer, self.radius, collide=self.collide, box=self.image_size, sub_steps=_SUB_STEPS
                )
        return centres

    def _placed(self, rng: np.random.Generator) -> Floats | None:
        """Centres of balls, one after the other; None if one of them has found no place."""
        low, high = self.radius, self.image_size - self.radius
        position = rng.uniform(low, high, (self.max_objects, 2))
        if not self.apart:
            return position
        for ball in range(1, self.max_objects):
            places = np.concatenate([position[ball : ball + 1], rng.uniform(low, high, (99, 2))])
            squares = ((places[:, None] - position[:ball]) ** 2).sum(-1)
            free = np.flatnonzero((squares >= (2 * self.radius) ** 2).all(-1))
            if not free.size:
                return None
            position[ball] = places[free[0]]
        return position


BALLS = {
    "balls-occlusion": ColouredBallsRecipe(collide=False, apart=False, distinct=True),
    "balls-interaction": ColouredBallsRecipe(),
    "balls-two-layers": ColouredBallsRecipe(layers=2),
    "balls-dense": ColouredBallsRecipe(objects=8, layers=2, radius=5.0),
}
"""The published sets: three balls that hide each other; three that collide; three behind three others; and
eight behind eight smaller ones.
"""


class ColouredBalls(GeneratedVideos):
    """Videos of coloured balls, made when they are asked for, see `GeneratedVideos`.

    A longer video begins with the shorter one.

    Labels, as in `VideoData`; a slot is an *identity*, it is the same ball in all frames.

    - `count`: balls in the video, constant, hidden ones included.
    - `classes`: the number of the ball's colour in `coloured_sprites.RGB`.
    - `boxes`: the square around the circle, real-valued; pixel `k` covers `[k, k + 1)`.
    - `visible`: the share of the ball inside the frame; what is hidden by another counts as visible.
    - `segments`: the ball that is seen at each pixel.

    Args:
        recipe: how a video is made.
        size: number of videos; published are 5,000 for training and 200 for testing.
        seed: seed of the videos.
        purpose: data sets of different purposes are independent for one and the same seed.

    Raises:
        ValueError: if `size` is not positive, or `seed` is not in [0, 2^64).
    """

    def __init__(
        self, recipe: ColouredBallsRecipe, size: int, seed: int, *, purpose: str = "coloured_balls"
    ) -> None:
        super().__init__((size, recipe.frames, 3, recipe.image_size, recipe.image_size), seed, purpose)
        self.recipe = recipe

    def _make(self, rngs: Sequence[np.random.Generator]) -> tuple[Bytes, dict[str, npt.NDArray[Any]]]:
        recipe, videos = self.recipe, len(rngs)
        shape = videos, recipe.frames, recipe.max_objects
        drawn = [(recipe.draw(rng), recipe.colours(rng)) for rng in rngs]
        classes = np.array([colours for _, colours in drawn], np.int64).reshape(videos, recipe.max_objects)
        first = (np.array([balls[part] for balls, _ in drawn]) for part in (0, 1))
        centres = recipe.follow(Balls(*(part.reshape(videos, recipe.max_objects, 2) for part in first)))
        pixels = np.zeros((videos, *self.shape[1:]), np.uint8)
        segments = np.zeros((videos, recipe.frames, *self.shape[3:]), np.uint8)
        visible = np.zeros(shape, np.float32)
        for video, t in np.ndindex(*shape[:2]):
            canvas = Canvas(pixels[video, t], segments[video, t])
            for ball, centre in enumerate(centres[video, t]):
                alpha, corner = _circle(centre, recipe.radius)
                colour = tuple(RGB.values())[classes[video, ball]]
                visible[video, t, ball] = canvas.draw(alpha, colour, corner, ball)
        boxes = np.concatenate([centres - recipe.radius, np.full_like(centres, 2 * recipe.radius)], -1)
        labels: dict[str, npt.NDArray[Any]] = {
            "count": np.full(shape[:2], recipe.max_objects, np.int64),
            "classes": classes,
            "boxes": boxes.astype(np.float32),
            "visible": visible,
            "segments": segments,
        }
        return pixels, labels


def coloured_ball_videos(recipe: ColouredBallsRecipe, split: Split, size: int, seed: int) -> ColouredBalls:
    """Videos of coloured balls, other ones for training than for testing.

    Args:
        recipe: how a video is made.
        split: `"train"` or `"test"`.
        size: number of videos.
        seed: seed of the videos.

    Raises:
        ValueError: if an argument is not one of those above.
    """
    checks.one_of(("train", "test"), split=split)
    return ColouredBalls(recipe, size, seed, purpose=f"coloured_balls/{split}")


def _circle(centre: Floats, radius: float) -> tuple[Bytes, tuple[int, int]]:
    """How far a circle covers pixels `(h, w)`, and the row and column of the first of them."""
    first = np.floor(centre - radius - 0.5).astype(np.int64)
    pixels = first + np.arange(2 * int(radius) + 4)[:, None] + 0.5 - centre  # of each axis, from the centre
    distance = np.hypot(pixels[:, 1, None], pixels[None, :, 0])
    alpha = np.rint(255 * np.clip(radius + 0.5 - distance, 0, 1)).astype(np.uint8)
    return alpha, (int(first[1]), int(first[0]))
