from typing import NamedTuple

import pytest
import torch

from whatwhere.inference.evaluation import explained_shares, scored_tracks
from whatwhere.models.components import Contrast
from whatwhere.models.components.slots import TrackedSlots


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two objects that are there, of which one is half as bright in the image, and one that is not."""
    objects = torch.zeros(1, 3, 1, 10, 12)
    objects[:, 0, :, 1:4, 1:5] = 1
    objects[:, 1, :, 6:9, 2:6] = 1
    objects[:, 2, :, 2:5, 8:11] = 1
    image = objects[:, 0] + objects[:, 1] / 2
    boxes = torch.tensor([[[1.0, 1, 4, 3], [2, 6, 4, 3], [8, 2, 3, 3]]])
    return image, objects, boxes


def test_scores_are_shares_of_what_is_left_unexplained():
    image, objects, boxes = scene()
    shares = explained_shares(image, objects.sum(1), objects, boxes)
    # 1 - 0; 1 - (1/2)^2 / (1/2)^2 ; below zero
    torch.testing.assert_close(shares, torch.tensor([[1.0, 0.0, 0.0]]))
    better = image + objects[:, 1] / 4
    assert explained_shares(better, objects.sum(1), objects, boxes)[0, 1].item() == pytest.approx(1 - 1 / 9)


@pytest.mark.parametrize("channels", [1, 3])
def test_contrasts_are_added_to_what_is_behind_them(channels: int):
    """Of one object that is darker than the ground: as it is, half as dark, drawn as nothing."""
    image, objects, boxes = scene()
    darker = 0.4 * objects[:, :1].expand(-1, -1, channels, -1, -1)
    image = 0.5 - darker[:, 0]
    for share, expected in ((1.0, 1.0), (0.5, 0.75), (0.0, 0.0)):
        drawn = torch.cat([torch.zeros_like(darker), share * darker], dim=2)
        canvas = 0.5 - share * darker[:, 0]
        found = explained_shares(image, canvas, Contrast().added(drawn, channels), boxes[:, :1])
        assert found.item() == pytest.approx(expected, abs=1e-6)


def test_pixels_outside_of_a_box_do_not_count():
    image, objects, boxes = scene()
    image[..., 0, :] = 1
    assert explained_shares(image, objects.sum(1), objects, boxes)[0, 0].item() == 1


def test_an_object_that_others_explain_has_none():
    _, objects, boxes = scene()
    canvas = objects[:, 0].clone()
    twice = objects[:, [0, 0]]
    shares = explained_shares(objects[:, 0], canvas + objects[:, 0], twice, boxes[:, [0, 0]])
    assert shares.tolist() == [[0.0, 0.0]]


class Frame(NamedTuple):
    slots: TrackedSlots
    canvas: torch.Tensor


def test_tracks_have_boxes_and_scores_frame_by_frame():
    image, objects, boxes = scene()
    identity = torch.tensor([[4, 7, 9]])
    slots = TrackedSlots(torch.tensor([[1.0, 1, 0]]), *[torch.zeros(1, 3, 1)] * 3, identity)
    frames = [Frame(slots, objects[:, :2].sum(1))] * 2
    video = torch.stack([image, objects[:, :2].sum(1)], dim=1)
    tracks, scores = scored_tracks(frames, video, lambda slots: objects, lambda slots: boxes)
    assert tracks.boxes.shape == (1, 2, 3, 4)
    torch.testing.assert_close(tracks.boxes[0, 0, :2], boxes[0, :2])
    assert tracks.present[0].tolist() == [[True, True, False]] * 2
    assert tracks.identities[0, 1].tolist() == [4, 7, 9]
    assert scores[0, :, :2].tolist() == [[1.0, 0.0], [1.0, 1.0]]
