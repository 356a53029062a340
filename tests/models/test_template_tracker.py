"""The template tracker against loops over pixels, and on objects that move as told."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from whatwhere.models.template_tracker import TemplateTracker, normalised_cross_correlation


def slow_correlation(image: Tensor, template: Tensor) -> Tensor:
    channels, height, width = template.shape
    rows, columns = image.shape[1] - height + 1, image.shape[2] - width + 1
    scores = torch.zeros(rows, columns, dtype=torch.float64)
    for y in range(rows):
        for x in range(columns):
            product = energy = own = 0.0
            for c in range(channels):
                below = image[c, y : y + height, x : x + width].double()
                other = template[c].double()
                below, other = below - below.mean(), other - other.mean()
                product += float((below * other).sum())
                energy += float(below.square().sum())
                own += float(other.square().sum())
            scores[y, x] = product / math.sqrt(energy * own) if energy * own > 1e-9 else 0.0
    return scores


@pytest.mark.parametrize(("channels", "size"), [(1, (3, 4)), (3, (5, 2)), (2, (1, 6)), (1, (9, 11))])
def test_correlation_equals_a_loop_over_places(channels: int, size: tuple[int, int]):
    image = torch.rand(channels, 9, 11)
    image[:, :4, :5] = 0.3  # flat places
    template = torch.rand(channels, *size)
    torch.testing.assert_close(
        normalised_cross_correlation(image, template), slow_correlation(image, template)
    )


def test_correlation_ignores_brightness_and_contrast():
    image = torch.rand(3, 12, 13)
    template = 0.2 + 0.5 * image[:, 4:8, 6:11]
    scores = normalised_cross_correlation(image, template)
    assert scores[4, 6].item() == pytest.approx(1)
    assert scores.argmax() == 4 * scores.shape[1] + 6
    assert normalised_cross_correlation(image, 1 - template)[4, 6].item() == pytest.approx(-1)
    assert not normalised_cross_correlation(image, torch.full((3, 4, 5), 0.7)).any()


def moving(path: list[tuple[int, int]], channels: int = 3) -> Tensor:
    """A textured 7 x 5 object at places `(left, top)` over a textured ground of 30 x 40 pixels."""
    rng = np.random.default_rng(0)
    ground = 0.3 * rng.random((channels, 30 + 20, 40 + 20))
    thing = rng.random((channels, 5, 7))
    video = np.tile(ground[:, 10:40, 10:50], (len(path), 1, 1, 1))
    for frame, (left, top) in zip(video, path, strict=True):
        for y in range(5):
            for x in range(7):
                if 0 <= top + y < 30 and 0 <= left + x < 40:
                    frame[:, top + y, left + x] = thing[:, y, x]
    return torch.from_numpy(video).float()


def test_an_object_is_followed_pixel_by_pixel():
    path = [(10, 8), (12, 9), (15, 9), (17, 11), (17, 11), (16, 9)]
    video = moving(path)
    first = torch.tensor([[10.25, 7.75, 7.0, 5.0]])
    tracks = TemplateTracker()(video[None], first)
    expected = torch.tensor([[left + 0.25, top - 0.25, 7.0, 5.0] for left, top in path])
    torch.testing.assert_close(tracks.boxes[0], expected)
    torch.testing.assert_close(tracks.scores, torch.ones(1, 6, dtype=torch.float64), rtol=0, atol=1e-6)
    levels = (video * 255).round().to(torch.uint8)
    torch.testing.assert_close(TemplateTracker()(levels[None], first).boxes, tracks.boxes)


def test_videos_do_not_mix_and_sizes_may_differ():
    video = torch.stack([moving([(10, 8), (12, 9)]), moving([(20, 15), (18, 14)])])
    boxes = torch.tensor([[10.0, 8.0, 7.0, 5.0], [19.0, 14.0, 9.0, 7.0]])
    together = TemplateTracker()(video, boxes).boxes
    for i in range(2):
        torch.testing.assert_close(
            together[i : i + 1], TemplateTracker()(video[i : i + 1], boxes[i : i + 1]).boxes
        )
    assert together[:, 1, :2].tolist() == [[12, 9], [17, 13]]


def test_it_does_not_jump_further_than_it_may():
    video = moving([(5, 5), (25, 20)])
    first = torch.tensor([[5.0, 5.0, 7.0, 5.0]])
    near, far = (TemplateTracker(reach)(video[None], first).boxes[0, 1] for reach in (0.5, 5.0))
    assert far[:2].tolist() == [25, 20]
    assert (near[:2] - first[0, :2]).norm() <= 3.5


def test_an_object_may_begin_and_go_partly_outside():
    path = [(-2, -1), (-3, -2), (0, 0), (3, 1)]
    tracks = TemplateTracker()(moving(path)[None], torch.tensor([[-2.0, -1.0, 7.0, 5.0]]))
    assert tracks.boxes.isfinite().all()
    assert tracks.boxes[0, 0].tolist() == [-2, -1, 7, 5]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="reach"):
        TemplateTracker(0)
    with pytest.raises(ValueError, match="positive width"):
        TemplateTracker()(torch.rand(1, 2, 1, 9, 9), torch.tensor([[1.0, 1.0, 0.0, 3.0]]))
    huge = TemplateTracker()(torch.rand(1, 2, 1, 9, 9), torch.tensor([[-5.0, -5.0, 30.0, 30.0]]))
    assert huge.boxes.isfinite().all()
