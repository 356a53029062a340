"""Places for pre-training, against boxes that the videos themselves show."""

import numpy as np
import torch

from whatwhere.datasets import ClipWindows, TargetPatches, VideoData
from whatwhere.models.components.boxes import intersection_areas


def videos(width: int = 60) -> ClipWindows:
    """Three videos of 4 frames: a bright 12 x 8 box, at another place in each frame.

    The grey value of the box tells the video, so that one sees which is shown.
    """
    rng = np.random.default_rng(0)
    video = np.zeros((3, 4, 1, 48, width), np.uint8)
    boxes = np.zeros((3, 4, 1, 4), np.float32)
    for i in range(3):
        for t in range(4):
            left, top = int(rng.integers(8, width - 20)), int(rng.integers(8, 28))
            video[i, t, :, top : top + 8, left : left + 12] = 100 + i
            boxes[i, t, 0] = left, top, 12, 8
    return ClipWindows(VideoData(video, boxes=boxes), min_length=1)


def box_of(frame: torch.Tensor) -> torch.Tensor:
    """The bright pixels' box."""
    rows, columns = (frame[0].amax(axis).nonzero()[:, 0] for axis in (1, 0))
    corners = columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]
    return torch.stack(corners).float()


def test_half_the_places_are_enlarged_targets_with_some_play():
    frames, boxes, labels = TargetPatches(videos()).batch(400, np.random.default_rng(1))
    assert (frames.dtype, boxes.dtype, labels.dtype) == (torch.uint8, torch.float32, torch.int64)
    assert labels.sum() == 200
    assert set(frames.amax((1, 2, 3)).tolist()) == {100, 101, 102}
    truth = torch.stack([box_of(frame) for frame in frames])[labels == 1]
    places = boxes[labels == 1]
    ratios = places[:, 2:] / truth[:, 2:]
    torch.testing.assert_close(ratios[:, 0], ratios[:, 1])
    assert 1.35 <= ratios.min() < 1.37
    assert 1.63 < ratios.max() <= 1.65 + 1e-5
    shifts = (places[:, :2] + places[:, 2:] / 2 - truth[:, :2] - truth[:, 2:] / 2) / truth[:, 2:]
    assert 0.07 < shifts.abs().amax() <= 0.075 + 1e-5
    assert (shifts.mean(0).abs() < 0.01).all()


def test_background_avoids_the_target():
    patches = TargetPatches(videos(), enlargement=1.25, max_overlap=0.1)
    frames, boxes, labels = patches.batch(300, np.random.default_rng(2))
    truth = torch.stack([box_of(frame) for frame in frames])
    targets = torch.cat([truth[:, :2] - truth[:, 2:] / 8, 1.25 * truth[:, 2:]], dim=1)[labels == 0]
    places = boxes[labels == 0]
    shares = intersection_areas(places, targets) / places[:, 2:].prod(1)
    assert (shares <= 0.1 + 1e-5).all()
    factors = places[:, 2] / targets[:, 2]
    assert 0.5 <= factors.min() < 0.55
    assert 1.8 < factors.max() <= 2
    middles = places[:, :2] + places[:, 2:] / 2
    assert ((middles >= -1e-4) & (middles <= torch.tensor([60.0, 48.0]) + 1e-4)).all()


def test_only_the_rows_asked_for_are_shown():
    frames = TargetPatches(videos(), rows=[2]).batch(20, np.random.default_rng(3)).frames
    assert set(frames.amax((1, 2, 3)).tolist()) == {102}


def test_the_generator_decides():
    patches = TargetPatches(videos())
    first, again, other = (patches.batch(6, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first.boxes, other.boxes)


def test_where_there_is_no_room_the_least_overlap_is_taken():
    full = np.full((1, 1, 1, 10, 10), 255, np.uint8)
    boxes = np.array([0, 0, 10, 10], np.float32).reshape(1, 1, 1, 4)
    source = ClipWindows(VideoData(full, boxes=boxes), min_length=1)
    places = TargetPatches(source, max_overlap=-1.0).batch(4, np.random.default_rng(6))
    assert places.boxes.isfinite().all()
