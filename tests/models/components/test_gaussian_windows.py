"""Windows of the Gaussian read against hand calculations, round trips, and the widths that serve best."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from whatwhere.models.components.boxes import iou
from whatwhere.models.components.gaussian_read import (
    gaussian_read,
)
from whatwhere.models.components.gaussian_windows import (
    MIN_SIGMA,
    MIN_STRIDE,
    GaussianWindow,
    PolynomialSigma,
    boxes_to_window,
    hart_boxes,
    ratm_kth_parameters,
    ratm_kth_window,
    ratm_parameters,
    ratm_window,
    released_sigma,
    smooth_knee_sigma,
    window_to_boxes,
    window_within_image,
)

Size = tuple[int, int]

KTH: Size = (120, 160)
KITTI: Size = (187, 621)


def window(centre: list[float], stride: list[float], sigma: list[float]) -> GaussianWindow:
    """A window in double precision with one batch element; pairs are x, y."""
    return GaussianWindow(*(torch.tensor([field], dtype=torch.float64) for field in (centre, stride, sigma)))


lengths = st.floats(-5, 60)
positions = st.floats(-20, 60)


@given(left=positions, top=positions, width=lengths, height=lengths)
def test_boxes_round_trips(left: float, top: float, width: float, height: float):
    box = torch.tensor([left, top, width, height], dtype=torch.float64)
    grid = boxes_to_window(box, (7, 4), smooth_knee_sigma)
    torch.testing.assert_close(window_to_boxes(grid, (7, 4)), box, rtol=0, atol=1e-12)


def test_the_first_and_last_samples_lie_on_the_borders_of_the_box():
    """The box around pixels 3 .. 8 of x ends half a pixel before the one and after the other."""
    box = torch.tensor([3.0, 10.0, 6.0, 9.0], dtype=torch.float64)
    (g_x, g_y), (delta_x, delta_y), sigma = boxes_to_window(box, (4, 5), smooth_knee_sigma)
    assert (g_x - 2 * delta_x, g_x + 2 * delta_x) == (2.5, 8.5)
    assert (g_y - 1.5 * delta_y, g_y + 1.5 * delta_y) == (9.5, 18.5)
    assert (delta_x, delta_y) == (1.5, 3.0)
    torch.testing.assert_close(sigma, smooth_knee_sigma(torch.tensor([1.5, 3.0]).double()))


@pytest.mark.parametrize(("side", "box", "expected"), [(5, 4.8, (4 / 4.8) ** 2), (28, 28.0, (27 / 28) ** 2)])
def test_a_grid_of_stride_one_overlaps_its_object_as_published(side: int, box: float, expected: float):
    """RATM's ceilings: a ball of 4.8 pixels under 5 x 5 samples, and a digit under 28 x 28."""
    centre = 11 + (side - 1) / 2  # of the samples, and of the object, from the first pixel's centre
    grid = window([centre, centre], [1, 1], [0.5, 0.5])
    truth = torch.tensor([centre + 0.5 - box / 2, centre + 0.5 - box / 2, box, box], dtype=torch.float64)
    overlap = iou(window_to_boxes(grid, (side, side)), truth)
    assert overlap.item() == pytest.approx(expected, abs=1e-12)


def test_hart_boxes_by_hand():
    attention = torch.tensor([0.5, 0.25, 0.1, 0.2], dtype=torch.float64)
    expected = torch.tensor([310.5, 46.75, 62.0, 37.2], dtype=torch.float64)
    torch.testing.assert_close(hart_boxes(attention, KITTI), expected)


def test_ratm_window_by_hand():
    """100 x 60 pixels, 28 x 15 samples: fractions of the image between its borders, strides of the whole."""
    parameters = torch.tensor([0.0, 0.5, -0.5, 0.25, -0.8, 1.7], dtype=torch.float64)
    centre, stride, sigma = ratm_window(parameters, (60, 100), (15, 28))
    torch.testing.assert_close(centre, torch.tensor([49.5, 44.5]).double())
    torch.testing.assert_close(stride, torch.tensor([99 / 27 / 2, 59 / 14 / 4]).double())
    torch.testing.assert_close(sigma, torch.tensor([0.8, 1.7]).double())


