import math

import pytest
import torch

from whatwhere.checks import MissingPackageError
from whatwhere.inference.evaluation import connected_components, frame_look


def test_background_ink_and_sides_are_those_that_were_drawn():
    frames = torch.full((2, 1, 20, 30), 0.1)
    frames[0, :, 2:6, 3:12] = 0.9  # 4 x 9
    frames[1, :, 10:14, 3:12] = 0.9
    frames[1, :, 0, 0] = 0.9  # a speck
    frames[1, :, 18:, 20:] = 0.25  # too faint
    look = frame_look(frames)
    assert look.background == pytest.approx(0.1)
    assert look.ink == pytest.approx((36 + 37) / 1200)
    assert look.side == pytest.approx(6)


def test_dark_objects_on_a_bright_ground_are_ink_too():
    frames = torch.ones(1, 3, 20, 20)
    frames[0, 1, 5:10, 5:10] = 0.5  # in one channel
    look = frame_look(frames)
    assert look == pytest.approx((1.0, 25 / 400, 5.0))


def test_of_nothing_and_without_scipy_there_is_no_side(monkeypatch: pytest.MonkeyPatch):
    assert math.isnan(frame_look(torch.zeros(2, 1, 5, 5)).side)
    frames = torch.zeros(1, 1, 8, 8)
    frames[..., 2:4, 2:4] = 1

    def missing(name: str) -> None:
        raise MissingPackageError("no scipy")

    monkeypatch.setattr(connected_components, "import_scipy", missing)
    look = frame_look(frames)
    assert math.isnan(look.side)
    assert look.ink == 4 / 64
