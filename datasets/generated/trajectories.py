"""Where the digits of a moving scene are: constant acceleration, and reflection at the borders."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ... import checks

Floats = npt.NDArray[np.float64]


def reflect(values: npt.NDArray[np.floating[Any]], low: Floats | float, high: Floats | float) -> Floats:
    """Values reflected at both ends of a range, as often as it takes; at `low` where the range is empty."""
    span = np.maximum(np.subtract(high, low), 1e-12)
    reflected: Floats = low + span - np.abs((values - low) % (2 * span) - span)
    return reflected


class MotionState(NamedTuple):
    """Where objects are and how they move; the last axis is (y, x), and all three have the same shape."""

    position: Floats
    """Top-left corner `(..., 2)` in pixels, real-valued, in [0, size]."""
    velocity: Floats
    """`(..., 2)` in pixels per frame."""
    acceleration: Floats
    """`(..., 2)` in pixels per frame^2."""


@dataclass(frozen=True)
class Motion:
    """How digits move: with an acceleration that changes little, between walls that reflect them.

    In each frame, for each axis of a frame of `size` pixels,

        position += velocity;  velocity += acceleration;  acceleration += N(0, jitter^2)

    then a position below 0 or above `size` is reflected there, which changes the signs of velocity and
    acceleration, and all three are clipped to their bounds. What is reflected is the *top-left corner*: a
    digit never leaves at the top or on the left, and may leave altogether at the bottom and on the right,
    from where it comes back.

    With the defaults the acceleration hardly changes between reflections, so motion is nearly deterministic.

    Source: the code of Kosiorek et al. (2018), Sequential Attend, Infer, Repeat; the paper says less.

    Raises:
        ValueError: if a number is negative.
    """

    max_speed: float = 10.0
    """Greatest velocity along an axis, either way, in pixels per frame; the first one is uniform."""
    max_acceleration: float = 3.0
    """Greatest acceleration along an axis, in pixels per frame^2; the first one is uniform."""
    jitter: float = 0.01
    """Standard deviation of the acceleration's change from frame to frame."""

    def __post_init__(self) -> None:
        checks.not_negative(self, "max_speed", "max_acceleration", "jitter")

    def draw(self, count: int, size: int, rng: np.random.Generator) -> MotionState:
        """Uniform positions, velocities and accelerations of `count` objects, `(count, 2)` each."""
        bounds = np.array([[size / 2], [self.max_speed], [self.max_acceleration]])
        state = rng.uniform(-1, 1, (3, count, 2)) * bounds[:, None]
        return MotionState(state[0] + size / 2, state[1], state[2])

    def draw_noise(self, count: int, steps: int, rng: np.random.Generator) -> Floats:
        """The changes of the acceleration of `count` objects in `steps` steps, `(steps, count, 2)`."""
        return rng.normal(0, self.jitter, (steps, count, 2))

    def step(self, state: MotionState, noise: Floats, size: int) -> MotionState:
        """The state one frame later.

        Args:
            state: arrays `(..., 2)`.
            noise: what is added to the acceleration, `(..., 2)`.
            size: side of the frame in pixels.
        """
        position = state.position + state.velocity
        velocity = state.velocity + state.acceleration
        acceleration = state.acceleration + noise
        below, above = position < 0, position > size
        sign = np.where(below | above, -1.0, 1.0)
        position = np.where(below, -position, np.where(above, 2 * size - position, position))
        return MotionState(
            np.clip(position, 0, size),
            np.clip(sign * velocity, -self.max_speed, self.max_speed),
            np.clip(sign * acceleration, -self.max_acceleration, self.max_acceleration),
        )

    def trajectory(self, first: Floats, drawn: MotionState, noise: Floats, size: int) -> Floats:
        """Positions in all frames, `(T, ..., 2)`.

        As in the original, the drawn state makes one step, and only then is its position replaced by that of
        the first frame, so velocities there are not quite uniform.

        Args:
            first: positions in the first frame `(..., 2)`.
            drawn: a state as `draw` gives it, arrays `(..., 2)`.
            noise: changes of the acceleration `(T, ..., 2)`, the first of which is for the step before the
                first frame.
            size: side of the frame in pixels.
        """
        state = self.step(drawn, noise[0], size)._replace(position=first)
        positions = np.empty((len(noise), *first.shape))
        positions[0] = first
        for frame in range(1, len(noise)):
            state = self.step(state, noise[frame], size)
            positions[frame] = state.position
        return positions
