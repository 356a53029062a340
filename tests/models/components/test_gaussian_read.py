"""The Gaussian read against loops over pixels and closed forms."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from whatwhere.models.components.gaussian_read import (
    HART_EPSILON,
    RATM_EPSILON,
    gaussian_filters,
    gaussian_read,
)
from whatwhere.models.components.gaussian_windows import (
    GaussianWindow,
)

Size = tuple[int, int]

KTH: Size = (120, 160)
KITTI: Size = (187, 621)


def window(centre: list[float], stride: list[float], sigma: list[float]) -> GaussianWindow:
    """A window in double precision with one batch element; pairs are x, y."""
    return GaussianWindow(*(torch.tensor([field], dtype=torch.float64) for field in (centre, stride, sigma)))


def random_window(*shape: int) -> GaussianWindow:
    """Windows of images of about 7 pixels, some of them partly outside."""
    centre, stride, sigma = torch.rand(3, *shape, 2, dtype=torch.float64)
    return GaussianWindow(8 * centre - 1, 0.3 + 1.5 * stride, 0.35 + 1.2 * sigma)


def slow_weight(position: float, sigma: float, pixel: int, length: int, epsilon: float) -> float:
    weights = [math.exp(-((c - position) ** 2) / (2 * sigma**2)) for c in range(length)]
    return weights[pixel] / (sum(weights) + epsilon)


def slow_read(image: Tensor, fields: list[list[float]], size: Size, epsilon: float) -> Tensor:
    """One channel, sample by sample: every pixel has its own product of weights."""
    (g_x, g_y), (delta_x, delta_y), (sigma_x, sigma_y) = fields
    (height, width), glimpse = image.shape, torch.zeros(size, dtype=image.dtype)
    for r, s in itertools.product(range(size[0]), range(size[1])):
        y, x = g_y + delta_y * (r - (size[0] - 1) / 2), g_x + delta_x * (s - (size[1] - 1) / 2)
        across = [slow_weight(x, sigma_x, c, width, epsilon) for c in range(width)]
        for i in range(height):
            down = slow_weight(y, sigma_y, i, height, epsilon)
            for j in range(width):
                glimpse[r, s] += down * across[j] * image[i, j]
    return glimpse


@pytest.mark.parametrize("epsilon", [HART_EPSILON, RATM_EPSILON])
def test_read_equals_a_loop_over_pixels(epsilon: float):
    """Several windows of images of several channels, neither square."""
    images, windows = torch.rand(2, 3, 5, 7, dtype=torch.float64), random_window(2, 2)
    glimpses = gaussian_read(images, windows, (3, 4), epsilon)
    assert glimpses.shape == (2, 2, 3, 3, 4)
    for k, b, c in itertools.product(range(2), range(2), range(3)):
        fields = [field[k, b].tolist() for field in windows]
        expected = slow_read(images[b, c], fields, (3, 4), epsilon)
        torch.testing.assert_close(glimpses[k, b, c], expected, rtol=0, atol=1e-13)


def test_leading_axes_of_the_window_are_windows_of_the_same_image():
    images, windows = torch.rand(3, 2, 8, 9, dtype=torch.float64), random_window(2, 4, 3)
    glimpses = gaussian_read(images, windows, (5, 6))
    assert glimpses.shape == (2, 4, 3, 2, 5, 6)
    for i, j in itertools.product(range(2), range(4)):
        alone = gaussian_read(images, GaussianWindow(*(field[i, j] for field in windows)), (5, 6))
        torch.testing.assert_close(glimpses[i, j], alone, rtol=0, atol=1e-14)
    assert gaussian_read(images, random_window(0, 3), (5, 6)).shape == (0, 3, 2, 5, 6)


@pytest.mark.parametrize("sigma", [0.4, 0.6, 1.0, 3.0])
def test_a_constant_image_reads_as_that_constant(sigma: float):
    images = torch.full((1, 1, 30, 40), 0.7, dtype=torch.float64)
    glimpse = gaussian_read(images, window([19.3, 14.6], [1.7, 2.9], [sigma, sigma]), (9, 12))
    torch.testing.assert_close(glimpse, torch.full_like(glimpse, 0.7), rtol=0, atol=1e-7)


def test_epsilon_takes_its_share_of_a_constant():
    """At a pixel the weights sum to `1 + 2 sum_n exp(-n^2 / 2 sigma^2)`."""
    total = 1 + 2 * sum(math.exp(-(n**2) / 0.72) for n in range(1, 10))
    images = torch.ones(1, 1, 21, 21, dtype=torch.float64)
    glimpse = gaussian_read(images, window([10, 10], [1, 1], [0.6, 0.6]), (1, 1), RATM_EPSILON)
    assert glimpse.item() == pytest.approx((total / (total + RATM_EPSILON)) ** 2, abs=1e-14)


@pytest.mark.parametrize("stride", [1, 2])
def test_narrow_filters_at_pixels_read_these_pixels(stride: int):
    images = torch.rand(1, 2, 12, 18, dtype=torch.float64)
    narrow = window([3 + 3.0 * stride, 2 + 1.5 * stride], [stride, stride], [1e-9, 0.1])
    crop = images[..., 2 : 2 + 4 * stride : stride, 3 : 3 + 7 * stride : stride]
    torch.testing.assert_close(gaussian_read(images, narrow, (4, 7)), crop, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("sigma", "bias"),
    [(0.3, 0.20), (0.405, 0.081), (0.5, 0.023), (0.6, 0.0037), (0.8, 2.6e-5), (1.0, 3.4e-8)],
)
def test_a_ramp_reads_as_the_positions_up_to_a_known_bias(sigma: float, bias: float):
    """By Poisson the weights sum to `S ~ 1 + 2 sum_n q^(n^2) cos(2 pi n x)`; the bias is `sigma^2 S' / S`."""
    positions = torch.linspace(19.5, 20.5, 101, dtype=torch.float64)
    ones = torch.ones_like(positions)
    ramp = torch.arange(41, dtype=torch.float64)
    read = (gaussian_filters(positions, ones, sigma * ones, 1, 41, 1e-300) @ ramp).squeeze(-1)
    n = torch.arange(1, 12, dtype=torch.float64)
    terms, angles = (-2 * (math.pi * sigma * n) ** 2).exp(), 2 * math.pi * n * positions[:, None]
    slope = -4 * math.pi * (n * terms * angles.sin()).sum(-1)
    expected = sigma**2 * slope / (1 + 2 * (terms * angles.cos()).sum(-1))
    torch.testing.assert_close(read - positions, expected, rtol=0, atol=2e-14)
    assert expected.abs().max().item() == pytest.approx(bias, rel=0.03)


def test_no_weight_has_nearly_underflown():
    """Processors are slow with numbers between 0 and the least normal one, 1.2e-38; the others stay."""
    position = torch.arange(-8.0, 72.0, 0.25)
    weights = gaussian_filters(position, torch.ones(()), torch.tensor(0.4), 1, 64).squeeze(-2)
    k = (-0.5 * ((position.double()[:, None] - torch.arange(64)) / 0.4).square()).exp()
    expected = k / (k.sum(-1, keepdim=True) + HART_EPSILON)
    torch.testing.assert_close(weights.double(), expected, rtol=1e-4, atol=1e-22)
    assert ((weights == 0) | (weights > 1e-31)).all()
    assert (weights[expected > 1e-21] > 0).all()
    assert expected[(expected > 0) & (expected < 1.2e-38)].any()


def test_columns_are_x_and_rows_are_y():
    ramp = torch.arange(40, dtype=torch.float64)
    grid = window([18.0, 11.0], [2.0, 1.0], [1.0, 1.0])
    columns = gaussian_read(ramp.expand(1, 1, 30, 40), grid, (5, 7))
    torch.testing.assert_close(columns[0, 0, 2], 18 + 2 * torch.arange(-3.0, 4).double(), rtol=0, atol=1e-6)
    rows = gaussian_read(ramp[:30, None].expand(1, 1, 30, 40), grid, (5, 7))
    torch.testing.assert_close(rows[0, 0, :, 3], 11 + torch.arange(-2.0, 3).double(), rtol=0, atol=1e-6)


def test_mirrors():
    """The mirrored window of the mirrored image, and a negative stride, mirror the glimpse."""
    images = torch.rand(1, 2, 9, 11, dtype=torch.float64)
    g, delta, sigma = window([4.3, 3.1], [1.3, 0.8], [0.7, 0.5])
    glimpse = gaussian_read(images, GaussianWindow(g, delta, sigma), (4, 6))
    mirrored = GaussianWindow(torch.tensor([[10.0, 8.0]]) - g, delta, sigma)
    torch.testing.assert_close(gaussian_read(images.flip(-1, -2), mirrored, (4, 6)).flip(-1, -2), glimpse)
    torch.testing.assert_close(
        gaussian_read(images, GaussianWindow(g, -delta, sigma), (4, 6)).flip(-1, -2), glimpse
    )


@given(x=st.integers(-4, 4), y=st.integers(-4, 4))
def test_shifting_image_and_window_by_whole_pixels_changes_nothing(x: int, y: int):
    image = torch.zeros(1, 1, 40, 40, dtype=torch.float64)
    image[..., 10:30, 10:30] = torch.rand(20, 20)
    g, delta, sigma = window([19.2, 20.7], [1.4, 0.6], [0.8, 0.45])
    expected = gaussian_read(image, GaussianWindow(g, delta, sigma), (6, 5))
    moved = GaussianWindow(g + torch.tensor([x, y]), delta, sigma)
    read = gaussian_read(image.roll((y, x), (-2, -1)), moved, (6, 5))
    torch.testing.assert_close(read, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("epsilon", [HART_EPSILON, RATM_EPSILON])
def test_gradients_are_exact(epsilon: float):
    images = torch.rand(2, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    fields = [field.requires_grad_() for field in random_window(2, 2)]
    assert torch.autograd.gradcheck(
        lambda x, *w: gaussian_read(x, GaussianWindow(*w), (3, 4), epsilon), (images, *fields)
    )


def test_gradients_through_frames_of_integers_are_exact_twice():
    frames = torch.randint(0, 256, (2, 2, 4, 6), dtype=torch.uint8)
    fields = [field.requires_grad_() for field in random_window(2)]

    def read(*fields: Tensor) -> Tensor:
        return gaussian_read(frames, GaussianWindow(*fields), (2, 3))

    assert torch.autograd.gradcheck(read, fields)
    assert torch.autograd.gradgradcheck(read, fields)


def test_integers_read_as_fractions_of_255():
    frames = torch.randint(0, 256, (2, 3, 9, 12), dtype=torch.uint8)
    fields, weight = [field.requires_grad_() for field in random_window(2, 2)], torch.rand(4, 5).double()
    results = []
    for images in (frames, frames.double() / 255):
        glimpses = gaussian_read(images, GaussianWindow(*fields), (4, 5))
        results.append((glimpses, *torch.autograd.grad((glimpses * weight).sum(), fields)))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)
    white = torch.full((1, 1, 9, 9), 255, dtype=torch.uint8)
    assert gaussian_read(white, window([4, 4], [1, 1], [1, 1]), (3, 3)).max() <= 1


def test_reading_a_frame_of_a_video_keeps_no_copy_of_it():
    video = torch.randint(0, 256, (2, 4, 3, 60, 80), dtype=torch.uint8)
    fields = [field.float().requires_grad_() for field in random_window(2)]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        gaussian_read(video[:, 1], GaussianWindow(*fields), (5, 6))
    frames = [x for x in kept if x.numel() >= video[:, 1].numel()]
    assert [x.dtype for x in frames] == [torch.uint8]
    assert frames[0].untyped_storage().data_ptr() == video.untyped_storage().data_ptr()


FRAME: Size = (150, 190)
"""Large enough for a part of it to be cut out, as are its windows below to be small."""


def windows_of_a_frame(*shape: int, scale: tuple[float, float] = (1.0, 1.0)) -> GaussianWindow:
    """Windows with strides of 3 pixels at most, on `FRAME`, beside it and across its borders."""
    centre, stride, sigma = torch.rand(3, *shape, 2, dtype=torch.float64)
    centre = (1.4 * centre - 0.2) * torch.tensor([FRAME[1], FRAME[0]])
    scales = torch.tensor(scale, dtype=torch.float64)
    fields = centre, scales * (6 * stride - 3), scales * (0.3 + 1.5 * sigma)
    return GaussianWindow(*(field.requires_grad_() for field in fields))


def whole_read(images: Tensor, grid: GaussianWindow, size: Size, epsilon: float) -> Tensor:
    """The product with filters over all pixels."""
    (x, y), (height, width) = grid.axes(), images.shape[-2:]
    rows = gaussian_filters(*y, size[0], height, epsilon)
    columns = gaussian_filters(*x, size[1], width, epsilon)
    return torch.einsum("...bri,bcij,...bsj->...bcrs", rows, images, columns)


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 5), (0, 5)])
@pytest.mark.parametrize("epsilon", [HART_EPSILON, RATM_EPSILON, 1e-300])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_reading_what_the_windows_reach_is_reading_all(
    shape: tuple[int, ...], epsilon: float, dtype: torch.dtype
):
    frames = torch.randint(0, 256, (shape[-1], 2, *FRAME), dtype=torch.uint8)
    pixels = frames.double() / 255
    frames = frames if dtype == torch.uint8 else pixels
    # Some windows reach everything, or all of an axis.
    for scale in ((1.0, 1.0), (0.01, 0.01), (20.0, 20.0), (30.0, 0.1), (0.1, 30.0)):
        grid = windows_of_a_frame(*shape, scale=scale)
        glimpses = gaussian_read(frames, grid, (3, 9), epsilon)
        expected = whole_read(pixels, grid, (3, 9), epsilon)
        weight = torch.randn_like(glimpses)
        torch.testing.assert_close(glimpses, expected, rtol=0, atol=1e-11)
        gradients = (torch.autograd.grad((x * weight).sum(), list(grid)) for x in (glimpses, expected))
        torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)


def test_a_window_beside_the_image_reaches_it_as_far_as_epsilon_lets_it():
    """Ten sigmas from the first pixel the second weighs `exp(-(13^2 - 12^2) / 2 sigma^2)` of it."""
    frames = torch.rand(1, 1, *FRAME, dtype=torch.float64)
    glimpse = gaussian_read(frames, window([-12, 70], [0, 0], [1.2, 0.1]), (1, 1), 1e-300)
    second = math.exp(-25 / (2 * 1.2**2))
    expected = (frames[0, 0, 70, 0] + second * frames[0, 0, 70, 1]) / (1 + second)
    assert glimpse.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_point_a_little_before_a_pixel_reaches_it():
    frames = torch.rand(1, 1, *FRAME, dtype=torch.float64)
    glimpse = gaussian_read(frames, window([99.9999, 69.9999], [0, 0], [0, 0]), (1, 1))
    assert glimpse.item() == pytest.approx(frames[0, 0, 70, 100].item(), abs=1e-6)


def test_an_endless_window_reads_the_mean():
    frames = torch.rand(1, 1, *FRAME, dtype=torch.float64)
    glimpse = gaussian_read(frames, window([9, 9], [1, 1], [1e30, 1e30]), (2, 2))
    torch.testing.assert_close(glimpse, frames.mean().expand_as(glimpse))


def test_pixels_out_of_reach_are_not_looked_at():
    """They are not even numbers. The windows of an image share one part, and all parts are as large."""
    frames = torch.full((2, 3, 300, 400), math.nan, dtype=torch.float64)
    centre = torch.tensor([[[40.0, 30.0], [399.0, 20.0]], [[60.0, 50.0], [390.0, 60.0]]]).double()
    fields = centre, torch.full_like(centre, 2.0), torch.full_like(centre, 0.7)
    grid = GaussianWindow(*(field.requires_grad_() for field in fields))
    frames[0, :, 15:85, 25:75] = 0.5
    frames[1, :, 5:75, 350:] = 0.5
    glimpses = gaussian_read(frames, grid, (5, 6))
    torch.testing.assert_close(glimpses[:, 0], torch.full_like(glimpses[:, 0], 0.5), rtol=0, atol=1e-7)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(glimpses.sum(), list(grid)))
    frames.requires_grad_()
    assert gaussian_read(frames, grid, (5, 6)).isnan().any()


def test_the_part_that_is_read_is_not_kept():
    video = torch.randint(0, 256, (2, 4, 3, 300, 400), dtype=torch.uint8)
    centre = torch.tensor([[200.0, 100.0], [300.0, 200.0]])
    fields = [field.requires_grad_() for field in (centre, torch.full((2, 2), 20.0), torch.full((2, 2), 7.0))]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        gaussian_read(video[:, 1], GaussianWindow(*fields), (5, 6))
    (frames,) = (x for x in kept if x.dtype == torch.uint8)
    assert frames.data_ptr() == video[:, 1].data_ptr()
    part = 2 * 3 * 80 * 100  # at least: what lies between the first and the last samples
    assert all(x.numel() < part / 2 for x in kept if x is not frames)


def test_second_derivatives_of_a_part_are_exact():
    frames = torch.randint(0, 256, (2, 1, *FRAME), dtype=torch.uint8)
    fields = [torch.tensor([x, y]).double() for x, y in (((44.0, 1.3), (120.0, 88.2)), ((1.0, -2.0),) * 2)]
    fields += [torch.full((2, 2), 0.8).double()]

    def read(*fields: Tensor) -> Tensor:
        return gaussian_read(frames, GaussianWindow(*fields), (2, 3))

    assert torch.autograd.gradgradcheck(read, [field.requires_grad_() for field in fields])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_read_serves_other_windows():
    frames = torch.randint(0, 256, (2, 1, *FRAME), dtype=torch.uint8)
    first, second = (tuple(x.detach() for x in windows_of_a_frame(2)) for _ in range(2))
    traced = torch.jit.trace(lambda *fields: gaussian_read(frames, GaussianWindow(*fields), (4, 5)), first)
    expected = gaussian_read(frames, GaussianWindow(*second), (4, 5))
    torch.testing.assert_close(traced(*second), expected, rtol=0, atol=1e-12)


def test_samples_outside_repeat_the_border_and_then_fade():
    distances = torch.tensor([0.6, 1.8, 3.0, 3.5, 4.0, 5.0], dtype=torch.float64)
    for positions, nearest in ((-distances, 0), (19 + distances, 19)):
        ones = torch.ones_like(positions)
        filters = gaussian_filters(positions, ones, 0.6 * ones, 1, 20, HART_EPSILON).squeeze(-2)
        sums = torch.tensor([1, 1, 0.997, 0.803, 0.022, 8e-8], dtype=torch.float64)
        torch.testing.assert_close(filters.sum(-1), sums, rtol=0.08, atol=5e-4)
        assert (filters[1:3, nearest] > 0.99).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("shape", [(6, 7), FRAME])
def test_every_finite_window_has_finite_values_and_gradients(dtype: torch.dtype, integers: bool, shape: Size):
    images = (
        torch.full((1, 1, *shape), 255, dtype=torch.uint8) if integers else torch.ones(1, 1, *shape).to(dtype)
    )
    centres, strides = (0.0, 2.5, -60.0, 1e6, -1e20), (0.0, -1.0, 1e-30, 1e6)
    for values in itertools.product(centres, strides, (-5.0, 0.0, 1e-30, 0.4, 1e6)):
        fields = [torch.full((1, 2), value, dtype=dtype, requires_grad=True) for value in values]
        glimpse = gaussian_read(images, GaussianWindow(*fields), (3, 4))
        for gradient in torch.autograd.grad(glimpse.square().sum(), fields):
            assert gradient.isfinite().all(), values
        assert (glimpse >= 0).all()
        assert (glimpse <= 1 + 1e-6).all()
        centre, stride, sigma = values
        if abs(centre) > 50 and sigma < 1 and abs(stride) <= 1:
            assert not glimpse.any(), values


def test_a_width_of_zero_can_grow_again():
    """The straight-through gradient is that at the smallest width: here a sample a little off its pixel."""
    images = torch.rand(1, 1, 9, 9, dtype=torch.float64)
    sigma = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    centre = torch.tensor([[4.0055, 4.0055]], dtype=torch.float64)
    gaussian_read(images, GaussianWindow(centre, torch.ones_like(centre), sigma), (1, 1)).sum().backward()
    assert (sigma.grad > 0).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_reads_in_single_precision_under_autocast_and_from_halves(dtype: torch.dtype):
    images = (200 * torch.rand(2, 1, 12, 14)).to(dtype)
    windows = GaussianWindow(*(field.float() for field in random_window(2)))
    expected = gaussian_read(images.double() / (255 if dtype == torch.uint8 else 1), windows, (5, 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        read = gaussian_read(images, windows, (5, 6))
    torch.testing.assert_close(read, expected, rtol=1e-5, atol=1e-6)
    half = GaussianWindow(*(field.bfloat16() for field in windows))
    rounded = GaussianWindow(*(field.float() for field in half))
    assert torch.equal(gaussian_read(images, half, (5, 6)), gaussian_read(images, rounded, (5, 6)))


def test_what_does_not_fit_is_refused():
    images, fitting = torch.rand(3, 1, 8, 8), random_window(3)
    with pytest.raises(ValueError, match=r"\(B, C, H, W\).*\(3, 1, 8, 8\).*\(2, 2\)"):
        gaussian_read(images, random_window(2), (4, 4))
    with pytest.raises(ValueError, match=r"but got \(1, 8, 8\)"):
        gaussian_read(images[0], fitting, (4, 4))
    with pytest.raises(ValueError, match=r"\[\(3, 2\), \(3, 2\), \(2,\)\]"):
        gaussian_read(images, fitting._replace(sigma=torch.ones(2)), (4, 4))
    with pytest.raises(ValueError, match=r"uint8, but got torch\.int64"):
        gaussian_read(images.long(), fitting, (4, 4))