def test_ratm_parameters_are_those_of_the_window():
    boxes = torch.tensor([[20.0, 30.0, 40.0, 25.0], [-5.0, 70.0, 60.0, 110.0]], dtype=torch.float64)
    grid = boxes_to_window(boxes, (15, 28), smooth_knee_sigma)
    again = ratm_window(ratm_parameters(grid, (60, 100), (15, 28)), (60, 100), (15, 28))
    for field, expected in zip(again, grid, strict=True):
        torch.testing.assert_close(field, expected)


def shrunk(boxes: Tensor, factor: float) -> Tensor:
    """Boxes of `1 / factor` of the size about the same centres."""
    corner, extent = boxes.split(2, -1)
    return torch.cat([corner + extent * (1 - 1 / factor) / 2, extent / factor], -1)


def test_ratm_kth_window_by_hand():
    box = torch.tensor([60.0, 20.0, 28.0, 84.0], dtype=torch.float64)
    parameters = ratm_kth_parameters(box, KTH, (28, 28))
    expected = torch.tensor([74 / 160, 62 / 120, 42 / 160, 126 / 120, 1.0, 3.0])
    torch.testing.assert_close(parameters, expected.double(), rtol=0, atol=1e-7)
    centre, stride, sigma = ratm_kth_window(-parameters * torch.tensor([-1, -1, 1, 1, 1, 1]), KTH, (28, 28))
    torch.testing.assert_close(centre, torch.tensor([73.5, 61.5]).double())
    torch.testing.assert_close(stride, torch.tensor([159 / 27 * 42 / 160, 119 / 27 * 126 / 120]).double())
    torch.testing.assert_close(sigma, torch.tensor([0.5, 1.5]).double())
    quirky = ratm_kth_window(parameters, KTH, (28, 28), released_quirks=True)
    expected = torch.tensor([5 * 42 / 160, 4 * 126 / 120]).double()
    torch.testing.assert_close(quirky.stride, expected)
    torch.testing.assert_close(quirky.centre, centre - expected)
    torch.testing.assert_close(quirky.sigma, sigma)


