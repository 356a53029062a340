"""What SQAIR's z_where means, against its formula."""

import math
from dataclasses import replace

import pytest
import torch

from whatwhere.models.components.attention import sqair_squash
from whatwhere.models.components.windows import PerspectiveWindows, SquashedWindows


@pytest.mark.parametrize("reach", [1.0, 2.0])
def test_windows_are_sigmoid_sizes_and_tanh_shifts(reach: float):
    z_where = torch.randn(7, 4).double()
    coords = SquashedWindows(reach)(z_where)
    torch.testing.assert_close(coords[:, :2], 1 / (1 + (-z_where[:, :2]).exp()))
    torch.testing.assert_close(coords[:, 2:], reach * torch.tanh(z_where[:, 2:] / reach))


def test_the_published_reach_is_the_published_squashing():
    z_where = torch.randn(7, 4)
    assert torch.equal(SquashedWindows()(z_where), sqair_squash(z_where))


def test_a_reach_of_two_puts_windows_out_of_sight():
    size, shift = SquashedWindows(2.0)(torch.tensor([-0.5, -0.5, 1.85, -1.85])).split(2)
    assert (shift.abs() > 1 + size).all()


@pytest.mark.parametrize("unit", [(1.0, 1.0), (0.5, 0.3)])
@pytest.mark.parametrize("reach", [1.0, 2.0])
def test_inverse_and_slope(reach: float, unit: tuple[float, float]):
    windows = SquashedWindows(reach, unit)
    z_where = 3 * torch.rand(7, 4).double() - 1.5
    coords = windows(z_where)
    torch.testing.assert_close(windows.inverse(coords), z_where)
    derivative = torch.autograd.functional.jacobian(windows, z_where[0])
    torch.testing.assert_close(torch.diag(windows.slope(coords)[0]), derivative)


def test_places_measured_in_a_smaller_frame_are_so_many_pixels():
    """Near the middle a step of `z_where` moves a window by as many pixels in an image of any size."""
    small, large = SquashedWindows(2.0), SquashedWindows.measured_in((21, 31), (61, 201), 2.0)
    z_where = torch.tensor([-1.0, 0.5, 0.01, -0.02]).double()
    pixels = [
        windows(z_where) * torch.tensor([w - 1, h - 1, w - 1, h - 1])
        for windows, (h, w) in ((small, (21, 31)), (large, (61, 201)))
    ]
    torch.testing.assert_close(*pixels, rtol=1e-3, atol=0)


def test_a_shift_that_no_place_has_is_moved_within():
    assert SquashedWindows(1.0).inverse(torch.tensor([0.5, 0.5, 3.0, -3.0])).isfinite().all()


def test_sizes_end_at_their_limits_in_any_frame_and_perspective():
    limits = {"least": (0.2, 0.3), "most": (0.4, 0.6)}
    plain, seen = SquashedWindows(2.0, (0.5, 0.3)), {"horizon": -1.5, "row": 0.25}
    for windows, free in (
        (SquashedWindows(2.0, (0.5, 0.3), **limits), plain),
        (PerspectiveWindows(2.0, (0.5, 0.3), **limits, **seen), PerspectiveWindows(2.0, (0.5, 0.3), **seen)),
    ):
        z_where = torch.tensor([[-3.0, 4.0, 0.7, -1.0], [-1.0, 0.1, -0.2, 2.5]], dtype=torch.double)
        nearest = z_where.clone()
        nearest[0, :2] = torch.tensor([0.2, 0.6], dtype=torch.double).logit()
        torch.testing.assert_close(windows.within(z_where), nearest)
        torch.testing.assert_close(windows(z_where), free(nearest))
        torch.testing.assert_close(windows.inverse(free(z_where)), nearest)
        torch.testing.assert_close(windows.inverse(windows(z_where)), nearest)


def test_a_size_beyond_its_limits_has_no_gradient_and_one_within_them_has_that_of_its_slope():
    windows = SquashedWindows(unit=(0.5, 0.3), least=(0.2, 0.3), most=(0.4, 0.6))
    z_where = torch.tensor([-3.0, 0.1, 0.7, -1.0]).double()
    jacobian = torch.autograd.functional.jacobian(windows, z_where)
    slope = windows.slope(windows(z_where))
    torch.testing.assert_close(jacobian, torch.diag(slope * torch.tensor([0.0, 1, 1, 1])))
    assert slope[0] > 0  # by which alignment comes back


