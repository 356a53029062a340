"""Gauss-Newton alignment against a dense least-squares solve, and against the truth."""

import numpy as np
import pytest
import torch
from torch import Tensor

from whatwhere.models.components.alignment import align, normal_equations
from whatwhere.models.components.attention import crop
from whatwhere.models.components.networks import LocScale
from whatwhere.models.components.template_matching import observe
from whatwhere.models.components.windows import SquashedWindows

SIDE, GLIMPSE, SCALE = 50, 20, 0.3
WINDOWS = SquashedWindows(2.0)


def blob(centre: Tensor, size: Tensor, side: int, channels: int = 1) -> Tensor:
    """A smooth, lopsided spot on a grid of [-1, 1], `(R, C, side, side)`."""
    grid = torch.linspace(-1, 1, side).double()
    x = (grid - centre[:, :1]) / size[:, :1]
    y = (grid - centre[:, 1:]) / size[:, 1:]
    spot = (
        -3 * (y.unsqueeze(-1) ** 2 + x.unsqueeze(-2) ** 2 - 0.9 * y.unsqueeze(-1) * x.unsqueeze(-2))
    ).exp()
    return spot.unsqueeze(1) * torch.linspace(1, 0.5, channels).double()[:, None, None]


def seen_at(coords: Tensor, channels: int = 1) -> tuple[Tensor, Tensor]:
    """An observation with the spot at these windows, and its picture."""
    image = blob(coords[:, 2:], coords[:, :2], SIDE, channels)
    origin = torch.zeros(len(coords), 2).double()
    template = blob(origin, torch.ones_like(origin), GLIMPSE, channels)
    return observe(image, torch.zeros_like(image), hides=True), template


def flat_prior(where: Tensor) -> LocScale:
    return LocScale(where, torch.full_like(where, 100.0))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_shift_is_recovered(channels: int):
    torch.manual_seed(0)
    truth = torch.cat([torch.full((6, 2), 0.4), torch.rand(6, 2) - 0.5], dim=-1).double()
    observed, template = seen_at(truth, channels)
    where = WINDOWS.inverse(truth)
    start = where + torch.tensor([0.0, 0.0, 0.08, -0.08]).double()  # two pixels
    prior = LocScale(start, torch.tensor([0.001, 0.001, 1.0, 1.0]).double().expand(6, 4))
    found = align(observed, template, start, prior, WINDOWS, SCALE, steps=6)
    pixels = (WINDOWS(found.where) - truth)[:, 2:] * (SIDE - 1) / 2
    assert pixels.abs().max() < 0.02


def test_sizes_are_recovered_where_the_prior_leaves_them_free():
    truth = torch.tensor([[0.45, 0.36, 0.1, -0.2]]).double()
    observed, template = seen_at(truth)
    start = WINDOWS.inverse(torch.tensor([[0.4, 0.4, 0.12, -0.18]]).double())
    found = align(observed, template, start, flat_prior(start), WINDOWS, SCALE, steps=10)
    torch.testing.assert_close(WINDOWS(found.where), truth, rtol=0, atol=3e-3)


def test_a_step_solves_the_stacked_least_squares_problem():
    """Residuals and prior as rows of one dense problem, by numpy."""
    torch.manual_seed(0)
    rows, size, count = 3, 4, 11
    jacobian, residual = torch.randn(rows, size, count).double(), torch.randn(rows, count).double()
    weight, precision = torch.rand(rows, count).double(), torch.rand(rows).double() + 0.5
    where, loc = torch.randn(2, rows, size).double()
    scale = torch.rand(rows, size).double() + 0.1
    equations = normal_equations(jacobian, weight * residual, weight, precision, where, LocScale(loc, scale))
    for r in range(rows):
        root = (precision[r] * weight[r]).sqrt()
        matrix = torch.cat([root[:, None] * jacobian[r].T, torch.diag(1 / scale[r])])
        target = torch.cat([-root * residual[r], (loc[r] - where[r]) / scale[r]])
        expected = np.linalg.lstsq(matrix.numpy(), target.numpy(), rcond=None)[0]
        np.testing.assert_allclose(equations.solve()[r].numpy(), expected)
        np.testing.assert_allclose(equations.matrix[r].numpy(), matrix.T.numpy() @ matrix.numpy())


def test_the_curvature_is_that_of_the_energy():
    """Second differences of the negative log-posterior, rendered anew at every place."""
    truth = torch.tensor([[0.4, 0.4, 0.15, -0.1]]).double()
    observed, template = seen_at(truth)
    where = WINDOWS.inverse(truth)
    prior = LocScale(where, torch.tensor([[0.05, 0.05, 0.02, 0.02]]).double())
    found = align(observed, template, where, prior, WINDOWS, SCALE, steps=0)

    def energy(z_where: Tensor) -> Tensor:
        coords = WINDOWS(z_where)
        error = observed[:, :1] - blob(coords[:, 2:], coords[:, :2], SIDE)
        return (
            error.square().sum() / (2 * SCALE**2) + ((z_where - prior.loc) / prior.scale).square().sum() / 2
        )

    expected = torch.autograd.functional.hessian(energy, where)[0, :, 0]
    torch.testing.assert_close(found.curvature[0], expected, rtol=0.06, atol=0.02 * expected.max().item())


