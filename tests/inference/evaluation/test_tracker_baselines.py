import math

import torch

from whatwhere.inference.evaluation import constant_velocity_boxes, previous_boxes, static_boxes


def test_the_box_before_is_that_of_the_last_frame_with_the_object():
    boxes = torch.arange(24.0).reshape(1, 6, 4)
    present = torch.tensor([[True, True, False, False, True, True]])
    expected = boxes[:, [0, 0, 1, 1, 1, 4]]
    assert torch.equal(previous_boxes(boxes, present), expected)
    assert torch.equal(static_boxes(boxes), boxes[:, [0] * 6])


def test_straight_motion_is_continued_through_gaps_and_the_size_is_kept():
    present = torch.tensor([[True, True, False, True, True, False, False, True]])
    time = torch.arange(8.0)
    size = torch.stack([4 + time % 3, 6 - time % 2], dim=-1)
    middle = torch.stack([5 + 2 * time, 9 - time], dim=-1)
    boxes = torch.cat([middle - size / 2, size], dim=-1)[None]
    boxes[~present] = math.nan
    found = constant_velocity_boxes(boxes, present)[0]
    torch.testing.assert_close((found[:, :2] + found[:, 2:] / 2)[2:], middle[2:])
    torch.testing.assert_close(found[:, 2:], size[[0, 0, 1, 1, 3, 4, 4, 4]])
    torch.testing.assert_close(found[:2], boxes[0, [0, 0]])  # nothing is known of its velocity
