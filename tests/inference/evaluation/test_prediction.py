"""How far objects are from where they are predicted, of models that are told what to say."""

import math
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

from whatwhere.inference.evaluation import Videos, evaluate_prediction
from whatwhere.inference.evaluation.prediction import Means
from whatwhere.models.components.normal_mixture import NormalMixture
from whatwhere.models.components.slots import TrackedSlots

WIDTH, HEIGHT, GIVEN, FRAMES = 50, 40, 2, 15


class Frame(NamedTuple):
    slots: TrackedSlots


class Told:
    """Objects have the boxes `(B, T, N, 4)`, the presence and the identities `(B, T, N)` that it is told."""

    def __init__(self, boxes: Tensor, present: Tensor, identity: Tensor) -> None:
        self.boxes, self.present, self.identity = boxes, present, identity

    def generate(self, batch_size: int, frames: int, given: object, discover: bool) -> list[Frame]:
        assert not discover
        return [
            Frame(
                TrackedSlots(
                    self.present[:, t].float(),
                    self.boxes[:, t],
                    self.boxes[:, t, :, :1],
                    self.boxes[:, t, :, :1],
                    self.identity[:, t],
                )
            )
            for t in range(frames)
        ]


def truth() -> Tensor:
    """Two objects of one video, of 6 x 8 pixels: one stands still, one moves by 2 pixels to the right."""
    time = torch.arange(FRAMES, dtype=torch.float32)
    still = torch.stack([time * 0 + 5, time * 0 + 20, time * 0 + 6, time * 0 + 8], -1)
    moves = torch.stack([2 * time, time * 0, time * 0 + 6, time * 0 + 8], -1)
    return torch.stack([still, moves], 1)[None]


def told(boxes: Tensor) -> Told:
    shape = boxes.shape[:3]
    return Told(boxes.clone(), torch.ones(shape), (5 + torch.arange(shape[2])).expand(shape).clone())


def evaluate(model: Told, boxes: Tensor, later: int = FRAMES - GIVEN):
    video = torch.zeros(len(boxes), FRAMES, 1, HEIGHT, WIDTH)
    videos = [Videos(video, boxes=boxes)]
    return evaluate_prediction(model, lambda video: None, videos, GIVEN, later, lambda slots: slots.z_where)


def test_distances_are_in_sides_of_the_frame():
    boxes = truth()
    model = told(boxes)
    model.boxes[:, GIVEN:, 0, 0] += 5  # a tenth of the width
    model.boxes[:, GIVEN:, 1, 1] += 8  # a fifth of the height
    report = evaluate(model, boxes)
    assert report.distance == pytest.approx([0.15] * 13)
    assert report.summed == pytest.approx(1.5)
    assert (report.given, report.paired, report.kept) == (GIVEN, 1, 1)
    # The other one moves by a twenty-fifth of the width in a frame.
    assert report.stay == pytest.approx([0.02 * n for n in range(1, 14)])


def test_who_goes_on_as_nobody_is_off_by_what_is_between():
    """Pairs are those of the first predicted frame, by squares, whatever comes later."""
    boxes = truth()
    model = told(boxes)
    # From the second predicted frame on, each is where the other is.
    model.boxes[:, GIVEN + 1 :] = model.boxes[:, GIVEN + 1 :].flip(2)
    # Slots change; identities do not.
    for field in (model.boxes, model.present, model.identity):
        field[:, 6] = field[:, 6].flip(1)
    report = evaluate(model, boxes)
    middles = boxes[..., :2] / torch.tensor([WIDTH, HEIGHT])
    apart = (middles[0, :, 0] - middles[0, :, 1]).norm(dim=-1)[GIVEN:]
    assert report.distance[0] == pytest.approx(0)
    assert report.distance[1:] == pytest.approx(apart[1:].tolist())


def test_one_that_is_false_is_left_out_and_one_that_is_lost_no_longer_counts():
    boxes = truth()
    three = torch.cat([boxes[:, :, :1] + 100, boxes], 2)
    model = told(three)
    model.boxes[:, GIVEN:, 1, 0] += 5
    model.present[:, 8:, 1] = 0
    model.identity[:, 8:, 1] = -1
    report = evaluate(model, boxes)
    assert report.distance == pytest.approx([0.05] * 6 + [0] * 7)
    assert (report.paired, report.kept) == (1, 0.5)
    alone = told(boxes[:, :, :1])
    assert evaluate(alone, boxes).paired == 0.5
    alone.present[:, 5:] = 0
    alone.identity[:, 5:] = -1
    assert math.isnan(evaluate(alone, boxes).distance[-1])


@pytest.mark.parametrize("nothing", [0.0, math.nan])
def test_where_there_is_no_object_nothing_is_measured(nothing: float):
    """One vanishes after three predicted frames, another one was not there when the model looked last."""
    boxes = torch.cat([truth(), truth()[:, :, :1] + torch.tensor([30.0, 0, 0, 0])], 2)
    model = told(boxes)
    model.boxes[:, GIVEN:, 0, 0] += 5
    boxes[:, GIVEN + 3 :, 1] = nothing
    boxes[:, :GIVEN, 2] = nothing
    report = evaluate(model, boxes)
    assert report.distance == pytest.approx([0.05] * 3 + [0.1] * 10)
    assert report.stay == pytest.approx([0.02 * n for n in (1, 2, 3)] + [0.0] * 10)
    assert (report.paired, report.kept) == (1, 1)


def test_videos_that_are_too_short_or_none_are_refused():
    boxes = truth()
    with pytest.raises(ValueError, match="at least 16 frames"):
        evaluate(told(boxes), boxes, FRAMES - 1)
    with pytest.raises(ValueError, match="no videos"):
        evaluate_prediction(told(boxes), lambda video: None, [], 1, 1, lambda slots: slots.z_where)
    with pytest.raises(ValueError, match="later"):
        evaluate(told(boxes), boxes, 0)


def test_within_means_nothing_is_drawn():
    loc, scale = torch.tensor([[1.0, -2.0]]), torch.ones(1, 2)

    def program() -> tuple[Tensor, ...]:
        with pyro.plate("data", 3, dim=-1):
            return (
                pyro.sample("normal", dist.Normal(loc, scale).to_event(1)),
                pyro.sample("likely", dist.Bernoulli(torch.tensor(0.6))),
                pyro.sample("unlikely", dist.Bernoulli(torch.tensor(0.4)).mask(False)),
                pyro.sample(
                    "mixed", NormalMixture(torch.tensor([[0.0], [4.0]]), torch.ones(2, 1), torch.zeros(2))
                ),
                pyro.sample("known", dist.Normal(0.0, 1.0)),
                pyro.sample("x/0", dist.Normal(0.0, 1.0)),
            )

    known = torch.tensor([5.0, 6.0, 7.0])
    with Means():
        normal, likely, unlikely, mixed, same, image = poutine.condition(program, data={"known": known})()
    assert torch.equal(normal, loc.expand(3, 2))
    assert likely.tolist() == [1, 1, 1]
    assert unlikely.tolist() == [0, 0, 0]
    assert mixed.tolist() == [[2.0]] * 3
    assert torch.equal(same, known)
    assert image.unique().numel() == 3