def test_out_of_sight_the_prior_is_all_there_is():
    truth = torch.tensor([[0.3, 0.3, 1.8, 0.0]]).double()
    observed, template = seen_at(torch.tensor([[0.3, 0.3, -0.5, 0.0]]).double())
    where = WINDOWS.inverse(truth)
    prior = LocScale(where + 0.01, torch.full_like(where, 0.07))
    found = align(observed, template, where, prior, WINDOWS, SCALE, steps=2)
    torch.testing.assert_close(found.where, prior.loc)
    torch.testing.assert_close(found.curvature[0], torch.eye(4).double() / 0.07**2)


def test_samples_outside_the_image_do_not_count():
    """Half of the spot is outside: the place is still found, and known less surely."""
    truth = torch.tensor([[0.4, 0.4, 1.0, 0.0], [0.4, 0.4, 0.0, 0.0]]).double()
    observed, template = seen_at(truth)
    where = WINDOWS.inverse(truth)
    start = where + torch.tensor([0.0, 0.0, 0.03, 0.03]).double()
    prior = LocScale(start, torch.tensor([1e-3, 1e-3, 1.0, 1.0]).double().expand(2, 4))
    found = align(observed, template, start, prior, WINDOWS, SCALE, steps=8)
    assert ((WINDOWS(found.where) - truth)[:, 2:].abs() * (SIDE - 1) / 2).max() < 0.1
    slope = WINDOWS.slope(truth)[:, 2:]
    sharp = found.curvature.diagonal(dim1=1, dim2=2)[:, 2:] / slope.square()
    assert (sharp[0] < 0.8 * sharp[1]).all()


def test_what_would_be_larger_than_it_may_is_where_it_fits_best_then():
    """A picture that lies on one side of its window pulls it to the other, if the window is to grow."""
    windows = SquashedWindows(2.0, most=(0.25, 0.5))
    middle, sides = torch.tensor([[0.45, 0.1]]).double(), torch.tensor([[0.5, 0.8]]).double()
    size, shift = torch.tensor([[0.35, 0.3]]).double(), torch.tensor([[0.1, -0.05]]).double()
    image = blob(shift + size * middle, size * sides, SIDE)
    observed, template = observe(image, torch.zeros_like(image), hides=True), blob(middle, sides, GLIMPSE)
    start = windows.inverse(torch.tensor([[0.24, 0.3, 0.12, -0.05]]).double())
    found = windows(align(observed, template, start, flat_prior(start), windows, SCALE, steps=30).where)
    assert found[0, 0] == pytest.approx(0.25)

    def error(x: float) -> float:
        coords = torch.cat([found[:, :2], torch.tensor([[x]]).double(), found[:, 3:]], dim=-1)
        return float((crop(observed, coords, (GLIMPSE, GLIMPSE))[:, :1] - template).square().sum())

    best = min(np.linspace(-0.1, 0.3, 401), key=error)
    assert float(found[0, 2]) == pytest.approx(best, abs=0.01)


def test_what_is_wider_than_a_window_may_be_is_as_high_as_if_it_might():
    windows = SquashedWindows(2.0, widest=1.0)
    truth = torch.tensor([[0.4, 0.32, 0.1, -0.2]]).double()
    observed, template = seen_at(truth)
    start = windows.inverse(torch.tensor([[0.3, 0.3, 0.12, -0.18]]).double())
    found = windows(align(observed, template, start, flat_prior(start), windows, SCALE, steps=20).where)
    expected = torch.tensor([[0.32, 0.32, 0.1, -0.2]]).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.005)


def test_sizes_stay_within_their_limits_and_come_back_from_them():
    windows = SquashedWindows(2.0, least=(0.3, 0.3), most=(0.4, 0.5))
    truth = torch.tensor([[0.5, 0.36, 0.1, -0.2], [0.35, 0.45, -0.3, 0.1]]).double()
    observed, template = seen_at(truth)
    start = WINDOWS.inverse(torch.tensor([[0.35, 0.4, 0.12, -0.18], [0.9, 0.2, -0.3, 0.1]]).double())
    found = align(observed, template, start, flat_prior(start), windows, SCALE, steps=20)
    sizes = WINDOWS(found.where)[:, :2]
    expected = torch.tensor([[0.4, 0.36], [0.35, 0.45]]).double()
    torch.testing.assert_close(sizes, expected, rtol=0, atol=0.02)
    assert float(sizes[0, 0]) == pytest.approx(0.4)
