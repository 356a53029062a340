import math

import numpy as np
import pytest
import torch

from whatwhere.inference.evaluation import object_statistics, perspective_of

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
    assert found.shape == pytest.approx((0.4, 0.4, 0.4))
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


def plane(height: float, slope: float, count: int = 40) -> torch.Tensor:
    """Frames of 200 x 60 with an object each, of `height + slope y`, y of its middle in half frames."""
    video = torch.zeros(count, 1, 1, 200, 60)
    for frame, row in zip(video, np.linspace(50, 150, count), strict=True):
        half = (height + slope * (row / 100 - 1)) / 2
        frame[..., round(row - half) : round(row + half), 20:30] = 0.8
    return video


def test_on_a_plane_heights_tell_the_horizon() -> None:
    found = perspective_of(plane(40.0, 30.0, 60))
    assert found is not None
    assert found.height == pytest.approx(40, abs=0.6)
    assert found.slope == pytest.approx(30, rel=0.03)
    assert found.horizon == pytest.approx(-4 / 3, rel=0.03)
    assert found.row(55.0) == pytest.approx(0.5, abs=0.03)
    assert found.unexplained < 0.1


def test_the_deviation_is_that_of_logarithms_of_heights() -> None:
    rng = np.random.default_rng(0)
    frames = [
        plane(40 * factor, 30 * factor, 200)[n] for n, factor in enumerate(np.exp(rng.normal(0, 0.1, 200)))
    ]
    found = perspective_of(torch.stack(frames))
    assert found is not None
    assert found.deviation == pytest.approx(0.1, rel=0.2)


def test_pairs_and_halves_do_not_move_the_horizon() -> None:
    """Every fourth object is cut in half, every fifth has another one below."""
    video = plane(40.0, 30.0, 60)
    for number, frame in enumerate(video):
        rows = frame[0, 0, :, 25].nonzero()[:, 0]
        if number % 4 == 0:
            frame[..., rows[len(rows) // 2] :, :] = 0
        elif number % 5 == 0:
            frame[..., rows[-1] : rows[-1] + len(rows) // 2, 20:30] = 0.8
    found = perspective_of(video)
    assert found is not None
    assert found.horizon == pytest.approx(-4 / 3, rel=0.1)


@pytest.mark.parametrize(("height", "slope", "count"), [(40.0, 0.0, 60), (40.0, -30.0, 60), (40.0, 30.0, 25)])
def test_no_horizon_is_found_where_sizes_do_not_tell_one(height: float, slope: float, count: int) -> None:
    """Of one size; larger at the top; and too few objects to tell."""
    assert perspective_of(plane(height, slope, count)) is None


def test_what_is_cut_off_at_the_top_is_no_perspective() -> None:
    """There heights are twice the middles, whatever the objects are."""
    video = torch.zeros(60, 1, 1, 200, 60)
    for number, frame in enumerate(video):
        frame[..., : 20 + 2 * number, 20:30] = 0.8
    assert perspective_of(video) is None


def test_sizes_that_place_explains_in_part_only_are_no_perspective() -> None:
    """Two kinds of objects, one twice as high, on a plane that is seen nearly from above."""
    video = torch.cat([plane(30.0, 3.0, 60), plane(60.0, 6.0, 60)])
    assert perspective_of(video) is None


def test_objects_that_stay_in_a_few_rows_tell_no_perspective() -> None:
    """All are of 40 pixels and more, and their middles within 30."""
    video = plane(40.0, 30.0, 60)[20:40].repeat(2, 1, 1, 1, 1)
    assert perspective_of(video) is None
