from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from whatwhere.examples.parts.action_data import ActionDataConfig
from whatwhere.examples.parts.silhouette_floor import held_out_floor, neighbours_right
from whatwhere.inference.evaluation import nearest_neighbours, silhouette_features


def walk(left: int, step: int, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """A square that moves to the right."""
    video, boxes = torch.zeros(4, 60, 90), torch.zeros(4, 4)
    for t in range(4):
        x = left + step * t
        video[t, 20 : 20 + size, x : x + size] = 1
        boxes[t] = torch.tensor([x, 20, size, size])
    return video, boxes


def test_place_and_size_do_not_matter_but_speed_does():
    here, there = silhouette_features(*walk(5, 8)), silhouette_features(*walk(40, 8))
    torch.testing.assert_close(here, there)
    large = silhouette_features(*walk(5, 16, 32))
    torch.testing.assert_close(here, large)
    still = silhouette_features(*walk(5, 0))
    torch.testing.assert_close(here[:-2], still[:-2])
    assert here[-2:].tolist() == [5, 0]  # half a height for each frame, in tenths
    assert still[-2:].tolist() == [0, 0]


def test_shape_is_cut_out_by_a_square():
    video, boxes = torch.zeros(2, 40, 40), torch.tensor([[0.0, 4.0, 8.0, 32.0]]).expand(2, 4)
    video[:, 4:36, 0:8] = 1
    mean = silhouette_features(video, boxes)[:256].unflatten(0, (16, 16))
    expected = torch.zeros(16, 16)
    expected[:, 6:10] = 1  # a quarter as wide as tall, in the middle, though it is at the border
    torch.testing.assert_close(mean, expected / expected.norm())


def test_the_nearest_of_another_group():
    features = torch.tensor([[0.0], [0.1], [1.0], [5.0]])
    labels, groups = torch.tensor([7, 8, 9, 6]), torch.tensor([0, 0, 1, 2])
    assert nearest_neighbours(features, labels, groups).tolist() == [9, 9, 8, 9]


def test_one_group_has_no_neighbours():
    for count in (0, 1, 3):
        with pytest.raises(ValueError, match="`groups` must be at least two"):
            nearest_neighbours(torch.rand(count, 2), torch.zeros(count), torch.zeros(count))


def test_what_has_no_motion_is_refused():
    with pytest.raises(ValueError, match="T at least 2"):
        silhouette_features(torch.zeros(1, 8, 8), torch.zeros(1, 4))


def test_the_floor_of_weizmann(real_data: Callable[[str], Path]):
    config = ActionDataConfig(source=f"weizmann:{real_data('weizmann')}", fold=0)
    right = neighbours_right(config)
    assert right is not None
    assert float(right.double().mean()) == pytest.approx(0.957, abs=1e-3)
    one = held_out_floor(config)
    assert one is not None
    assert 0.8 <= one <= 1
    assert held_out_floor(ActionDataConfig()) is None
