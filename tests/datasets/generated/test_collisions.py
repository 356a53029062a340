import math

import numpy as np
import pytest
from scipy import stats

from whatwhere.datasets.generated.collisions import Balls, draw_positions, next_frame

Scene = list[list[float]]


def balls(position: Scene, velocity: Scene) -> Balls:
    """One box."""
    return Balls(np.array([position], dtype=float), np.array([velocity], dtype=float))


def draw(scenes: int, count: int, radius: float, speed: float = 1.0) -> Balls:
    rng = np.random.default_rng(0)
    positions = np.stack([draw_positions(count, radius, rng) for _ in range(scenes)])
    return Balls(positions, rng.uniform(-speed, speed, positions.shape))


def slow_frame(position: Scene, velocity: Scene, radius: float) -> int:
    """Moves the balls of one box in place, number by number; returns how many pairs collided."""
    collisions = 0
    for _ in range(2):
        for x, v in zip(position, velocity, strict=True):
            for axis in range(2):
                x[axis] += 0.5 * v[axis]
                if x[axis] - radius < 0:
                    v[axis] = abs(v[axis])
                if x[axis] + radius > 10:
                    v[axis] = -abs(v[axis])
        for i in range(len(position)):
            for j in range(i):
                distance = math.dist(position[i], position[j])
                if distance >= 2 * radius:
                    continue
                w = [(a - b) / distance for a, b in zip(position[i], position[j], strict=True)]
                along = [sum(a * b for a, b in zip(w, velocity[k], strict=True)) for k in (i, j)]
                if along[0] >= along[1]:
                    continue  # they fly apart already
                collisions += 1
                # The formula for masses m1 = m2 = 1.
                new_j = 2 * along[0] / 2
                new_i = new_j + along[1] - along[0]
                for axis in range(2):
                    velocity[i][axis] += w[axis] * (new_i - along[0])
                    velocity[j][axis] += w[axis] * (new_j - along[1])
    return collisions


@pytest.mark.parametrize(("count", "radius"), [(1, 1.2), (2, 1.2), (3, 1.2), (6, 0.8)])
def test_frames_are_those_of_the_slow_simulation(count: int, radius: float) -> None:
    state = draw(40, count, radius)
    boxes = [(x.tolist(), v.tolist()) for x, v in zip(*state, strict=True)]
    collisions = 0
    for _ in range(30):
        state = next_frame(state, radius)
        for x, v in boxes:
            collisions += slow_frame(x, v, radius)
        np.testing.assert_allclose(state.position, [x for x, _ in boxes], atol=1e-9)
        np.testing.assert_allclose(state.velocity, [v for _, v in boxes], atol=1e-9)
    assert collisions > 50 or count == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((5.0, 0.25), (5.25, 0.25)),
        ((1.5, -0.25), (1.25, -0.25)),  # touches the wall, does not reach beyond
        ((1.5, -0.5), (1.0, 0.5)),  # reaches it in the second sub-step
        ((1.375, -0.5), (1.375, 0.5)),  # beyond it in the first, back in the second
        ((8.625, 0.5), (8.625, -0.5)),
        ((8.5, 0.5), (9.0, -0.5)),
        ((8.75, 0.0), (8.75, 0.0)),
        ((1.0, 0.25), (1.25, 0.25)),  # beyond it, but on the way back
    ],
)
def test_walls_by_hand(before: tuple[float, float], after: tuple[float, float]) -> None:
    for axis in range(2):
        position, velocity = np.full((2, 1, 1, 2), [[[[5.0, 5]]], [[[0.25, 0.25]]]])
        position[..., axis], velocity[..., axis] = before
        moved = next_frame(Balls(position, velocity), 1.25)
        expected = np.full((2, 2), [[5.25], [0.25]])
        expected[:, axis] = after
        assert np.stack(moved)[:, 0, 0].tolist() == expected.tolist()


def test_collisions_by_hand() -> None:
    # Head-on: they overlap after the first sub-step and then fly back.
    moved = next_frame(balls([[4, 5], [6, 5]], [[1, 0], [-1, 0]]), 0.75)
    assert moved.velocity[0].tolist() == [[-1, 0], [1, 0]]
    assert moved.position[0].tolist() == [[4, 5], [6, 5]]
    # One at rest takes over the whole velocity.
    moved = next_frame(balls([[4, 5], [6, 5]], [[1, 0], [0, 0]]), 0.8)
    assert moved.velocity[0].tolist() == [[0, 0], [1, 0]]
    # Along the diagonal between their centres only that component is exchanged.
    moved = next_frame(balls([[3, 3], [6, 6]], [[2, 0], [0, -2]]), 2.0)
    np.testing.assert_allclose(moved.velocity[0], [[0, -2], [2, 0]], atol=1e-12)
    # They pass each other without touching, at a distance of 1.5.
    moved = next_frame(balls([[4, 5], [6, 6.5]], [[4, 0], [-4, 0]]), 0.75)
    assert moved.velocity[0].tolist() == [[4, 0], [-4, 0]]


