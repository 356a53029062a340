"""Balls in a box: they fly straight, and bounce off walls and each other."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .trajectories import Floats

BOX = 10.0
"""Side of the box; all lengths are in these units, and a frame shows the whole box."""
MAX_ATTEMPTS = 10_000
"""How often all balls are placed anew before they are given up as too many."""

_LOWEST = 2.0  # no ball begins further left or up
_SUB_STEPS = 2  # of a frame
_BLOCK = 100  # attempts at a time


class Balls(NamedTuple):
    """Equal balls of mass 1 in several boxes; boxes with fewer balls than others are filled up with NaN."""

    position: Floats
    """Centres `(..., N, 2)`."""
    velocity: Floats
    """`(..., N, 2)` in units per frame."""


def draw_positions(count: int, radius: float, rng: np.random.Generator) -> Floats:
    """Centres of balls that are inside the box and do not overlap, `(count, 2)`, all such places alike.

    As in the original, no coordinate is below 2, though balls of a smaller radius would fit there.

    Raises:
        ValueError: if the balls overlap in `MAX_ATTEMPTS` attempts.
    """
    first, second = _pairs(count)
    for _ in range(MAX_ATTEMPTS // _BLOCK):
        positions = rng.uniform(max(_LOWEST, radius), BOX - radius, (_BLOCK, count, 2))
        squares = ((positions[:, first] - positions[:, second]) ** 2).sum(-1)
        apart = np.flatnonzero((squares >= (2 * radius) ** 2).all(-1))
        if apart.size:
            return positions[apart[0]]
    raise ValueError(
        f"found no place for {count} balls of radius {radius:g} in {MAX_ATTEMPTS} boxes of side {BOX:g}: "
        "there are too many, or they are too large."
    )


def next_frame(
    balls: Balls, radius: float, *, collide: bool = True, box: float = BOX, sub_steps: int = _SUB_STEPS
) -> Balls:
    """The balls one frame later.

    A frame has two sub-steps, or as many as are asked for. In each, balls first move; then those that reach
    beyond a wall fly away from it, with the same speed; then balls that overlap *and approach each other*
    exchange the components of their velocities along the line between their centres, which conserves momentum
    and energy. So a ball may reach beyond a wall by what it moves in a sub-step, or more if another one
    pushes it.

    Of two balls alone, those that overlap always approach each other; the original does not ask for it, and
    glues balls together that a wall or a third ball has driven into each other.

    Source: the program of Sutskever, Hinton and Taylor (2008), The Recurrent Temporal Restricted Boltzmann
    Machine.

    Args:
        balls: arrays `(V, N, 2)`.
        radius: of every ball.
        collide: whether balls collide; without it they pass through each other.
        box: side of the box.
        sub_steps: of a frame.
    """
    position, velocity = balls
    for _ in range(sub_steps):
        position = position + velocity / sub_steps
        inwards = abs(velocity)
        velocity = np.where(position < radius, inwards, velocity)
        velocity = np.where(position > box - radius, -inwards, velocity)
        if collide:
            velocity = _collide(position, velocity, radius)
    return Balls(position, velocity)


def _collide(position: Floats, velocity: Floats, radius: float) -> Floats:
    """Velocities after the collisions of balls that overlap, pair after pair."""
    first, second = _pairs(position.shape[1])
    if not first.size:
        return velocity
    between = position[:, first] - position[:, second]  # (V, P, 2)
    squares = (between**2).sum(-1)
    touching = squares < (2 * radius) ** 2
    if not touching.any():
        return velocity
    velocity = velocity.copy()
    for pair in np.flatnonzero(touching.any(0)).tolist():
        where, one, other = touching[:, pair], first[pair], second[pair]
        normal = between[where, pair] / np.sqrt(squares[where, pair, None])
        apart = ((velocity[where, one] - velocity[where, other]) * normal).sum(-1, keepdims=True)
        exchanged = np.minimum(apart, 0) * normal
        velocity[where, one] -= exchanged
        velocity[where, other] += exchanged
    return velocity


@lru_cache(maxsize=16)
def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.tril_indices(count, -1)
    return first, second
