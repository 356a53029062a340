import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from whatwhere.datasets import Motion, MotionState
from whatwhere.datasets.generated.trajectories import reflect


def state(position: float, velocity: float, acceleration: float) -> MotionState:
    return MotionState(*(np.array([x]) for x in (position, velocity, acceleration)))


def values(moved: MotionState) -> list[float]:
    return [float(x[0]) for x in moved]


@pytest.mark.parametrize(
    ("before", "noise", "after"),
    [
        ((20, 4, 1), 0.5, (24, 5, 1.5)),
        ((3, -5, 1), 0.5, (2, 4, -1.5)),  # reflected at 0: both signs change
        ((47, 8, 2), 0.25, (45, -10, -2.25)),  # reflected at 50
        ((5, -5, 1), 0, (0, -4, 1)),  # on the border is not beyond it
        ((45, 5, 1), 0, (50, 6, 1)),
        ((20, 9, 2), 0, (29, 10, 2)),  # clipped
        ((20, -9, -2), -2, (11, -10, -3)),
        ((47, 9, 3), 1, (44, -10, -3)),  # reflected, then clipped
    ],
)
def test_a_step_by_hand(before: tuple[float, ...], noise: float, after: tuple[float, float, float]) -> None:
    moved = Motion().step(state(*before), np.array([noise]), 50)
    assert values(moved) == pytest.approx(after)


@given(st.floats(-50, 50), st.floats(-9, 9), st.floats(0.1, 20))
def test_reflection_turns_round_as_often_as_it_takes(value: float, low: float, span: float) -> None:
    expected = value
    while not low <= expected <= low + span:
        expected = 2 * low - expected if expected < low else 2 * (low + span) - expected
    found = reflect(np.array([value]), low, np.array([low + span]))
    assert found[0] == pytest.approx(expected, abs=1e-9)
    assert reflect(np.array([value]), low, low)[0] == pytest.approx(low, abs=1e-11)


def test_axes_are_reflected_apart() -> None:
    before = MotionState(np.array([[1.0, 20.0]]), np.array([[-3.0, -3.0]]), np.array([[1.0, 1.0]]))
    moved = Motion().step(before, np.zeros((1, 2)), 50)
    assert moved.position.tolist() == [[2, 17]]
    assert moved.velocity.tolist() == [[2, -2]]
    assert moved.acceleration.tolist() == [[-1, 1]]


@given(st.integers(0, 2**32), st.integers(1, 120), st.floats(0, 30), st.floats(0, 9), st.floats(0, 4))
def test_nothing_ever_leaves_its_bounds(
    seed: int, size: int, speed: float, force: float, jitter: float
) -> None:
    motion, rng = Motion(speed, force, jitter), np.random.default_rng(seed)
    moving = motion.draw(20, size, rng)
    for noise in motion.draw_noise(20, 30, rng):
        moving = motion.step(moving, noise, size)
        assert 0 <= moving.position.min() <= moving.position.max() <= size
        assert abs(moving.velocity).max() <= speed
        assert abs(moving.acceleration).max() <= force


def test_the_first_state_is_uniform_and_noise_is_normal() -> None:
    motion, rng = Motion(5.0, 2.0, 0.3), np.random.default_rng(0)
    drawn = motion.draw(4000, 60, rng)
    for array, low, width in zip(drawn, (0, -5, -2), (60, 10, 4), strict=True):
        assert array.shape == (4000, 2)
        for axis in array.T:
            assert stats.kstest(axis, stats.uniform(low, width).cdf).pvalue > 1e-3
        assert abs(np.corrcoef(array.T)[0, 1]) < 0.06
    noise = motion.draw_noise(500, 4, rng)
    assert noise.shape == (4, 500, 2)
    assert stats.kstest(noise.ravel(), stats.norm(0, 0.3).cdf).pvalue > 1e-3


def test_a_trajectory_steps_before_the_first_frame_and_starts_at_its_place() -> None:
    motion, rng = Motion(jitter=0.5), np.random.default_rng(1)
    drawn, noise = motion.draw(6, 50, rng), motion.draw_noise(6, 12, rng)
    first = rng.uniform(0, 30, (6, 2))
    positions = motion.trajectory(first, drawn, noise, 50)
    assert positions.shape == (12, 6, 2)
    for digit in range(6):
        for axis in range(2):
            p, v, a = (float(x[digit, axis]) for x in drawn)
            for frame in range(12):
                p, v, a = p + v, v + a, a + noise[frame, digit, axis]
                if not 0 <= p <= 50:
                    p, v, a = (-p if p < 0 else 100 - p), -v, -a
                v, a = max(-10.0, min(v, 10.0)), max(-3.0, min(a, 3.0))
                p = first[digit, axis] if frame == 0 else p
                assert positions[frame, digit, axis] == pytest.approx(p, abs=1e-12)


def test_statistics_of_the_published_rules() -> None:
    """An independent simulation of the rules gave these for boxes of 20 x U{6..20} in frames of 50 x 50."""
    published = {
        "mean top": [15.0, 15.6, 17.4, 20.3, 23.5, 26.0, 27.4, 27.5, 26.3, 24.5],
        "mean visible": [1.00, 0.97, 0.88, 0.79, 0.73, 0.69, 0.66, 0.64, 0.65, 0.70],
        "invisible": [0, 0.001, 0.006, 0.013, 0.018, 0.020, 0.023, 0.024, 0.024, 0.019],
        "below a quarter": [0, 0.004, 0.04, 0.11, 0.15, 0.17, 0.19, 0.21, 0.20, 0.16],
        "mean speed": [7.8, 8.2, 8.7, 9.5, 10.2, 10.8, 11.4, 11.7, 12.0, 12.2],
        "axis at its cap": [0.08, 0.15, 0.23, 0.30, 0.38, 0.45, 0.53, 0.58, 0.63, 0.67],
    }
    tolerance = {"mean top": 0.25, "mean speed": 0.06}  # the others: 0.007
    digits, motion, rng = 60_000, Motion(), np.random.default_rng(0)
    box = np.stack([np.full(digits, 20), rng.integers(6, 21, digits)], axis=1)
    moving = motion.step(motion.draw(digits, 50, rng), motion.draw_noise(digits, 1, rng)[0], 50)
    moving = moving._replace(position=np.rint(rng.uniform(0, 50 - box)))
    found: dict[str, list[float]] = {name: [] for name in published}
    for frame in range(10):
        if frame:
            moving = motion.step(moving, motion.draw_noise(digits, 1, rng)[0], 50)
        visible = np.clip((50 - np.rint(moving.position)) / box, 0, 1).prod(-1)
        found["mean top"].append(moving.position[:, 0].mean())
        found["mean visible"].append(visible.mean())
        found["invisible"].append((visible == 0).mean())
        found["below a quarter"].append((visible < 0.25).mean())
        found["mean speed"].append(np.linalg.norm(moving.velocity, axis=1).mean())
        found["axis at its cap"].append((abs(moving.velocity) == 10).mean())
    for name, expected in published.items():
        np.testing.assert_allclose(found[name], expected, atol=tolerance.get(name, 0.007), err_msg=name)


@pytest.mark.parametrize("name", ["max_speed", "max_acceleration", "jitter"])
@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_impossible_motions_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must not be negative.*, got"):
        Motion(**{name: value})
