"""The template tracker on objects that move as told."""

import numpy as np
import pytest
import torch
from torch import Tensor

from whatwhere.models.template_tracker import TemplateTracker


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


def test_a_penalty_prefers_the_nearer_of_two_and_a_threshold_stays_where_nothing_is_alike():
    here, there = (10, 8), (16, 8)
    video = moving([here, here])
    other = moving([there, there])
    left, top = there
    video[1, :, top : top + 5, left : left + 7] = other[1, :, top : top + 5, left : left + 7]
    # The object's own place is noisy now, so that what is further away is more like it.
    video[1, :, 8:13, 10:16] += 0.3 * torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(0))
    first = torch.tensor([[10.0, 8.0, 7.0, 5.0]])
    free, near = (TemplateTracker(1.0, penalty)(video[None], first).boxes[0, 1] for penalty in (0.0, 0.5))
    assert free[:2].tolist() == list(there)
    assert near[:2].tolist() == list(here)
    gone = moving([here, (38, 28)])
    stays = TemplateTracker(1.0, threshold=0.9)(gone[None], first)
    assert stays.boxes[0, 1].tolist() == first[0].tolist()
    assert stays.scores[0, 1] < 0.9


@pytest.mark.parametrize("grey", [0.0, 0.3, 1.0])
def test_a_box_stays_where_nothing_is_seen(grey: float):
    """All places are alike in frames of one colour, as on the black ones that fill up a short clip."""
    video = torch.cat([moving([(10, 8)]), torch.full((5, 3, 30, 40), grey)])
    tracks = TemplateTracker()(video[None], torch.tensor([[10.0, 8.0, 7.0, 5.0]]))
    assert tracks.boxes[0].tolist() == [[10, 8, 7, 5]] * 6


@pytest.mark.parametrize("box", [(-500, -20, 510, 100), (35, 25, 900, 900), (-10, 29, 60, 800)])
def test_a_box_larger_than_the_frame_follows_what_it_shows(box: tuple[int, ...]):
    """Its template is as much of the frame as there is in it: of a still video it stays, of another moves."""
    still = moving([(10, 8)] * 3)
    first = torch.tensor([box], dtype=torch.float32)
    assert TemplateTracker()(still[None], first).boxes[0].tolist() == [list(box)] * 3
    shifted = torch.stack([still[0], still[0].roll((1, 2), (-2, -1))])
    whole = torch.tensor([[-10.0, -5.0, 60.0, 40.0]])
    tracks = TemplateTracker()(shifted[None], whole)
    assert tracks.boxes[0].tolist() == [[-10, -5, 60, 40], [-8, -4, 60, 40]]


@pytest.mark.parametrize("length", [1, 2])
def test_scores_have_one_type(length: int):
    video = moving([(10, 8)] * length)[None]
    assert TemplateTracker()(video, torch.tensor([[10.0, 8.0, 7.0, 5.0]])).scores.dtype == torch.float64
