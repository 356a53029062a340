import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from whatwhere.inference.training import Annealed, Curriculum, ExponentialDecay, Linear, PiecewiseConstant
from whatwhere.inference.training.schedules import Constant, Cosine, TriggeredCurriculum, Warmup


def test_constant():
    assert [Constant(0.3)(step) for step in (0, 10**9)] == [0.3, 0.3]


def test_linear_is_constant_before_and_after_its_slope():
    linear = Linear(1.0, 3.0, begin=10, steps=4)
    assert [linear(step) for step in (0, 10, 11, 12, 14, 99)] == [1.0, 1.0, 1.5, 2.0, 3.0, 3.0]
    assert [Linear(1.0, 0.0)(step) for step in (0, 1)] == [1.0, 0.0]


def test_cosine_falls_from_start_to_end_and_stays():
    cosine = Cosine(100, start=2.0, end=0.5)
    assert cosine(0) == 2.0
    assert cosine(50) == pytest.approx(1.25)
    assert cosine(25) == pytest.approx(0.5 + 1.5 * (1 + math.sqrt(0.5)) / 2)
    assert cosine(100) == cosine(1000) == 0.5
    values = [cosine(step) for step in range(101)]
    assert np.all(np.diff(values) < 0)


def test_exponential_decay_multiplies_the_distance_to_its_end():
    decay = ExponentialDecay(0.5, every=10, start=3.0, end=1.0)
    assert [decay(step) for step in (0, 10, 20)] == pytest.approx([3.0, 2.0, 1.5])
    assert (decay(7) - 1.0) ** 2 == pytest.approx((decay(0) - 1.0) * (decay(14) - 1.0))


def test_a_run_of_one_step_has_parts_too():
    schedule = PiecewiseConstant.in_proportion(1, (4, 6, 10), 0.5)
    assert schedule.boundaries == (0, 0)
    assert [schedule(step) for step in (0, 1)] == [0.25, 0.25]


def test_piecewise_constant_changes_at_its_boundaries():
    piecewise = PiecewiseConstant((3, 5), (1.0, 0.5, 0.25))
    assert [piecewise(step) for step in range(7)] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_parts_of_sqair_are_400_000_and_a_million_of_two_million_steps():
    schedule = PiecewiseConstant.in_proportion(2_000_000, (4, 6, 10), 1 / 3)
    assert schedule.boundaries == (400_000, 1_000_000)
    rates = [1e-5 * schedule(step) for step in (0, 399_999, 400_000, 999_999, 1_000_000, 1_999_999)]
    assert rates == pytest.approx([1e-5, 1e-5, 1e-5 / 3, 1e-5 / 3, 1e-5 / 9, 1e-5 / 9])


def test_warmup_multiplies_another_schedule():
    warm = Warmup(4, PiecewiseConstant((2,), (1.0, 10.0)))
    assert [warm(step) for step in range(6)] == [0.25, 0.5, 7.5, 10.0, 10.0, 10.0]
    assert Warmup(4)(9) == 1.0


def test_curriculum_lengthens_by_one_frame_until_the_maximum():
    curriculum = Curriculum()
    steps = (0, 99_999, 100_000, 250_000, 699_999, 700_000, 5_000_000)
    assert [curriculum(step) for step in steps] == [3, 3, 4, 5, 9, 10, 10]
    assert Curriculum(2, 10, 4)(15) == 3


def test_annealed_writes_into_a_tensor():
    tensor = torch.zeros(2, 3)
    annealed = Annealed(tensor, lambda step: step / 4)
    annealed(3)
    assert torch.equal(tensor, torch.full((2, 3), 0.75))
    with pytest.raises(ValueError, match="must not be a parameter"):
        Annealed(torch.nn.Parameter(tensor), Constant())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(0), "`steps` must be positive, got 0"),
        (lambda: ExponentialDecay(1.5), r"`rate` must be in \(0, 1\], got 1.5"),
        (lambda: ExponentialDecay(0.5, every=0), "`every` must be positive"),
        (lambda: PiecewiseConstant((3,), (1.0,)), "got 1 and 1"),
        (lambda: PiecewiseConstant((3, 2), (1.0, 2.0, 3.0)), "must not decrease"),
        (lambda: PiecewiseConstant.in_proportion(10, (4, 0), 0.1), "`parts` must be positive"),
        (lambda: Warmup(0), "`steps` must be positive"),
        (lambda: Curriculum(5, 10, 3), "`start` must be at most `maximum` = 3, got 5"),
    ],
)
def test_arguments_are_validated(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda value: Constant(value),
        lambda value: Linear(value, 1.0),
        lambda value: Linear(0.0, value),
        lambda value: Cosine(10, end=value),
        lambda value: ExponentialDecay(0.5, start=value),
        lambda value: ExponentialDecay(value),
        lambda value: PiecewiseConstant((3,), (1.0, value)),
        lambda value: TriggeredCurriculum(thresholds=(0.7, value)),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_schedule_has_finite_values(make: Callable[[float], object], value: float):
    with pytest.raises(ValueError, match="`"):
        make(value)


def test_a_triggered_curriculum_waits_for_all_its_patience_and_no_longer():
    curriculum = TriggeredCurriculum(start=2, maximum=4, patience=10, thresholds=(0.7, 0.6))
    assert not curriculum.update(9, 1.0)
    assert not curriculum.update(10, 0.699)
    assert curriculum.update(10, 0.7)
    assert curriculum(10) == curriculum.length == 3
    assert not curriculum.update(19, 1.0)  # nine steps at this length
    assert not curriculum.update(20, 0.649)  # half way between the thresholds
    assert curriculum.update(20, 0.65)
    assert not curriculum.update(1000, 1.0)
    assert curriculum(1000) == 4
