"""Numbers against hand-made parts, and what is said of them."""

import math
import re

import pytest
import torch
from torch.distributions import Normal

from whatwhere.examples.air import AIRConfig, NetworkConfig, build
from whatwhere.examples.parts import sqair_programs
from whatwhere.examples.parts.sqair_config import NetworkConfig as SQAIRNetwork
from whatwhere.examples.parts.sqair_config import PriorConfig
from whatwhere.inference.evaluation import (
    Assessment,
    Assessor,
    FrameLook,
    Known,
    no_better_than_empty,
    watched_metrics,
)

LOOK = FrameLook(background=0.0, ink=0.05, side=16.0)
KNOWN = Known(bound=600.0, train_bound=605.0, background=0.0, ink=0.05, side=16.0, pixels=2500)
GOOD = Assessment(
    bound=590.0,
    empty_bound=200.0,
    slots=3,
    objects=1.2,
    full_frames=0.05,
    look=LOOK,
    pixels=2500,
    known=KNOWN,
)


def test_what_is_good_needs_no_remark():
    assert GOOD.remarks() == GOOD.unknown() == []
    assert "objects are worth 390.0" in "\n".join(GOOD.lines())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"look": LOOK._replace(ink=0.0, side=math.nan)}, "frames are empty.*normalise"),
        ({"look": LOOK._replace(background=0.9)}, "background is bright .0.90, in training 0.00.*invert"),
        ({"look": LOOK._replace(ink=0.5)}, "50% of the pixels.*in training 5%.*take the background away"),
        ({"look": LOOK._replace(side=4.0)}, "4.0 pixels large, in training 16.0: scale the frames by 4,"),
        ({"look": LOOK._replace(side=64.0)}, "64.0 pixels large, in training 16.0: scale the frames by 0.25"),
        ({"bound": 200.0}, "no better than if they were empty .200.0 <= 200.0 nats"),
        ({"objects": 0.0}, "nothing is found"),
        ({"known": KNOWN._replace(train_bound=630.0)}, "training frames are explained better.*more data"),
        ({"full_frames": 0.21}, "all 3 slots are used in 21% of the frames.*max-count"),
        (
            {"look": LOOK._replace(ink=0.5), "known": Known()},
            "50% of the pixels are no plain background: ",
        ),
        (
            {"look": LOOK._replace(background=0.0), "known": KNOWN._replace(background=0.9)},
            "background is dark .0.00, in training 0.90",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_to_change(changes: dict, message: str):
    (remark,) = GOOD._replace(**changes).remarks()
    assert re.search(message, remark)


def test_frames_far_below_the_usual_bound_are_unknown_whatever_their_size():
    assert GOOD._replace(bound=351.0).unknown() == []  # a tenth of a nat a pixel below
    (reason,) = GOOD._replace(bound=349.0).unknown()
    assert reason == "the bound is 349 nats a frame, that of known ones 600"
    large = GOOD._replace(pixels=10_000, bound=2360.0, empty_bound=800.0)
    assert large.lines()[-1] == "known frames     2400.0 nats; of training frames 2420.0"
    assert large.remarks() == []
    assert "(2520.0 and 2400.0" in large._replace(known=KNOWN._replace(train_bound=630.0)).remarks()[0]
    assert large.usual_bound == 2400
    assert large._replace(bound=1401.0).unknown() == []
    assert len(large._replace(bound=1399.0).unknown()) == 1
    assert GOOD._replace(bound=0.0, known=Known()).unknown() == []  # nothing is known


def test_a_run_that_has_learned_nothing_is_told():
    assert no_better_than_empty({"bound_per_frame": 1.0, "empty_bound_per_frame": 0.9}) == ""
    assert "1.0 <= 1.0 nats" in no_better_than_empty({"bound_per_frame": 1.0, "empty_bound_per_frame": 1.0})
    assert no_better_than_empty({"bound_per_frame": 1.0}) == no_better_than_empty({}) == ""


def programs():
    torch.manual_seed(0)
    return build(AIRConfig(network=NetworkConfig(image_shape=(1, 28, 28), max_count=2, rnn_hidden=8)))


def test_parts_are_averaged_and_counted():
    model, _ = programs()
    first, second = torch.zeros(2, 1, 28, 28), torch.zeros(1, 1, 28, 28)
    second[..., 4:12, 4:12] = 1
    parts = [Assessor(model) for _ in range(2)]
    parts[0].add(first, torch.tensor([100.0, 200.0]), torch.tensor([[1, 0], [0, 0]]))
    parts[1].add(second, torch.tensor([600.0]), torch.tensor([[1, 1]]))
    parts[1].count(torch.tensor([[1, 1]]))
    found = Assessor.joined(parts).assessment(KNOWN)
    assert (found.bound, found.slots, found.objects, found.full_frames) == (300.0, 2, 1.25, 0.5)
    assert found.look == pytest.approx((0.0, 64 / 784 / 2, 8.0))  # the mean of the parts; one has no side
    none = -torch.tensor(1 + 0.01 + 0.0001).log()
    black = none + Normal(0.0, 0.3).log_prob(torch.zeros(784)).sum()
    white = Normal(0.0, 0.3).log_prob(torch.ones(64)).sum() - Normal(0.0, 0.3).log_prob(torch.zeros(64)).sum()
    assert found.empty_bound == pytest.approx(float(black + white / 3), rel=1e-5)


def test_a_video_counts_its_frames():
    network = SQAIRNetwork(image_shape=(1, 12, 12), max_count=2, what_size=3, glimpse_size=5, hidden=8)
    assessor = Assessor(sqair_programs.build(network, PriorConfig()).model)
    assessor.add(torch.zeros(1, 4, 1, 12, 12), torch.tensor([400.0]), torch.zeros(1, 4, 2))
    found = assessor.assessment(Known())
    assert found.bound == 100
    assert found.pixels == 144
    assert found.empty_bound == pytest.approx(144 * 0.285, rel=0.05)  # black, but for the statements


def test_what_is_watched_is_what_is_known_later():
    model, guide = programs()
    images = torch.rand(3, 1, 28, 28)
    metrics = watched_metrics(model, guide, images, images[:2])
    known = Known.of({**metrics, "bound_per_frame": 5.0, "other": 1.0}, pixels=784)
    assert known.bound == 5
    assert known.train_bound == metrics["train_bound_per_frame"]
    assert known.background == metrics["frame_background"] == pytest.approx(0.5, abs=0.05)
    assert math.isnan(Known.of({}).bound)
