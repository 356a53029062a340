"""RATM's videos of one or several moving digits, and the rules by which they move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ... import checks
from .collisions import BOX, Balls, draw_positions, next_frame
from .digit_images import Digits
from .moving_digits import check_frames
from .multi_object import Sprite, check_counts, distinct
from .tracks import Tracks
from .trajectories import Floats

_SIDE = 28  # of a digit's picture


class DigitStart(NamedTuple):
    """What is random in how the n digits of a video move in T frames; the last axis is (y, x)."""

    position: Floats
    """In the first frame `(n, 2)`."""
    velocity: Floats
    """In the first frame `(n, 2)`."""
    changes: Floats
    """What the rule mixes into the velocity of each later frame `(T - 1, n, 2)`."""


class DigitMotion(Protocol):
    """How the pictures of digits, 28 x 28 pixels, move in frames of `size` x `size` pixels."""

    def check(self, size: int) -> None:
        """Refuses frames that are too small.

        Raises:
            ValueError: if `size` is too small.
        """

    def draw(self, count: int, frames: int, size: int, rng: np.random.Generator) -> DigitStart:
        """What is random in one video of `count` digits."""

    def corners(self, starts: Sequence[DigitStart], frames: int, size: int) -> Floats:
        """Top-left corners of all digits of all videos, one video after the other, `(T, D, 2)`."""


@dataclass(frozen=True)
class _Walk:
    """What both walks have in common: their random numbers.

    Raises:
        ValueError: if a number is impossible.
    """

    inertia: float = 0.9
    """Weight of the old velocity, or of the old draw; the new draw has the rest."""
    max_step: int = 15
    """Draws are uniform integers from -`max_step` to `max_step` - 1, in pixels per frame."""

    def __post_init__(self) -> None:
        checks.share(self, "inertia")
        checks.at_least(1, self, "max_step")

    def check(self, size: int) -> None:
        """Refuses frames in which a digit could be mirrored at both borders in one step.

        Raises:
            ValueError: if `size` is too small.
        """
        if _border(size) < self.max_step:
            raise ValueError(
                f"`image_size` must be at least {_SIDE + 1 + self.max_step}, the digit's side, 1 and "
                f"`max_step`, got {size}."
            )

    def draw(self, count: int, frames: int, size: int, rng: np.random.Generator) -> DigitStart:
        """Uniform positions of whole pixels, and uniform velocities; see the class."""
        position = rng.integers(0, _border(size), (count, 2), endpoint=True).astype(np.float64)
        draws = rng.integers(-self.max_step, self.max_step, (frames, count, 2)).astype(np.float64)
        return DigitStart(position, draws[0], draws[1:])


@dataclass(frozen=True)
class MomentumWalk(_Walk):
    """A random walk whose velocity has momentum: the default for one digit.

    From a uniform place of whole pixels, with draws d of uniform integers and v = d in the first frame, each
    later frame has for each axis

        v = inertia v + (1 - inertia) d;  position += v

    and a position below 0 or above `size` - 29 is mirrored there, which changes the sign of v. So a picture
    is always in the frame, and never touches its last row and column.

    This is what the paper says. Its program does something else, see `ReleasedWalk`.

    Raises:
        ValueError: if a number is impossible.
    """

    def corners(self, starts: Sequence[DigitStart], frames: int, size: int) -> Floats:
        """Top-left corners of all digits of all videos, `(T, D, 2)`; not rounded."""
        position, velocity, changes = _together(starts, frames)
        places = [position]
        for draw in changes:
            velocity = self.inertia * velocity + (1 - self.inertia) * draw
            position, mirrored = _mirror(position + velocity, _border(size))
            velocity = np.where(mirrored, -velocity, velocity)
            places.append(position)
        return np.stack(places)


@dataclass(frozen=True)
class ReleasedWalk(_Walk):
    """The walk of RATM's program, which has no momentum.

    As `MomentumWalk`, but each later frame has

        position = trunc(position + inertia d_before + (1 - inertia) d)

    with *two independent draws*, that of the frame before and a new one, so that a step tells next to nothing
    of the next one; and mirroring changes the position only. Positions are whole pixels.

    To answer with the true box of the frame before gives an IoU of 0.45 on such videos. The paper reports
    0.64 for a model that knows no later frame either, so its videos were probably others.

    Raises:
        ValueError: if a number is impossible.
    """

    def corners(self, starts: Sequence[DigitStart], frames: int, size: int) -> Floats:
        """Top-left corners of all digits of all videos, `(T, D, 2)`; whole pixels."""
        position, before, changes = _together(starts, frames)
        places = [position]
        for draw in changes:
            # Every tenth step is whole, which floating point must not make less.
            step = np.round(self.inertia * before + (1 - self.inertia) * draw, 9)
            position, _ = _mirror(np.trunc(position + step), _border(size))
            before = draw
            places.append(position)
        return np.stack(places)


@dataclass(frozen=True)
class Billiard:
    """Digits that bounce off walls and each other like balls, while their velocities wander.

    The frame shows a box of 10 x 10 units, in which digits are balls as wide as their pictures. They begin
    where `draw_positions` puts them, at `speed` in uniform directions, and move as `next_frame` says. After
    every frame, each velocity becomes

        inertia v + (1 - inertia) N(0, std^2)

    on each axis, and is scaled so that its length is in [`min_speed`, `max_speed`]; with the defaults, digits
    slow down to about `min_speed` in seven frames, and wander on. Where a ball has reached beyond a wall, the
    digit is at the wall, so that its picture is in the frame. Pictures are squares, whose corners may overlap
    while the balls do not touch.

    The paper only says that its script for balls was used, with random changes of the velocities that have
    momentum; the numbers are this project's.

    Raises:
        ValueError: if a number is impossible or numbers contradict each other.
    """

    speed: float = 0.5
    """In the first frame, in units per frame; in frames of 100 pixels it is 5 pixels."""
    inertia: float = 0.9
    """Weight of the old velocity."""
    std: float = 0.5
    """Of the normal draws, in units per frame."""
    min_speed: float = 0.25
    """Least speed, in units per frame."""
    max_speed: float = 0.75
    """Greatest speed, in units per frame."""
    collide: bool = True
    """Whether digits bounce off each other; without it they pass over each other."""

    def __post_init__(self) -> None:
        checks.share(self, "inertia")
        checks.not_negative(self, "std")
        if not 0 <= self.min_speed <= self.speed <= self.max_speed < np.inf:
            raise ValueError(
                "expected 0 <= `min_speed` <= `speed` <= `max_speed`, "
                f"got {self.min_speed}, {self.speed} and {self.max_speed}."
            )

    def check(self, size: int) -> None:
        """Refuses frames that have no room for a digit to move in.

        Raises:
            ValueError: if `size` is too small.
        """
        if size <= _SIDE:
            raise ValueError(f"`image_size` must be at least {_SIDE + 1}, got {size}.")

    def draw(self, count: int, frames: int, size: int, rng: np.random.Generator) -> DigitStart:
        """Positions and velocities in units, of the centres; see the class.

        Raises:
            ValueError: if so many digits find no place.
        """
        angles = rng.uniform(0, 2 * np.pi, count)
        velocity = self.speed * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
        position = draw_positions(count, _radius(size), rng)
        return DigitStart(position, velocity, rng.normal(0, self.std, (frames - 1, count, 2)))

    def corners(self, starts: Sequence[DigitStart], frames: int, size: int) -> Floats:
        """Top-left corners of all digits of all videos, `(T, D, 2)`; not rounded."""
        counts = [len(start.position) for start in starts]
        here = np.arange(max(counts, default=0)) < np.array(counts, dtype=np.int64)[:, None]  # (V, N)
        drawn = _together(starts, frames)
        balls = Balls(*(np.full((*here.shape, 2), np.nan) for _ in range(2)))
        balls.position[here], balls.velocity[here] = drawn.position, drawn.velocity
        places = [drawn.position]
        for draw in drawn.changes:
            balls = next_frame(balls, _radius(size), collide=self.collide)
            balls.velocity[here] = self._wander(balls.velocity[here], draw)
            places.append(balls.position[here])
        return np.clip(np.stack(places) * size / BOX - _SIDE / 2, 0, size - _SIDE)

    def _wander(self, velocity: Floats, draw: Floats) -> Floats:
        velocity = self.inertia * velocity + (1 - self.inertia) * draw
        speed = np.sqrt((velocity**2).sum(-1, keepdims=True))
        return velocity * (np.clip(speed, self.min_speed, self.max_speed) / np.maximum(speed, 1e-9))


MOTIONS: Mapping[str, type[MomentumWalk] | type[ReleasedWalk] | type[Billiard]] = {
    "momentum": MomentumWalk,
    "released": ReleasedWalk,
    "billiard": Billiard,
}
"""The rules by name."""


@dataclass(frozen=True)
class RatmDigitsRecipe:
    """How RATM's videos of moving digits are made, for `MovingDigits`.

    The digits of a video are different pictures of 28 x 28 pixels, drawn at their rounded positions and
    joined by the elementwise maximum. Their boxes are those of the *pictures*, not of the ink, 28 x 28 pixels
    that are always in the frame. Where a tracker is to follow one of several digits, it is that of slot 0,
    and the others distract from it.

    A longer video begins with the shorter one, but for noise; the paper trains on 10 frames and tests on 30.

    - One digit: the defaults.
    - Several: `RatmDigitsRecipe(2, 2, motion=Billiard())`.

    Source: Kahou, Michalski and Memisevic (2015), RATM: Recurrent Attentive Tracking Model.

    Raises:
        ValueError: if a number is impossible or numbers contradict each other.
    """

    min_objects: int = 1
    """Smallest number of digits in a video."""
    max_objects: int = 1
    """Greatest number of digits in a video; the number is uniform."""
    image_size: int = 100
    """Side of the frames in pixels."""
    frames: int = 10
    """Number of frames T."""
    motion: DigitMotion = field(default_factory=MomentumWalk)
    """How the digits move."""
    noise_std: float = 0.0
    """Standard deviation of Gaussian noise added to every pixel, as in `MovingDigitsRecipe`; the original has
    none.
    """

    def __post_init__(self) -> None:
        check_counts(self.min_objects, self.max_objects)
        check_frames(self)
        checks.finite(self, "image_size")
        self.motion.check(self.image_size)

    def tracks(self, digits: Digits, rngs: Sequence[np.random.Generator]) -> Tracks:
        """Draws one video from each generator.

        Raises:
            ValueError: if the digits of a video find no place in the first frame.
        """
        sprites, starts = [], []
        for rng in rngs:
            count = int(rng.integers(self.min_objects, self.max_objects + 1))
            picks = distinct(len(digits), count, rng)
            starts.append(self.motion.draw(count, self.frames, self.image_size, rng))
            # `Tracks` has the places.
            sprites.append([Sprite(digits.images[i], 0, 0, int(digits.labels[i])) for i in picks])
        corners = self.motion.corners(starts, self.frames, self.image_size)
        return Tracks.of(sprites, corners, np.ones(corners.shape[:2], dtype=bool))


def _border(size: int) -> int:
    """The greatest top or left of a picture that does not touch the last row or column."""
    return size - 1 - _SIDE


def _radius(size: int) -> float:
    """Half a picture's side in units of the box."""
    return _SIDE / 2 * BOX / size


def _mirror(position: Floats, border: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Positions mirrored at 0 and at `border`, and which of them were."""
    below, above = position < 0, position > border
    return np.where(below, -position, np.where(above, 2 * border - position, position)), below | above


def _together(starts: Sequence[DigitStart], frames: int) -> DigitStart:
    """All digits of all videos, one video after the other."""
    nobody = np.zeros((0, 2))
    return DigitStart(
        np.concatenate([nobody, *(start.position for start in starts)]),
        np.concatenate([nobody, *(start.velocity for start in starts)]),
        np.concatenate([np.zeros((frames - 1, 0, 2)), *(start.changes for start in starts)], axis=1),
    )
