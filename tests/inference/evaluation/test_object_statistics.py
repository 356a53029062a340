import math

import numpy as np
import pytest
import torch

from whatwhere.inference.evaluation import object_statistics

pytest.importorskip("scipy", reason="needs SciPy: pip install 'whatwhere[metrics]'")


def scene(specks: int = 0) -> torch.Tensor:
    """Four videos of two frames: an object of 6 x 4 and brightness 0.5 that moves by (3, 1); in two of them
    another one."""
    video = torch.zeros(4, 2, 1, 40, 50)
    rng = np.random.default_rng(0)
    for b in range(4):
        for t in range(2):
            video[b, t, 0, 10 + t : 16 + t, 5 + 3 * t : 9 + 3 * t] = 0.5
            if b < 2:
                video[b, t, 0, 25:31, 30:34] = 0.5
            for y, x in rng.integers([1, 36], [39, 49], (specks, 2)):
                video[b, t, 0, y, x] = 0.3
    return video


@pytest.mark.parametrize("specks", [0, 20])
def test_statistics_are_those_of_the_objects_drawn(specks: int) -> None:
    found = object_statistics(scene(specks))
    assert found.width == (4, 4, 4)
    assert found.height == (6, 6, 6)
    assert found.energy.median == pytest.approx(24 * 0.5**2)
    assert found.brightness == pytest.approx(0.5)
    assert (found.mean_count, found.most, found.empty, found.frames) == (1.5, 2, 0, 8)
    assert found.shift == 3
    if not specks:
        assert found.ink == pytest.approx(1.5 * 24 / 2000)


def test_of_colours_the_energy_is_that_of_all_channels() -> None:
    video = torch.zeros(1, 1, 3, 9, 9)
    video[..., 3:6, 3:6] = torch.tensor([0.2, 0.9, 0.4]).view(3, 1, 1)
    assert object_statistics(video).energy.median == pytest.approx(9 * (0.04 + 0.81 + 0.16))


def test_what_is_cut_off_at_the_border_has_no_size() -> None:
    video = torch.zeros(2, 1, 1, 30, 30)
    video[..., 10:16, 10:16] = 1
    video[..., 0:2, 20:26] = 1
    found = object_statistics(video)
    assert found.height == (6, 6, 6)
    assert found.mean_count == 2
    assert object_statistics(video[..., :12, 19:]).height == (2, 2, 2)  # unless everything is


def test_objects_that_touch_are_none_of_their_size() -> None:
    """Two of five regions are pairs side by side: sizes and energies are still those of one object."""
    video = torch.zeros(1, 1, 1, 60, 60)
    for x in (5, 20, 35):
        video[..., 5:15, x : x + 4] = 0.8
    for x in (5, 30):
        video[..., 30:40, x : x + 8] = 0.8
    found = object_statistics(video)
    assert (found.width, found.height) == ((4, 4, 4), (10, 10, 10))
    assert found.energy == pytest.approx((40 * 0.64,) * 3)
    assert found.mean_count == 5


def test_what_is_near_has_the_shape_of_what_is_far() -> None:
    video = torch.zeros(1, 1, 1, 60, 60)
    for x in (5, 20, 35):
        video[..., 5:15, x : x + 4] = 0.8
    video[..., 25:45, 10:18] = 0.8
    found = object_statistics(video)
    assert (found.width.high, found.height.high) == pytest.approx((4 + 0.85 * 4, 10 + 0.85 * 10))


def test_of_nothing_there_are_no_numbers() -> None:
    found = object_statistics(torch.zeros(2, 3, 1, 8, 8))
    assert math.isnan(found.brightness)
    assert math.isnan(found.width.median)
    assert (found.mean_count, found.most, found.empty, found.ink) == (0, 0, 1, 0)
