import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from whatwhere.models.components.attention import (
    MIN_SCALE,
    air_inverse_scale,
    clip_straight_through,
    coords_to_air,
    crop,
    interpolation_matrix,
    paste,
    sqair_squash,
)


def read_bilinear(image: Tensor, y: float, x: float) -> float:
    """Value of `image` (H, W) at a real position in pixels, zeros outside, written as a loop."""
    height, width = image.shape
    total = 0.0
    for row, column in itertools.product(range(height), range(width)):
        weight = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
        total += weight * float(image[row, column])
    return total


def slow_crop(image: Tensor, coords: Tensor, size: tuple[int, int]) -> Tensor:
    (height, width), (s_x, s_y, t_x, t_y) = image.shape, coords.tolist()
    glimpse = torch.zeros(size, dtype=image.dtype)
    for i, j in itertools.product(range(size[0]), range(size[1])):
        u, v = -1 + 2 * j / (size[1] - 1), -1 + 2 * i / (size[0] - 1)
        x, y = s_x * u + t_x, s_y * v + t_y
        glimpse[i, j] = read_bilinear(image, (y + 1) / 2 * (height - 1), (x + 1) / 2 * (width - 1))
    return glimpse


def slow_paste(glimpse: Tensor, coords: Tensor, size: tuple[int, int]) -> Tensor:
    (height, width), (s_x, s_y, t_x, t_y) = glimpse.shape, coords.tolist()
    image = torch.zeros(size, dtype=glimpse.dtype)
    for i, j in itertools.product(range(size[0]), range(size[1])):
        x, y = -1 + 2 * j / (size[1] - 1), -1 + 2 * i / (size[0] - 1)
        u, v = (x - t_x) / s_x, (y - t_y) / s_y
        image[i, j] = read_bilinear(glimpse, (v + 1) / 2 * (height - 1), (u + 1) / 2 * (width - 1))
    return image


def random_coords(*shape: int) -> Tensor:
    scale = 0.2 + 0.6 * torch.rand(*shape, 2, dtype=torch.float64)
    shift = 1.6 * torch.rand(*shape, 2, dtype=torch.float64) - 0.8
    return torch.cat([scale, shift], -1)


def test_crop_equals_a_loop_over_pixels():
    images = torch.rand(2, 3, 7, 9, dtype=torch.float64)
    coords = random_coords(4, 2)
    glimpses = crop(images, coords, (5, 6))
    assert glimpses.shape == (4, 2, 3, 5, 6)
    for particle, b, c in itertools.product(range(4), range(2), range(3)):
        expected = slow_crop(images[b, c], coords[particle, b], (5, 6))
        torch.testing.assert_close(glimpses[particle, b, c], expected, rtol=0, atol=1e-12)


def test_paste_equals_a_loop_over_pixels():
    glimpses = torch.rand(2, 3, 2, 5, 6, dtype=torch.float64)
    coords = random_coords(2, 3)
    images = paste(glimpses, coords, (7, 9))
    assert images.shape == (2, 3, 2, 7, 9)
    for a, b, c in itertools.product(range(2), range(3), range(2)):
        expected = slow_paste(glimpses[a, b, c], coords[a, b], (7, 9))
        torch.testing.assert_close(images[a, b, c], expected, rtol=0, atol=1e-12)


def aligned_coords(size: int, start: Tensor, length: int) -> Tensor:
    """The window over `size` whole pixels from `start` (x, y) of an image of side `length`."""
    scale = torch.full_like(start, (size - 1) / (length - 1))
    return torch.cat([scale, -1 + (2 * start + size - 1) / (length - 1)], -1)


@given(x=st.integers(0, 30), y=st.integers(0, 30))
def test_aligned_window_is_an_integer_slice(x: int, y: int):
    image = torch.rand(1, 1, 50, 50, dtype=torch.float64)
    glimpse = torch.rand(1, 1, 20, 20, dtype=torch.float64)
    coords = aligned_coords(20, torch.tensor([[x, y]], dtype=torch.float64), 50)
    read = crop(image, coords, (20, 20))
    drawn = paste(glimpse, coords, (50, 50))
    expected = torch.zeros_like(image)
    expected[..., y : y + 20, x : x + 20] = glimpse
    torch.testing.assert_close(read, image[..., y : y + 20, x : x + 20], rtol=0, atol=1e-12)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(crop(drawn, coords, (20, 20)), glimpse, rtol=0, atol=1e-12)
    torch.testing.assert_close((read * glimpse).sum(), (image * drawn).sum(), rtol=1e-12, atol=0)


def test_crop_reads_a_constant_as_a_constant_inside_and_zero_outside():
    images = torch.ones(1, 1, 11, 11, dtype=torch.float64)
    inside, outside = torch.tensor([[0.5, 0.5, 0.2, -0.2]]), torch.tensor([[0.1, 0.1, 3.0, 0.0]])
    assert torch.equal(
        crop(images, inside.double(), (4, 4)).round(decimals=12), torch.ones(1, 1, 4, 4).double()
    )
    assert torch.equal(crop(images, outside.double(), (4, 4)), torch.zeros(1, 1, 4, 4).double())


