"""How far objects are from where they are said to be, of models that are told what to say."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from whatwhere.inference.evaluation import Videos, evaluate_continuation, reflected_line
from whatwhere.models.components.slots import TrackedSlots

SIDE, FRAMES, GIVEN = 40, 8, 3


class Frame(NamedTuple):
    slots: TrackedSlots


class Told:
    """Objects are where it is told, `(T, B, N, 4)`, with presence and identities `(T, B, N)`."""

    def __init__(self, boxes: Tensor, present: Tensor, identity: Tensor) -> None:
        self.boxes, self.present, self.identity = boxes, present, identity

    def generate(self, batch_size: int, frames: int, given: object, discover: bool) -> list[Frame]:
        assert not discover
        nothing = torch.zeros(*self.present.shape[1:], 1)
        fields = zip(self.present.float(), self.boxes, self.identity, strict=True)
        return [Frame(TrackedSlots(p, b, nothing, nothing, i)) for p, b, i in fields][:frames]


def moving(*objects: tuple[float, float, float, float]) -> Tensor:
    """Boxes of 6 x 8 of one video that start at (left, top) and move by (x, y) a frame, `(1, T, M, 4)`."""
    time = torch.arange(FRAMES, dtype=torch.float32)
    rows = [
        torch.stack([x + u * time, y + v * time, time * 0 + 6, time * 0 + 8], -1) for x, y, u, v in objects
    ]
    return torch.stack(rows, 1).unsqueeze(0)


def evaluate(told: Told, boxes: Tensor, *later: int, **known: Tensor):
    video = torch.zeros(len(boxes), boxes.shape[1], 1, SIDE, SIDE)
    batches = [Videos(video, boxes=boxes, **known)]
    return evaluate_continuation(told, lambda video: None, batches, GIVEN, later, lambda s: s.z_where)


def told(boxes: Tensor) -> Told:
    """The same boxes, all present, identities 5, 6, ..."""
    by_frame = boxes.transpose(0, 1)
    shape = by_frame.shape[:3]
    return Told(by_frame.clone(), torch.ones(shape), (5 + torch.arange(shape[2])).expand(shape).clone())


def test_distances_are_of_the_middles_of_the_same_objects():
    boxes = moving((2, 2, 1, 2), (20, 20, -1, 0))
    model = told(boxes)
    model.boxes[GIVEN:, :, 0, 0] += 3
    model.boxes[GIVEN:, :, 0, 1] += 4
    model.boxes[GIVEN:, :, 1, 2] += 2  # wider, so that the middle is 1 off
    # In one frame they stand the other way round.
    for field in (model.boxes, model.identity):
        field[4] = field[4].flip(1)
    report = evaluate(model, boxes, 1, 2, 5)
    assert (report.objects, report.given, report.later) == (2, GIVEN, (1, 2, 5))
    assert report.distance == pytest.approx((3, 3, 3))
    assert report.straight == pytest.approx((0, 0, 0), abs=1e-5)
    assert report.kept == (1, 1, 1)


def test_objects_that_are_lost_are_told_of_and_not_measured():
    boxes = moving((2, 2, 1, 2), (20, 20, -1, 0))
    model = told(boxes)
    model.boxes[4:, :, 0, 0] += 2
    model.boxes[4:, :, 1, 0] += 7
    model.present[5:, :, 1] = 0
    model.identity[5:, :, 1] = -1
    report = evaluate(model, boxes, 2, 3)
    assert report.distance == pytest.approx((4.5, 2))
    assert report.kept == (1, 0.5)
    # So is the line: the second object turns round unforeseen, and counts while the model has it.
    boxes[:, 3:, 1, 0] += 4
    assert evaluate(model, boxes, 2, 3).straight == pytest.approx((2, 0), abs=1e-5)
    model.present[5:] = 0
    assert math.isnan(evaluate(model, boxes, 3).distance[0])


def test_only_what_is_found_in_the_last_frame_seen_is_followed():
    boxes = moving((2, 2, 1, 2), (20, 20, -1, 0))
    model = told(boxes)
    model.boxes[GIVEN - 1, :, 1, 0] += 5  # an overlap of 1 / 11
    model.boxes[GIVEN:, :, 1, 0] += 30
    report = evaluate(model, boxes, 1)
    assert (report.objects, report.distance) == (1, (0,))
    hidden = torch.ones(1, FRAMES, 2)
    hidden[:, GIVEN - 1, 0] = 0
    assert evaluate(told(boxes), boxes, 1, present=hidden).objects == 1


@pytest.mark.parametrize("nothing", [0.0, math.nan])
def test_where_there_is_no_object_nothing_is_measured(nothing: float):
    """One vanishes after frame 4, and of another, that has just appeared, nobody knows how it moves."""
    boxes = moving((2, 2, 1, 2), (20, 20, -1, 0), (30, 2, 0, 1))
    model = told(boxes)
    model.boxes[GIVEN:, :, 0, 0] += 3
    model.boxes[GIVEN:, :, 1, 0] += 5
    boxes[:, 5:, 1] = nothing
    boxes[:, : GIVEN - 1, 2] = nothing
    report = evaluate(model, boxes, 2, 3)
    assert report.objects == 2
    assert report.distance == pytest.approx((4, 3))
    assert report.straight == pytest.approx((0, 0), abs=1e-5)
    assert report.kept == (1, 1)


def test_a_straight_line_turns_round_at_the_borders():
    """Step by step, as a ball between two walls."""
    for start, velocity in (
        ((30.0, 3.0), (7.0, -2.0)),
        ((4.0, 39.0), (-9.0, 3.0)),
        ((10.0, 20.0), (0.0, 45.0)),
    ):
        last = torch.tensor([*start, 6, 8.0])
        before = last - torch.tensor([*velocity, 0, 0])
        place, step = list(start), list(velocity)
        for n in range(1, 12):
            for axis in (0, 1):
                place[axis] += step[axis]
                while not 0 <= place[axis] <= SIDE:
                    wall = 0 if place[axis] < 0 else SIDE
                    place[axis], step[axis] = 2 * wall - place[axis], -step[axis]
            found = reflected_line(torch.stack([before, last]), n, (SIDE, SIDE))
            assert found.tolist() == pytest.approx([*place, 6, 8], abs=1e-3)


def test_bad_input_is_refused():
    boxes = moving((2, 2, 1, 2))
    with pytest.raises(ValueError, match="at least 9 frames, got 8"):
        evaluate(told(boxes), boxes, 6)
    with pytest.raises(ValueError, match="`later`"):
        evaluate(told(boxes), boxes, 0)
    with pytest.raises(ValueError, match="no boxes"):
        evaluate_continuation(
            told(boxes), print, [Videos(torch.zeros(1, 8, 1, 4, 4))], 3, [1], lambda s: s.z_where
        )
    with pytest.raises(ValueError, match="no videos"):
        evaluate_continuation(told(boxes), print, [], 3, [1], lambda s: s.z_where)
