"""Videos of balls that bounce off walls and each other, on which RATM learns to track."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ... import checks
from ..storage.generated_videos import Bytes, GeneratedVideos
from .collisions import BOX, Balls, draw_positions, next_frame
from .digit_images import Split
from .multi_object import check_counts
from .trajectories import Floats

# Of a ball's ink, in radii: the intensity there is 4e-7.
_REACH = 1.4

_Float = TypeVar("_Float", np.float32, np.float64)


@dataclass(frozen=True)
class BouncingBallsRecipe:
    """How a video of bouncing balls is made.

    The frame shows a box of 10 x 10 units. Balls begin where `draw_positions` puts them, inside and apart,
    with Gaussian velocities that are scaled so that the squares of their speeds sum up to `speed`^2, and
    move as `next_frame` says. A pixel whose centre has distance d to that of a ball gets exp(-(d / radius)^8)
    from it; the contributions of all balls are added, and the sum is cut off at 1.

    The defaults are RATM's, whose authors also let it track for 300 frames.

    Source: Kahou, Michalski and Memisevic (2015), RATM: Recurrent Attentive Tracking Model; the program of
    Sutskever, Hinton and Taylor (2008), The Recurrent Temporal Restricted Boltzmann Machine.

    Raises:
        ValueError: if a number is impossible or numbers contradict each other.
    """

    min_objects: int = 1
    """Smallest number of balls in a video."""
    max_objects: int = 1
    """Greatest number of balls in a video; the number is uniform."""
    image_size: int = 20
    """Side of the frames in pixels."""
    frames: int = 32
    """Number of frames T."""
    radius: float = 1.2
    """Of a ball, in units; with 20 pixels it is 2.4 pixels."""
    speed: float = 0.5
    """Root of the sum of the squared speeds of all balls, in units per frame; with 20 pixels one ball moves
    1 pixel per frame.
    """

    def __post_init__(self) -> None:
        check_counts(self.min_objects, self.max_objects)
        if not 0 < self.radius < BOX / 2:
            raise ValueError(f"`radius` must be in (0, {BOX / 2:g}), got {self.radius}.")
        checks.at_least(1, self, "image_size", "frames")
        checks.not_negative(self, "speed")
        if self.radius < self.pitch / 2:
            # Between the centres of pixels it would have no ink.
            raise ValueError(
                f"`radius` must be at least half a pixel, {self.pitch / 2:g}, got {self.radius}."
            )

    @property
    def pitch(self) -> float:
        """Units from one pixel to the next."""
        return BOX / self.image_size

    def draw(self, rng: np.random.Generator) -> Balls:
        """The balls of one video in its first frame, arrays `(n, 2)`; the last axis is (x, y).

        Raises:
            ValueError: if so many balls find no place.
        """
        count = int(rng.integers(self.min_objects, self.max_objects + 1))
        velocity = rng.standard_normal((count, 2))
        if count:
            velocity *= self.speed / np.sqrt((velocity**2).sum())
        return Balls(draw_positions(count, self.radius, rng), velocity)

    @property
    def diameter(self) -> float:
        """Side of a ball's box in pixels."""
        return 2 * self.radius / self.pitch

    def patch(self, side: int = 5, spacing: float = 1.0) -> Floats:
        """Grey values in [0, 1] at `side` x `side` points around a ball at the centre of the patch.

        Args:
            side: points in a row; five is the side that RATM compares glimpses with.
            spacing: pixels from one point to the next. With 1 the points are pixels, and 5 x 5 of them span 4
                pixels of a ball that is 4.8 wide; with `diameter / (side - 1)` they span its box.
        """
        offsets = (np.arange(side) - (side - 1) / 2) * spacing * self.pitch / self.radius
        return _intensity(offsets[:, None] ** 2 + offsets**2)