def test_balls_that_overlap_already_fly_apart() -> None:
    moved = next_frame(balls([[4, 5], [5, 5]], [[-0.25, 0], [0.25, 0]]), 1.0)
    assert moved.velocity[0].tolist() == [[-0.25, 0], [0.25, 0]]


def test_energy_is_always_conserved_and_momentum_between_walls() -> None:
    radius, state = 0.9, draw(200, 3, 0.9, 0.4)
    energy = (state.velocity**2).sum((1, 2))
    free = collided = 0
    for _ in range(60):
        after = next_frame(state, radius)
        np.testing.assert_allclose((after.velocity**2).sum((1, 2)), energy, rtol=1e-10)
        # Where no ball can come to a wall within the frame, whatever its share of the energy.
        inner = np.minimum(state.position, 10 - state.position).min((1, 2)) > radius + np.sqrt(energy)
        free += inner.sum()
        collided += (inner & (after.velocity != state.velocity).any((1, 2))).sum()
        momenta = (x.velocity[inner].sum(1) for x in (state, after))
        np.testing.assert_allclose(*momenta, atol=1e-12)
        state = after
    assert free > 100
    assert collided > 10


def test_one_ball_flies_straight_and_turns_at_walls() -> None:
    radius, state = 1.2, draw(200, 1, 1.2, 0.5)
    speed, turns = abs(state.velocity), 0
    for _ in range(100):
        after = next_frame(state, radius)
        np.testing.assert_array_equal(abs(after.velocity), speed)
        kept = after.velocity == state.velocity
        np.testing.assert_allclose(
            (after.position - state.position)[kept], state.velocity[kept], rtol=1e-9, atol=1e-12
        )
        # What turned did so at the wall that it flew to, and flies away from it.
        turned, middle = ~kept, np.sign(state.position - 5)
        assert (np.sign(state.velocity) == middle)[turned].all()
        assert (abs(after.position - 5) >= 5 - radius - speed / 2)[turned].all()
        assert (abs(after.position - 5) <= 5 - radius + speed / 2 + 1e-12).all()
        turns += turned.sum()
        state = after
    assert turns > 200


def test_without_collisions_balls_pass_through_each_other() -> None:
    together = draw(20, 3, 1.2)
    for _ in range(40):
        apart = [next_frame(Balls(*(x[:, i : i + 1] for x in together)), 1.2) for i in range(3)]
        together = next_frame(together, 1.2, collide=False)
        for i, alone in enumerate(apart):
            np.testing.assert_array_equal(together.position[:, i : i + 1], alone.position)


def test_missing_balls_change_nothing() -> None:
    state = draw(20, 2, 1.2)
    filled = Balls(*(np.concatenate([x, np.full((20, 2, 2), np.nan)], 1) for x in state))
    for _ in range(40):
        state, filled = next_frame(state, 1.2), next_frame(filled, 1.2)
        np.testing.assert_array_equal(filled.position[:, :2], state.position)
        assert np.isnan(filled.position[:, 2:]).all()


def test_places_are_uniform_inside_and_apart() -> None:
    rng = np.random.default_rng(0)
    for radius, low in ((1.2, 2.0), (3.0, 3.0)):
        one = np.stack([draw_positions(1, radius, rng)[0] for _ in range(1500)])
        for axis in range(2):
            uniform = stats.uniform(low, 10 - radius - low)
            assert stats.kstest(one[:, axis], uniform.cdf).pvalue > 1e-3
    pairs = np.stack([draw_positions(2, 1.2, rng) for _ in range(1500)])
    distances = np.sqrt(((pairs[:, 0] - pairs[:, 1]) ** 2).sum(-1))
    # Independent uniform places, of which those that are apart are kept.
    free = rng.uniform(2, 8.8, (2, 20_000, 2))
    expected = np.sqrt(((free[0] - free[1]) ** 2).sum(-1))
    assert distances.min() >= 2.4
    assert stats.ks_2samp(distances, expected[expected >= 2.4]).pvalue > 1e-3
    assert draw_positions(0, 1.2, rng).shape == (0, 2)


def test_too_many_balls_are_refused() -> None:
    with pytest.raises(ValueError, match="no place for 4 balls of radius 3 in 10000 boxes of side 10"):
        draw_positions(4, 3.0, np.random.default_rng(0))