@pytest.mark.parametrize(("quirks", "expected"), [(False, 0.9855), (True, 0.7594)])
def test_overlap_of_ratms_perfect_window_on_kth(quirks: bool, expected: float):
    boxes = torch.tensor([[60.0, 20.0, 28.0, 84.0], [3.0, 10.0, 50.0, 100.0]], dtype=torch.float64)
    grid = ratm_kth_window(ratm_kth_parameters(boxes, KTH, (28, 28)), KTH, (28, 28), quirks)
    overlap = iou(shrunk(window_to_boxes(grid, (28, 28)), 1.5), boxes)
    torch.testing.assert_close(overlap, torch.full_like(overlap, expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("parameterise", [ratm_window, ratm_kth_window])
def test_ratm_windows_that_collapse_can_grow_again(parameterise):
    parameters = torch.tensor([0.2, 0.3, 1e-4, -1e-4, 1e-3, -1e-3], requires_grad=True)
    grid = parameterise(parameters, KTH, (28, 28))
    torch.testing.assert_close(grid.stride.detach(), torch.full((2,), MIN_STRIDE))
    torch.testing.assert_close(grid.sigma.detach(), torch.full((2,), MIN_SIGMA))
    (gradient,) = torch.autograd.grad(grid.stride.sum() + grid.sigma.sum(), parameters)
    assert gradient.sign().tolist() == [0, 0, 1, -1, 1, -1]


def test_windows_are_brought_back_into_the_image():
    """60 x 100 pixels, 15 x 28 samples: strides of at most 59 / 14 and 99 / 27."""
    fields = [[[-3.0, 61.0], [99.0, 20.0]], [[9.0, 1.0], [-9.0, -5.0]], [[0.5, 8.0], [4.0, 0.4]]]
    fields = [torch.tensor(field, dtype=torch.float64, requires_grad=True) for field in fields]
    centre, stride, sigma = window_within_image(GaussianWindow(*fields), (60, 100), (15, 28))
    across, down = 99 / 27, 59 / 14
    assert centre.tolist() == [[-0.5, 59.5], [99.0, 20.0]]
    torch.testing.assert_close(stride, torch.tensor([[across, 1.0], [-across, -down]]).double())
    torch.testing.assert_close(sigma, torch.tensor([[0.5, down], [across, 0.4]]).double())
    gradients = torch.autograd.grad((centre + 2 * stride + 3 * sigma).sum(), fields)
    assert [gradient.unique().item() for gradient in gradients] == [1, 2, 3]


OPTIMAL_SIGMA = {
    0.1: 0.403, 0.5: 0.411, 1.0: 0.412, 1.5: 0.551, 2.0: 0.714, 3.0: 1.069, 4.0: 1.425, 6.0: 2.138,
    8.0: 2.857, 10.0: 3.583, 12.0: 4.287, 24.0: 8.549,
}  # fmt: skip
"""By stride: widths that come nearest to bicubic resampling, found by a search at each stride."""


def test_smooth_knee_is_near_the_optimum():
    strides = torch.tensor([*OPTIMAL_SIGMA], dtype=torch.float64)
    optimum = torch.tensor([*OPTIMAL_SIGMA.values()], dtype=torch.float64)
    torch.testing.assert_close(smooth_knee_sigma(strides), optimum, rtol=0.023, atol=0)


def test_polynomial_is_near_the_optimum():
    sigma = PolynomialSigma()
    strides = torch.tensor([*OPTIMAL_SIGMA], dtype=torch.float64)
    optimum = torch.tensor([*OPTIMAL_SIGMA.values()], dtype=torch.float64)
    torch.testing.assert_close(sigma(strides[:-1]), optimum[:-1], rtol=0, atol=0.072)
    dense = torch.linspace(0.1, 12, 1001, dtype=torch.float64)
    assert (sigma(dense) - smooth_knee_sigma(dense)).abs().max() < 0.07
    assert (sigma(dense[dense > 0.5]).diff() > 0).all()
    assert sigma(torch.tensor([0.3]).double()).item() == 0.4


def test_polynomial_is_flat_outside_its_range():
    """Beyond the knee the rule is nearly a straight line, which any polynomial can be."""
    sigma = PolynomialSigma(degree=3, strides=(2.0, 4.0))
    ends = sigma(torch.tensor([-7.0, 2.0, 4.0, 99.0], dtype=torch.float64))
    assert ends[0] == ends[1] < ends[2] == ends[3]
    dense = torch.linspace(2, 4, 50, dtype=torch.float64)
    torch.testing.assert_close(sigma(dense), smooth_knee_sigma(dense), rtol=1e-3, atol=0)
    assert len(sigma.coefficients) == 4
    assert sigma(dense.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("stride", "y", "x"), [(1.0, 0.602, 0.912), (0.5, 0.607, 0.919), (3.0, 0.583, 0.884)]
)
def test_released_sigma_at_published_strides(stride: float, y: float, x: float):
    sigma = released_sigma(torch.tensor([stride, stride]))
    torch.testing.assert_close(sigma, torch.tensor([x, y]), rtol=0, atol=3e-3)


def test_released_sigma_knows_the_axes_apart_and_stays_positive():
    expected = torch.tensor([0.923 - 0.109 - 0.0036, 0.6122 + 0.001 - 0.02])
    torch.testing.assert_close(released_sigma(torch.tensor([10.0, 2.0])), expected)
    torch.testing.assert_close(released_sigma(torch.full((2,), 500.0)), torch.full((2,), MIN_SIGMA))


def test_reading_with_the_optimal_width_is_nearly_bicubic_shrinking():
    """Half the size, pixel for pixel the grid of `interpolate`, of an image of a few waves."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    image = (0.5 + 0.25 * (x / 7).sin() + 0.25 * (y / 5 + x / 11).cos()).double()[None, None]
    bicubic = torch.nn.functional.interpolate(image, scale_factor=0.5, mode="bicubic", antialias=True)
    stride = torch.full((1, 2), 2.0, dtype=torch.float64)
    grid = GaussianWindow(torch.tensor([[31.5, 23.5]]).double(), stride, smooth_knee_sigma(stride))
    read = gaussian_read(image, grid, (24, 32))
    assert (read - bicubic).square().mean() < 1e-3 * image.var()


@pytest.mark.parametrize("size", [(1, 5), (5, 1)])
def test_a_single_row_or_column_spans_no_box(size: Size):
    with pytest.raises(ValueError, match="at least 2 x 2"):
        boxes_to_window(torch.rand(4), size, smooth_knee_sigma)
