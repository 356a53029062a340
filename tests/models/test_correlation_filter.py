"""The correlation filter on pictures that move and grow."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from whatwhere.models.components.boxes import iou
from whatwhere.models.correlation_filter import CorrelationFilterTracker


def smooth(size: int, seed: int) -> Tensor:
    coarse = torch.rand(1, 3, size // 5, size // 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)[0].clamp(0, 1)


def clip(boxes: Tensor, seed: int = 0) -> Tensor:
    """A thing in whole-pixel boxes `(T, 4)` over a ground of 90 x 100 pixels, `(T, 3, 90, 100)`."""
    thing, frames = smooth(40, seed + 1), []
    for left, top, width, height in boxes.int().tolist():
        frame = smooth(100, seed)[:, :90].clone()
        shown = F.interpolate(thing[None], size=(height, width), mode="bilinear", align_corners=False)
        frame[:, top : top + height, left : left + width] = shown[0]
        frames.append(frame)
    return torch.stack(frames)


def test_an_object_is_followed():
    time = torch.arange(12.0)
    boxes = torch.stack(
        [10 + 4 * time, 40 - 2 * time, torch.full((12,), 24.0), torch.full((12,), 18.0)], dim=-1
    )
    tracks = CorrelationFilterTracker()(clip(boxes)[None], boxes[None, 0])
    assert (iou(tracks.boxes[0], boxes) > 0.8).all()
    assert tracks.scores.shape == (1, 12)
    fixed = CorrelationFilterTracker(scales=1)(clip(boxes)[None], boxes[None, 0]).boxes
    assert (fixed[..., 2:] == boxes[0, 2:]).all()


def test_an_object_is_measured():
    side = (20 * 1.02 ** torch.arange(25.0)).round()
    boxes = torch.stack([50 - side / 2, 45 - side / 2, side, side], dim=-1).floor()
    tracks = CorrelationFilterTracker()(clip(boxes)[None], boxes[None, 0])
    assert side[-1] / side[0] > 1.5
    assert tracks.boxes[0, -1, 2] / side[0] == pytest.approx((side[-1] / side[0]).item(), rel=0.12)


def test_videos_do_not_mix_and_bytes_stand_for_colours():
    paths = [torch.tensor([[10.0 + 3 * t, 20 + t, 20, 20] for t in range(4)]) + 5 * i for i in range(2)]
    video = torch.stack([clip(path, seed=7 * i) for i, path in enumerate(paths)])
    first = torch.stack([path[0] for path in paths])
    tracker = CorrelationFilterTracker()
    together = tracker(video, first).boxes
    for i in range(2):
        torch.testing.assert_close(tracker(video[i : i + 1], first[i : i + 1]).boxes[0], together[i])
    levels = (255 * video).round().to(torch.uint8)
    torch.testing.assert_close(tracker(levels, first).boxes, together, atol=0.6, rtol=0)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="`scales` odd and positive, got 48 and 4"):
        CorrelationFilterTracker(scales=4)
    with pytest.raises(ValueError, match="positive width"):
        CorrelationFilterTracker()(torch.rand(1, 2, 1, 9, 9), torch.tensor([[1.0, 1.0, 0.0, 3.0]]))


def test_boxes_of_any_type_are_taken():
    boxes = torch.tensor([[10.0 + 3 * t, 20 + t, 20, 20] for t in range(4)])
    video, tracker = clip(boxes)[None], CorrelationFilterTracker()
    expected = tracker(video, boxes[None, 0])
    for given in (boxes[None, 0].double(), boxes[None, 0].long()):
        torch.testing.assert_close(tracker(video, given), expected, rtol=0, atol=0)


def test_a_tracker_may_be_of_another_type():
    """What it follows does not depend on it, and no part of its labels is lost on the way."""
    boxes = torch.tensor([[10.0 + 3 * t, 20 + t, 20, 20] for t in range(4)])
    video, first = clip(boxes)[None], boxes[None, 0]
    expected = CorrelationFilterTracker()(video, first)
    assert not any(buffer.is_complex() for buffer in CorrelationFilterTracker().buffers())
    same = CorrelationFilterTracker().to(torch.float32)(video, first)
    torch.testing.assert_close(same, expected, rtol=0, atol=0)
    for double in (CorrelationFilterTracker().double(), CorrelationFilterTracker().to(torch.float64)):
        tracks = double(video.double(), first.double())
        assert tracks.boxes.dtype == tracks.scores.dtype == torch.float64
        torch.testing.assert_close(tracks.boxes.float(), expected.boxes, rtol=0, atol=1e-3)