class BouncingBalls(GeneratedVideos):
    """Videos of bouncing balls, made when they are asked for, see `GeneratedVideos`.

    Video `i` is a pure function of `(recipe, seed, purpose, i)`: the same in whichever batch, process or
    order it is made. A longer video begins with the shorter one, and frames of another size show the same
    scene.

    Labels, as in `VideoData` (without `classes`: all balls are alike); a slot is an *identity*, it is the
    same ball in all frames.

    - `count`: balls in the video, constant.
    - `boxes`: the square around the circle of the ball's radius, real-valued, not cut off at the frame's
      border. The intensity at the circle is 1 / e. Pixel `k` covers `[k, k + 1)`, so a ball in the middle of
      20 pixels is centred at 10, between two of them.
    - `visible`: the fraction of the ball's ink (sum of intensities) inside the frame; balls reach a little
      beyond it when they bounce.

    A batch of 32 with the default recipe takes 4 ms on one core of a server.

    Args:
        recipe: how a video is made.
        size: number of videos; RATM has 100,000 for training and 10,000 for testing.
        seed: seed of the videos.
        purpose: data sets of different purposes are independent for one and the same seed.

    Raises:
        ValueError: if `size` is not positive, or `seed` is not in [0, 2^64).
    """

    def __init__(
        self, recipe: BouncingBallsRecipe, size: int, seed: int, *, purpose: str = "bouncing_balls"
    ) -> None:
        super().__init__((size, recipe.frames, 1, recipe.image_size, recipe.image_size), seed, purpose)
        self.recipe = recipe

    def _make(self, rngs: Sequence[np.random.Generator]) -> tuple[Bytes, dict[str, npt.NDArray[Any]]]:
        recipe = self.recipe
        centres = _follow(recipe, [recipe.draw(rng) for rng in rngs])
        video, visible = _paint(recipe, centres / recipe.pitch)
        present = ~np.isnan(centres[:, :, :, 0])
        boxes = np.zeros((*present.shape, 4), dtype=np.float32)
        boxes[present] = np.concatenate(
            [centres[present] - recipe.radius, np.full((present.sum(), 2), 2 * recipe.radius)], axis=-1
        )
        boxes /= np.float32(recipe.pitch)
        return video[:, :, None], {"count": present.sum(-1), "boxes": boxes, "visible": visible}


def bouncing_ball_videos(recipe: BouncingBallsRecipe, split: Split, size: int, seed: int) -> BouncingBalls:
    """Videos of bouncing balls, other ones for training than for testing.

    Args:
        recipe: how a video is made.
        split: `"train"` or `"test"`.
        size: number of videos.
        seed: seed of the videos.

    Raises:
        ValueError: if an argument is not one of those above.
    """
    if split not in ("train", "test"):
        raise ValueError(f"`split` must be 'train' or 'test', got {split!r}.")
    return BouncingBalls(recipe, size, seed, purpose=f"bouncing_balls/{split}")


def _follow(recipe: BouncingBallsRecipe, scenes: Sequence[Balls]) -> Floats:
    """Centres in all frames `(B, T, N, 2)`; NaN where a video has fewer than N balls."""
    balls = Balls(*(np.full((len(scenes), recipe.max_objects, 2), np.nan) for _ in range(2)))
    for video, scene in enumerate(scenes):
        count = len(scene.position)
        balls.position[video, :count], balls.velocity[video, :count] = scene
    centres = np.empty((len(scenes), recipe.frames, recipe.max_objects, 2))
    for frame in range(recipe.frames):
        centres[:, frame] = balls.position
        balls = next_frame(balls, recipe.radius)
    return centres


def _paint(recipe: BouncingBallsRecipe, centres: Floats) -> tuple[Bytes, npt.NDArray[np.float32]]:
    """Frames `(B, T, H, W)` and the visible fraction of each ball `(B, T, N)`; `centres` are in pixels.

    Of each ball only a patch that holds all of its ink is computed, and added to frames that have a margin
    for what is outside.
    """
    size, (videos, frames, slots, _) = recipe.image_size, centres.shape
    radius = recipe.radius / recipe.pitch
    side = int(2 * _REACH * radius) + 1  # of a patch: as many pixels as there can be in reach
    canvas = np.zeros((videos, frames, size + 2 * side, size + 2 * side), dtype=np.float32)
    visible = np.zeros((videos, frames, slots), dtype=np.float32)
    for slot in range(slots):
        where = np.flatnonzero(~np.isnan(centres[:, 0, slot, 0]))
        centre = centres[where, :, slot]  # (n, T, 2)
        # The centre of pixel k is at k + 0.5.
        first = np.clip(np.ceil(centre - _REACH * radius - 0.5).astype(np.int64), -side, size)
        pixels = first[..., None] + np.arange(side)  # (n, T, 2, P): columns and rows
        squares = (((pixels + 0.5 - centre[..., None]) / radius) ** 2).astype(np.float32)
        ink = _intensity(squares[:, :, 1, :, None] + squares[:, :, 0, None, :])  # (n, T, P, P)
        inside = (pixels >= 0) & (pixels < size)
        seen = ink * (inside[:, :, 1, :, None] & inside[:, :, 0, None, :])
        visible[where, :, slot] = seen.sum((2, 3)) / ink.sum((2, 3))
        columns, rows = pixels[:, :, 0, None, :] + side, pixels[:, :, 1, :, None] + side
        canvas[where[:, None, None, None], np.arange(frames)[:, None, None], rows, columns] += ink
    shown = canvas[:, :, side : side + size, side : side + size]
    return np.rint(np.minimum(shown, 1) * 255).astype(np.uint8), visible


def _intensity(squares: npt.NDArray[_Float]) -> npt.NDArray[_Float]:
    """Grey value at squared distances from a ball's centre, in radii."""
    # Two squares: NumPy's general power takes ten times as long.
    return np.exp(-np.square(np.square(squares)))
