"""Template matching against explicit sums of squares, place by place."""

import pytest
import torch
from torch import Tensor

from whatwhere.models.components.attention import crop, paste
from whatwhere.models.components.template_matching import fit, observe, sample_area, search

SIDE, GLIMPSE = 21, 7


def pixel_window(left: int, top: int) -> Tensor:
    """Coords of the window whose samples are the pixels from (left, top)."""
    middle = (GLIMPSE - 1) / 2
    step = 2 / (SIDE - 1)
    return torch.tensor([middle * step, middle * step, (left + middle) * step - 1, (top + middle) * step - 1])


def scene(rows: int = 3, channels: int = 2) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    image = torch.rand(rows, channels, SIDE, SIDE).double()
    return image, torch.rand(rows, channels, GLIMPSE, GLIMPSE).double()


def observed_alone(image: Tensor) -> Tensor:
    return observe(image, torch.zeros_like(image), hides=True)


@pytest.mark.parametrize("place", [(4, 9), (-3, 9), (17, 18), (-20, 0)])
def test_the_gain_is_the_squared_error_that_a_picture_takes_away(place: tuple[int, int]):
    """Inside, across the border, and outside."""
    image, template = scene()
    coords = pixel_window(*place).double().expand(3, 4)
    observed = observed_alone(image)
    area = sample_area(coords, observed, template)
    torch.testing.assert_close(area, torch.ones(3).double())
    found = fit(crop(observed, coords, (GLIMPSE, GLIMPSE)), template, area)
    pasted = paste(template, coords, (SIDE, SIDE))
    before, after = (x.square().flatten(1).sum(1) for x in (image, image - pasted))
    torch.testing.assert_close(found.gain, before - after, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.visible, pasted.square().flatten(1).sum(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.total, template.square().flatten(1).sum(1))


def test_what_others_draw_is_taken_away_and_hides():
    image, _ = scene(rows=1, channels=1)
    explained = torch.zeros_like(image)
    explained[..., :5] = 1
    explained[..., 5:8] = 0.25
    seen = observe(image, explained, hides=True)
    torch.testing.assert_close(seen[:, 1:, :, :5], torch.zeros_like(image[..., :5]))
    torch.testing.assert_close(seen[:, 1:, :, 5:8], torch.full_like(image[..., 5:8], 0.75))
    torch.testing.assert_close(seen[:, :1, :, 5:8], 0.75 * (image - 0.25)[..., 5:8].clamp(min=0))
    torch.testing.assert_close(seen[..., 8:], torch.cat([image, torch.ones_like(image)], 1)[..., 8:])
    assert (observe(image, explained, hides=False)[:, 1:] == 1).all()
    torch.testing.assert_close(observe(image, None, hides=True), observed_alone(image))


def test_the_search_equals_a_look_at_every_place():
    image, template = scene()
    observed, coords = (
        observed_alone(image),
        torch.stack([pixel_window(3, 4), pixel_window(-5, 10), torch.tensor([0.4, 0.25, 0.3, 0.6])]).double(),
    )
    margin = 3
    found = search(observed, template, coords, margin)
    assert found.gain.shape == (3, 2 * margin + 1, 2 * margin + 1)
    pitch = 2 * coords[:, :2] / (GLIMPSE - 1)
    for i, dy in enumerate(range(-margin, margin + 1)):
        for j, dx in enumerate(range(-margin, margin + 1)):
            moved = coords.clone()
            moved[:, 2:] += torch.tensor([dx, dy]).double() * pitch
            torch.testing.assert_close(torch.stack([found.x[:, j], found.y[:, i]], 1), moved[:, 2:])
            area = sample_area(moved, observed, template)
            expected = fit(crop(observed, moved, (GLIMPSE, GLIMPSE)), template, area).gain
            torch.testing.assert_close(found.gain[:, i, j], expected)


def test_a_pooled_search_sums_over_averages():
    image, _ = scene(rows=1, channels=1)
    template, coords = torch.rand(1, 1, 6, 6).double(), pixel_window(6, 5).double().unsqueeze(0)
    observed = observed_alone(image)
    found = search(observed, template, coords, margin=4, pool=2)
    assert found.gain.shape == (1, 5, 5)
    enlarged = coords * torch.tensor([13 / 5, 13 / 5, 1, 1]).double()
    region = crop(observed, enlarged, (14, 14))
    mean = [torch.nn.functional.avg_pool2d(x, 2)[0] for x in (region, template)]
    area = 4 * sample_area(coords, observed, template)
    for i in range(5):
        for j in range(5):
            seen = mean[0][:, i : i + 3, j : j + 3].unsqueeze(0)
            expected = fit(seen, mean[1].unsqueeze(0), area).gain
            torch.testing.assert_close(found.gain[:, i, j], expected)


def test_sizes_that_cannot_be_pooled_are_refused():
    image, template = scene()
    with pytest.raises(ValueError, match="multiples of `pool` 2"):
        search(observed_alone(image), template, torch.zeros(3, 4).double(), 4, pool=2)
