"""Normalised cross-correlation against loops over places, cells and channels."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from whatwhere.models.components.correlation import bands, deviations, normalised_cross_correlation


def slow_correlation(image: Tensor, template: Tensor, weights: Tensor) -> Tensor:
    channels, height, width = template.shape
    rows, columns = image.shape[1] - height + 1, image.shape[2] - width + 1
    weights = weights / weights.sum()
    scores = torch.zeros(rows, columns, dtype=torch.float64)
    for y in range(rows):
        for x in range(columns):
            product = energy = own = 0.0
            for c in range(channels):
                below, other = image[c, y : y + height, x : x + width], template[c]
                below, other = below - (weights * below).sum(), other - (weights * other).sum()
                product += float((weights * below * other).sum())
                energy += float((weights * below.square()).sum())
                own += float((weights * other.square()).sum())
            scores[y, x] = product / math.sqrt(energy * own) if energy * own > 1e-12 else 0.0
    return scores


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("channels", "size"), [(1, (3, 4)), (3, (5, 2)), (2, (1, 6)), (1, (9, 11)), (2, (9, 4))]
)
def test_correlation_equals_a_loop_over_places(channels: int, size: tuple[int, int], weighted: bool):
    image = torch.rand(channels, 9, 11, dtype=torch.float64)
    image[:, :4, :5] = 0.3  # flat places
    template = torch.rand(channels, *size, dtype=torch.float64)
    weights = torch.rand(size, dtype=torch.float64) if weighted else torch.ones(size, dtype=torch.float64)
    found = normalised_cross_correlation(image, template, weights if weighted else None)
    torch.testing.assert_close(found, slow_correlation(image, template, weights))


def test_leading_axes_are_broadcast():
    images, templates = torch.rand(4, 2, 8, 9), torch.rand(3, 1, 2, 3, 4)
    weights = torch.rand(4, 3, 4)
    found = normalised_cross_correlation(images, templates, weights)
    assert found.shape == (3, 4, 6, 6)
    for i in range(3):
        for j in range(4):
            expected = slow_correlation(*(x.double() for x in (images[j], templates[i, 0], weights[j])))
            torch.testing.assert_close(found[i, j].double(), expected, rtol=1e-4, atol=1e-5)


def test_deviations_by_bands_equal_a_loop_over_places():
    image = torch.rand(2, 3, 7, 8, dtype=torch.float64) - 0.5
    image[1, :, :3, :4] = 0.2  # a flat place
    down, across = (F.normalize(torch.rand(n, dtype=torch.float64), p=1, dim=0) for n in (3, 4))
    found = deviations(image, bands(down, 7)[None], bands(across, 8)[None])
    weights = down[:, None] * across
    assert found.shape == (2, 5, 5)
    assert found[1, 0, 0] == torch.inf
    for i, y, x in itertools.product(range(2), range(5), range(5)):
        below = image[i, :, y : y + 3, x : x + 4]
        mean = (weights * below).sum(dim=(-2, -1), keepdim=True)
        variance = (weights * (below - mean).square()).sum()
        if variance > 1e-5:
            torch.testing.assert_close(found[i, y, x], variance.sqrt())


def test_correlation_ignores_brightness_and_contrast():
    image = torch.rand(3, 12, 13, dtype=torch.float64)
    template = 0.2 + 0.5 * image[:, 4:8, 6:11]
    scores = normalised_cross_correlation(image, template)
    assert scores[4, 6].item() == pytest.approx(1)
    assert scores.argmax() == 4 * scores.shape[1] + 6
    assert normalised_cross_correlation(image, 1 - template)[4, 6].item() == pytest.approx(-1)
    assert not normalised_cross_correlation(image, torch.full((3, 4, 5), 0.7)).any()


def test_what_has_no_weight_does_not_matter():
    image, template = torch.rand(2, 7, 7), torch.rand(2, 3, 3)
    weights = torch.ones(3, 3)
    weights[0] = 0
    changed = template.clone()
    changed[:, 0] = torch.rand(2, 3)
    torch.testing.assert_close(
        normalised_cross_correlation(image, template, weights),
        normalised_cross_correlation(image, changed, weights),
    )


def test_templates_must_fit():
    with pytest.raises(ValueError, match="4 x 9 cells are larger than images of 8 x 8"):
        normalised_cross_correlation(torch.rand(1, 8, 8), torch.rand(1, 4, 9))


def test_nothing_is_read_from_the_device():
    found = normalised_cross_correlation(
        torch.rand(2, 3, 9, 9, device="meta"), torch.rand(2, 3, 4, 4, device="meta")
    )
    assert found.shape == (2, 6, 6)