@pytest.mark.parametrize("limits", [{}, {"least": (0.1, 0.2), "most": (0.4, 0.5)}])
def test_a_window_is_at_most_so_much_wider_than_high(limits: dict[str, tuple[float, float]]):
    size = torch.tensor([[0.3, 0.3], [0.1, 0.3], [0.4, 0.3], [0.35, 0.5]], dtype=torch.double)
    nearest = torch.tensor([[0.24, 0.3], [0.1, 0.3], [0.24, 0.3], [0.35, 0.5]], dtype=torch.double)
    place = torch.tensor([[0.7, -1.0]], dtype=torch.double).expand(4, 2)
    for unit, horizon in ((1.0, None), (0.5, None), (0.5, -2.0)):
        free = SquashedWindows(2.0, (unit, 0.3))
        windows = replace(free, widest=0.8, **limits)
        if horizon is not None:
            free, windows = (PerspectiveWindows(**each.__dict__, horizon=horizon) for each in (free, windows))
        z_where, expected = (torch.cat([each.logit(), place], dim=-1) for each in (size, nearest))
        torch.testing.assert_close(windows(z_where), free(expected))
        torch.testing.assert_close(windows.within(z_where), expected)
        torch.testing.assert_close(windows.inverse(free(z_where)), expected)
        within = windows.within(z_where)
        assert torch.equal(windows.within(within), within)  # or it would drift, step by step


def test_a_window_that_is_as_wide_as_it_may_be_widens_as_it_grows():
    windows = SquashedWindows(widest=0.8)
    z_where = torch.tensor([2.0, -0.4, 0.7, -1.0]).double()
    jacobian = torch.autograd.functional.jacobian(windows, z_where)
    height = z_where[1].sigmoid()
    torch.testing.assert_close(jacobian[0], torch.tensor([0, 0.8, 0, 0]).double() * height * (1 - height))


@pytest.mark.parametrize("limits", [{"least": (0.2, 0.5), "most": (0.4, 0.5)}, {"most": (1.0, 1.1)}])
def test_limits_of_sizes_must_be_in_order(limits: dict[str, tuple[float, float]]):
    with pytest.raises(ValueError, match=r"`least` must be at least 0 and less than `most`, which is at mos"):
        SquashedWindows(**limits)


@pytest.mark.parametrize("height", [-104.0, 200.0, math.log(4)])
def test_gradients_are_finite_where_a_width_has_a_limit(height: float):
    """Also where the greatest width is all of the frame, here of heights from 0.8 on."""
    windows = SquashedWindows(widest=1.25)
    z_where = torch.tensor([20.0, height, 0.0, 0.0], requires_grad=True)
    for places in (windows(z_where), windows.within(z_where)):
        (gradient,) = torch.autograd.grad(places.sum(), z_where)
        assert places.isfinite().all()
        assert gradient.isfinite().all()


def test_some_width_must_be_allowed():
    with pytest.raises(ValueError, match=r"`widest` must be in \(0, inf\], got 0"):
        SquashedWindows(widest=0)


def test_a_reach_must_be_positive():
    with pytest.raises(ValueError, match=r"`reach` must be positive, got 0"):
        SquashedWindows(0.0)


def test_windows_grow_with_their_distance_below_the_horizon():
    windows = PerspectiveWindows(2.0, (0.5, 0.3), horizon=-1.5, row=0.25)
    z_where = torch.tensor([[0.3, -0.4, 0.7, y] for y in (-1.0, 0.25, 1.0, 2.5)]).double()
    coords, plain = windows(z_where), SquashedWindows(2.0, (0.5, 0.3))(z_where)
    torch.testing.assert_close(coords[:, 2:], plain[:, 2:])
    growth = (plain[:, 3:] + 1.5) / 1.75
    torch.testing.assert_close(coords[:, :2], plain[:, :2] * growth)
    torch.testing.assert_close(windows.inverse(coords), z_where)
    jacobian = torch.autograd.functional.jacobian(windows, z_where[0])
    torch.testing.assert_close(windows.slope(coords)[0], jacobian.diagonal())


def test_at_the_row_windows_are_as_without_perspective_and_they_grow_to_three_at_most():
    windows = PerspectiveWindows(horizon=-0.5, row=-0.25)
    height = torch.tensor([-0.9, -0.45, -0.25, 0.0, 0.9]).double()
    expected = torch.tensor([1 / 3, 1 / 3, 1.0, 2.0, 3.0]).double()
    torch.testing.assert_close(windows.growth(height), expected)


def test_the_horizon_must_be_above_the_row():
    with pytest.raises(ValueError, match=r"`horizon` must be above `row`, that is less, got 0.5 and 0.5"):
        PerspectiveWindows(horizon=0.5, row=0.5)
