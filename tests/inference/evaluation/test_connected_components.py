"""Connected components on drawn scenes whose objects are known, and on flies and pedestrians."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from whatwhere.checks import MissingPackageError
from whatwhere.inference.evaluation import (
    ConnectedComponents,
    FoundComponents,
)
from whatwhere.inference.evaluation.tracking_metrics import tracking_counts, tracks_by_slot

Box = tuple[int, int, int, int]


def drawn(*frames: Sequence[Box], size: tuple[int, int] = (20, 30), brightness: float = 0.8) -> Tensor:
    """A video `(1, T, 1, H, W)` of bright boxes `(left, top, width, height)`."""
    video = torch.zeros(1, len(frames), 1, *size)
    for image, boxes in zip(video[0], frames, strict=True):
        for left, top, width, height in boxes:
            image[:, top : top + height, left : left + width] = brightness
    return video


def found(video: Tensor, **options: float) -> list[list[tuple[int, Box]]]:
    """Identity and box of what is there, frame by frame, of the first video."""
    boxes, present, identities = ConnectedComponents(**options)(video).tracks
    return [
        [(int(i), tuple(map(int, box))) for i, box, here in zip(*frame, strict=True) if here]
        for frame in zip(identities[0], boxes[0], present[0], strict=True)
    ]


def test_boxes_are_tight_and_in_the_order_of_their_first_pixels():
    frame = [(12, 1, 3, 2), (0, 5, 4, 3), (25, 17, 5, 3)]
    assert found(drawn(frame)) == [[(0, frame[0]), (1, frame[1]), (2, frame[2])]]


def test_objects_keep_their_identity_while_they_overlap_and_in_any_order():
    """The first moves down below the second, so that their slots are exchanged."""
    frames = [[(2, 2 * t, 6, 6), (20, 5, 4, 4)] for t in range(6)]
    for t, frame in enumerate(found(drawn(*frames))):
        assert sorted(frame) == [(0, frames[t][0]), (1, frames[t][1])]


def test_one_that_jumps_or_was_away_is_another():
    """A shift of 4 of 6 pixels leaves 2 of 10, which is not a fifth more; of 5, 1 of 11."""
    for shift, least, same in ((4, 0.2, True), (4, 0.21, False), (5, 0.1, False), (5, 0.09, True)):
        frames = [[(2, 2, 6, 6)], [(2 + shift, 2, 6, 6)]]
        (((one, _),), ((other, _),)) = found(drawn(*frames), least_overlap=least)
        assert (one == other) is same
    frames = [[(2, 2, 6, 6)], [], [(2, 2, 6, 6)], [(2, 2, 6, 6)]]
    assert [[i for i, _ in frame] for frame in found(drawn(*frames))] == [[0], [], [1], [1]]


def test_as_many_as_possible_are_followed():
    """The left one now overlaps both of before; the right one that of before only."""
    before, now = [(0, 2, 8, 4), (9, 2, 8, 4)], [(3, 2, 8, 4), (14, 2, 6, 4)]
    _, second = found(drawn(before, now))
    assert second == [(0, now[0]), (1, now[1])]


def test_what_touches_at_a_corner_is_one_and_other_frames_do_not_touch():
    assert found(drawn([(2, 2, 3, 3), (5, 5, 3, 3)])) == [[(0, (2, 2, 6, 6))]]
    assert found(drawn([(2, 2, 3, 3), (6, 5, 3, 3)])) == [[(0, (2, 2, 3, 3)), (1, (6, 5, 3, 3))]]
    assert found(drawn([(2, 2, 3, 3)], [(2, 2, 3, 3)])) == [[(0, (2, 2, 3, 3))]] * 2


def test_small_and_dark_ones_are_left_out():
    frame = [(1, 1, 1, 1), (5, 1, 2, 2), (12, 1, 5, 1)]
    assert len(found(drawn(frame), least_area=4)[0]) == 2
    assert len(found(drawn(frame), least_area=5)[0]) == 1
    assert len(found(drawn(frame, brightness=0.5), threshold=0.49)[0]) == 3
    assert found(drawn(frame, brightness=0.5), threshold=0.5) == [[]]


def test_one_bright_channel_is_enough_and_scores_are_mean_brightness():
    video = (
        drawn([(2, 2, 2, 1), (10, 2, 2, 2)]).repeat(1, 1, 3, 1, 1) * torch.tensor([0.0, 1, 0])[:, None, None]
    )
    video[0, 0, 2, 2, 3] = 0.4  # the second pixel's brightest channel stays the green one
    video[0, 0, 1, 2, 10] = 0.4
    result = ConnectedComponents(0.3)(video)
    assert result.scores[0, 0].tolist() == pytest.approx([0.8, 0.7])
    assert result.tracks.boxes[0, 0].tolist() == [[2, 2, 2, 1], [10, 2, 2, 2]]


def test_videos_are_apart_and_slots_that_are_not_needed_empty():
    one, other = drawn([(2, 2, 3, 3)], []), drawn([(2, 2, 3, 3), (9, 2, 3, 3)], [(9, 2, 3, 3)])
    result = ConnectedComponents()(torch.cat([one, other]))
    assert result.tracks.present.tolist() == [[[True, False], [False, False]], [[True, True], [True, False]]]
    assert result.tracks.identities.tolist() == [[[0, -1], [-1, -1]], [[0, 1], [1, -1]]]
    assert (result.tracks.boxes[~result.tracks.present] == 0).all()
    assert (result.scores[~result.tracks.present] == 0).all()


def test_nothing_is_found_in_darkness():
    result = ConnectedComponents()(torch.zeros(2, 3, 1, 8, 8))
    assert isinstance(result, FoundComponents)
    assert result.tracks.boxes.shape == (2, 3, 0, 4)
    assert tracking_counts(result.tracks, result.tracks).predictions == 0


@pytest.mark.parametrize(
    ("video", "problem"),
    [
        (torch.zeros(2, 1, 8, 8), r"must be \(B, T, C, H, W\) in \[0, 1\], but got \(2, 1, 8, 8\)"),
        (torch.zeros(0, 2, 1, 8, 8), "at least 1 each"),
        (torch.full((1, 2, 1, 8, 8), 255.0), r"in \[255.0, 255.0\]"),
        (torch.full((1, 2, 1, 8, 8), math.nan), r"in \[nan, nan\]"),
        (torch.full((1, 2, 1, 8, 8), -0.1), "in .-0.1"),
    ],
)
def test_what_is_no_video_is_refused(video: Tensor, problem: str):
    with pytest.raises(ValueError, match=problem):
        ConnectedComponents()(video)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 1),
        ("threshold", math.nan),
        ("least_area", 0),
        ("least_overlap", 0),
        ("least_overlap", 1.1),
    ],
)
def test_fields_that_cannot_be_are_refused(field: str, value: float):
    with pytest.raises(ValueError, match=f"`{field}` must be"):
        ConnectedComponents(**{field: value})


def test_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(MissingPackageError, match=r"whatwhere\[metrics\]"):
        ConnectedComponents()(torch.zeros(1, 1, 1, 4, 4))


def test_on_flies_they_reach_the_known_numbers(real_data: Callable[[str], Path]):
    """Two flies on a dark ground, the later half of the frames: they are counted in 94 % of them."""
    path = real_data("flies_sleap") / "flies_small.npz"
    if not path.exists():
        pytest.skip(f"`{path}` is absent")
    with np.load(path) as file:
        frames, rows = torch.from_numpy(file["s120_frames"]).float() / 255, file["s120_boxes"]
    ink = ((frames - frames[:200].median(0).values).abs() - 0.03).clamp(min=0)
    ink = (ink / ink[:200].max()).clamp(max=1)
    boxes, present = torch.zeros(1, 400, 2, 4), torch.zeros(1, 400, 2)
    names = sorted(set(rows[:, 1]))
    for frame, name, *box in rows.tolist():
        place = 0, int(frame), names.index(name)
        boxes[place], present[place] = torch.tensor(box), 1
    truth = tracks_by_slot(boxes[:, 200:], present[:, 200:])
    found = ConnectedComponents(0.15, least_area=10)(ink[None, 200:, None])
    assert (found.tracks.present.sum(-1) == truth.present.sum(-1)).double().mean() == pytest.approx(
        0.94, abs=0.02
    )
    report = tracking_counts(found.tracks, truth, 0.3).report()
    assert report.mota == pytest.approx(0.93, abs=0.03)
    assert report.idf1 == pytest.approx(0.46, abs=0.03)
    assert report.switches < 10