def test_single_pixel_glimpse_reads_the_centre():
    image = torch.rand(1, 1, 9, 9, dtype=torch.float64)
    centre = crop(image, torch.tensor([[0.3, 0.3, 0.0, 0.0]]).double(), (1, 1))
    torch.testing.assert_close(centre.squeeze(), image[0, 0, 4, 4])


def test_gradients_of_both_transforms():
    images = torch.rand(2, 1, 6, 7, dtype=torch.float64, requires_grad=True)
    glimpses = torch.rand(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    coords = random_coords(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, c: crop(i, c, (4, 5)), (images, coords))
    assert torch.autograd.gradcheck(lambda g, c: paste(g, c, (6, 7)), (glimpses, coords))


def test_interpolation_weights_sum_to_one_inside_and_fade_within_a_pixel_outside():
    rows = interpolation_matrix(torch.tensor([0.0, 1.25, 3.0, -0.25, 3.75, -1.0, 4.5]), 4).sum(-1)
    torch.testing.assert_close(rows, torch.tensor([1.0, 1.0, 1.0, 0.75, 0.25, 0.0, 0.0]))


def test_permuting_the_batch_permutes_the_glimpses():
    images, coords = torch.rand(3, 1, 8, 8), random_coords(2, 3).float()
    order = torch.tensor([2, 0, 1])
    expected = crop(images, coords, (5, 5))[:, order]
    torch.testing.assert_close(crop(images[order], coords[:, order], (5, 5)), expected)


def test_crop_and_paste_matrices_of_air_are_inverse():
    z_where = torch.tensor([2.5, 0.3, -0.4], dtype=torch.float64)
    s_x, s_y, t_x, t_y = air_inverse_scale(z_where).tolist()
    theta_crop = torch.tensor([[s_x, 0, t_x], [0, s_y, t_y], [0, 0, 1]], dtype=torch.float64)
    s, x, y = z_where.tolist()
    theta_paste = torch.tensor([[s, 0, x], [0, s, y], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(theta_crop @ theta_paste, torch.eye(3, dtype=torch.float64))


@given(s=st.floats(0.5, 20, width=32), x=st.floats(-5, 5, width=32), y=st.floats(-5, 5, width=32))
def test_air_coords_round_trip(s: float, x: float, y: float):
    z_where = torch.tensor([s, x, y], dtype=torch.float64)
    torch.testing.assert_close(coords_to_air(air_inverse_scale(z_where)), z_where)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-9])
def test_air_scale_near_or_below_zero_is_finite_and_has_a_gradient(scale: float):
    z_where = torch.tensor([scale, 0.5, -0.5], requires_grad=True)
    coords = air_inverse_scale(z_where)
    torch.testing.assert_close(coords[:2].detach(), torch.tensor([100.0, 100.0]))
    (gradient,) = torch.autograd.grad(coords.sum(), z_where)
    assert gradient.isfinite().all()
    assert gradient[0] != 0


def test_sqair_squash_is_sigmoid_and_tanh_with_a_straight_through_floor():
    z_where = torch.tensor([0.0, -50.0, 0.0, 100.0], requires_grad=True)
    coords = sqair_squash(z_where)
    torch.testing.assert_close(coords.detach(), torch.tensor([0.5, MIN_SCALE, 0.0, 1.0]))
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    clip_straight_through(x, 0.5).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(2))


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\).*\(3, 1, 8, 8\).*\(2, 4\)"):
        crop(torch.rand(3, 1, 8, 8), torch.rand(2, 4), (4, 4))
    with pytest.raises(ValueError, match=r"equal leading axes.*\(3, 1, 4, 4\).*\(3, 3\)"):
        paste(torch.rand(3, 1, 4, 4), torch.rand(3, 3), (8, 8))


@pytest.mark.parametrize("length", [1, 2, 7])
def test_interpolation_matrix_is_the_formula_for_every_pair(length: int):
    """Values and gradients, also on pixels, between them, just outside and far outside."""
    positions = torch.linspace(-3, length + 2, 41, dtype=torch.float64).view(1, 41).requires_grad_()
    matrix = interpolation_matrix(positions, length)
    pixels = torch.arange(length, dtype=torch.float64)
    expected = (1 - (positions.unsqueeze(-1) - pixels).abs()).relu()
    torch.testing.assert_close(matrix, expected, rtol=0, atol=0)
    weight = torch.randn_like(matrix)
    gradients = [torch.autograd.grad((m * weight).sum(), positions)[0] for m in (matrix, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-15)


def test_interpolation_at_a_position_that_is_no_number_is_no_number():
    matrix = interpolation_matrix(torch.tensor([float("nan"), float("inf"), 1.0]), 3)
    assert matrix[0].isnan().any()
    assert matrix[1:].tolist() == [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
