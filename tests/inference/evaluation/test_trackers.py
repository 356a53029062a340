"""Measures of single-object tracking against loops over clips and frames, and numbers worked out by hand."""

import gzip
import json
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyro
import pytest
import torch
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn

from whatwhere.datasets import BouncingBallsRecipe, bouncing_ball_videos
from whatwhere.inference.evaluation import (
    SUCCESS_THRESHOLDS,
    Clips,
    Overlaps,
    TrackerReport,
    evaluate_tracker,
    spread_frames,
)
from whatwhere.inference.evaluation.trackers import PRECISION_PIXELS, Tracker
from whatwhere.inference.supervised import LocalisationLoss, SupervisedObjective
from whatwhere.models.components.feature_extractors import PixelFeatures
from whatwhere.models.components.recurrent import IRNN
from whatwhere.models.ratm import RATM, BoxStart, PaperWindows, ResidualAttention

LENGTHS = (7, 3, 1, 6, 7)
GROUPS = (4, 9, 9, -2, 4)

Box = list[float]


class Told(NamedTuple):
    boxes: Tensor


class Clip(NamedTuple):
    """One clip in plain numbers; no true box where the object is not there."""

    true: list[Box | None]
    predicted: list[Box]


def told(boxes: Tensor) -> Tracker:
    """A tracker that predicts what it is told."""
    return lambda video, first_box: Told(boxes)


def static(video: Tensor, first_box: Tensor) -> Told:
    return Told(first_box.unsqueeze(1).expand(-1, video.shape[1], -1))


def blank(boxes: Tensor) -> Tensor:
    return torch.zeros(*boxes.shape[:2], 1, 2, 2)


def random_clips() -> list[Clip]:
    """Boxes near each other and apart; the object of the first clip is not there in frames 3 and 4."""
    generator = torch.Generator().manual_seed(3)
    clips = []
    for number, length in enumerate(LENGTHS):
        draws = torch.rand(length, 8, generator=generator).tolist()
        true = [[40 * x, 30 * y, 3 + 9 * w, 3 + 9 * h] for x, y, w, h, *_ in draws]
        predicted = [
            [a + 12 * (x - 0.5), b + 12 * (y - 0.5), c + 4 * w, d + 4 * h]
            for (a, b, c, d), (*_, x, y, w, h) in zip(true, draws, strict=True)
        ]
        predicted[-1][0] += 25 * (number % 2)  # further away than is precise
        there: list[Box | None] = [
            None if (number, t) in {(0, 3), (0, 4)} else box for t, box in enumerate(true)
        ]
        clips.append(Clip(there, predicted))
    return clips


def padded(clips: list[Clip], length: int, filler: float = math.nan) -> tuple[Tensor, Tensor, Tensor]:
    """True boxes, predictions and mask of a batch; `filler` where there is nothing."""
    nothing = [filler] * 4
    true = [[box or nothing for box in clip.true] + [nothing] * (length - len(clip.true)) for clip in clips]
    predicted = [clip.predicted + [nothing] * (length - len(clip.true)) for clip in clips]
    mask = [[box is not None for box in clip.true] + [False] * (length - len(clip.true)) for clip in clips]
    real = torch.float64
    return torch.tensor(true, dtype=real), torch.tensor(predicted, dtype=real), torch.tensor(mask)


def evaluated(batches: list[list[Clip]], lengths: list[int], groups: list[list[int]] | None) -> TrackerReport:
    """The report of batches of clips, each padded to one of `lengths`."""
    data, answers = [], []
    for number, (clips, length) in enumerate(zip(batches, lengths, strict=True)):
        true, predicted, mask = padded(clips, length)
        labels = None if groups is None else torch.tensor(groups[number])
        data.append(Clips(torch.zeros(len(clips), length, 1, 2, 2), true, mask, labels))
        answers.append(predicted)
    remaining = iter(answers)
    return evaluate_tracker(lambda video, first_box: Told(next(remaining)), data)


def overlap(first: Box, second: Box) -> float:
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    intersection = max(width, 0) * max(height, 0)
    return intersection / (first[2] * first[3] + second[2] * second[3] - intersection)


def overlaps_of(clip: Clip) -> list[float]:
    pairs = zip(clip.true, clip.predicted, strict=True)
    return [overlap(true, predicted) for true, predicted in pairs if true]


def distances_of(clip: Clip) -> list[float]:
    distances = []
    for true, predicted in zip(clip.true, clip.predicted, strict=True):
        if true:
            one, two = ((box[0] + box[2] / 2, box[1] + box[3] / 2) for box in (true, predicted))
            distances.append(math.dist(one, two))
    return distances


def previous_of(clip: Clip) -> Clip:
    """The clip, with the true box before as the prediction."""
    seen: list[Box] = []
    predicted = []
    for box in clip.true:
        predicted.append(seen[-1] if seen else (box or [0.0] * 4))
        seen += [box] if box else []
    return Clip(clip.true, predicted)


def mean(values: list[float]) -> float:
    return statistics.fmean(values)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return random_clips()


@pytest.fixture(scope="module")
def report(clips: list[Clip]) -> TrackerReport:
    return evaluated([clips[:2], clips[2:]], [7, 9], [[*GROUPS[:2]], [*GROUPS[2:]]])


def close(value: float) -> object:
    return pytest.approx(value, rel=1e-12, abs=1e-12)


# Measures


def test_sizes_are_those_of_frames_with_the_object(report: TrackerReport):
    assert (report.clips, report.frames) == (5, 22)
    assert report.clip_frames.tolist() == [5, 3, 1, 6, 7]
    assert report.clips_by_frame.tolist() == [5, 4, 4, 2, 2, 3, 2]
    assert report.overlaps.by_clip.shape == report.centre_errors.shape == (5, 7)


def test_means_over_frames_then_clips_equal_loops(clips: list[Clip], report: TrackerReport):
    ious = [overlaps_of(clip) for clip in clips]
    assert 0.05 < mean(ious[0]) < 0.95
    assert report.iou == close(mean([mean(row) for row in ious]))
    assert report.iou_without_first == close(mean([mean(row[1:]) for row in ious if len(row) > 1]))
    assert report.iou_last == close(mean([row[-1] for row in ious]))
    assert report.pooled_iou == close(mean([value for row in ious for value in row]))
    assert len({report.iou, report.iou_without_first, report.iou_last, report.pooled_iou}) == 4


def test_single_overlaps_are_kept_with_nan_where_the_object_is_not(clips: list[Clip], report: TrackerReport):
    expected = np.full((5, 7), math.nan)
    for row, clip in zip(expected, clips, strict=True):
        for t, (true, predicted) in enumerate(zip(clip.true, clip.predicted, strict=True)):
            row[t] = overlap(true, predicted) if true else math.nan
    np.testing.assert_allclose(report.overlaps.by_clip, expected, rtol=1e-12)


def test_means_of_each_frame_are_over_the_clips_that_have_it(clips: list[Clip], report: TrackerReport):
    expected = []
    for t in range(7):
        pairs = [(clip.true[t], clip.predicted[t]) for clip in clips if len(clip.true) > t]
        expected.append(mean([overlap(true, predicted) for true, predicted in pairs if true]))
    np.testing.assert_allclose(report.iou_by_frame, expected, rtol=1e-12)
    assert report.iou_over_time == close(mean(expected))


def test_success_is_the_mean_share_of_frames_above_a_threshold(clips: list[Clip], report: TrackerReport):
    ious = [overlaps_of(clip) for clip in clips]

    def success(threshold: float) -> float:
        return mean([mean([float(value > threshold) for value in row]) for row in ious])

    curve = [success(threshold) for threshold in SUCCESS_THRESHOLDS]
    assert list(SUCCESS_THRESHOLDS) == [float(f"{number / 20:.2f}") for number in range(21)]
    np.testing.assert_allclose(report.success, curve, atol=1e-12)
    assert report.auc == close(sum(curve) / 21)
    assert report.success_rate == close(success(0.5))


def test_success_is_an_overlap_above_one_half():
    ious = Overlaps(np.array([[0.5, 0.51, 1, 0.49]]))
    report = TrackerReport(ious, ious, ious, ious, np.zeros((1, 4)))
    assert report.success_rate == 0.5


def test_centre_errors_equal_loops(clips: list[Clip], report: TrackerReport):
    distances = [distances_of(clip) for clip in clips]
    every = [value for row in distances for value in row]
    precise = [mean([float(value <= PRECISION_PIXELS) for value in row]) for row in distances]
    assert report.centre_error == close(mean([mean(row) for row in distances]))
    assert report.median_centre_error == close(statistics.median(every))
    assert report.precision == close(mean(precise))
    assert 0.5 < mean(precise) < 1


def test_a_middle_20_pixels_away_is_precise():
    true = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 4]]])
    predicted = torch.tensor([[[12.0, 16, 4, 4], [12.1, 16, 4, 4]]])
    assert evaluate_tracker(told(predicted), [Clips(blank(true), true)]).precision == 0.5


def test_group_means_are_over_the_clips_of_a_group_then_over_groups(clips: list[Clip], report: TrackerReport):
    of_clip = [mean(overlaps_of(clip)) for clip in clips]
    expected = {
        -2: of_clip[3],
        4: (of_clip[0] + of_clip[4]) / 2,
        9: (of_clip[1] + of_clip[2]) / 2,
    }
    assert report.iou_by_group == {group: close(value) for group, value in expected.items()}
    assert list(report.iou_by_group) == [-2, 4, 9]
    assert report.group_mean_iou == close(mean(list(expected.values())))


def test_without_groups_there_are_no_group_means(clips: list[Clip]):
    report = evaluated([clips], [7], None)
    assert report.groups is None
    assert report.iou_by_group == {}
    assert report.group_mean_iou is None
    assert "group" not in str(report)
    assert not any("group" in name for name in report.numbers())


def test_batches_and_padding_make_no_difference(clips: list[Clip], report: TrackerReport):
    single = evaluated([[clip] for clip in clips], [7, 3, 1, 12, 8], [[group] for group in GROUPS])
    numbers, expected = single.numbers(), report.numbers()
    assert numbers.keys() == expected.keys()
    for name, value in expected.items():
        assert numbers[name] == (
            pytest.approx(value, rel=1e-12) if not isinstance(value, dict) else pytest.approx(value)
        )


# What trackers without a model reach


def test_baselines_equal_loops(clips: list[Clip], report: TrackerReport):
    kept = [Clip(clip.true, [clip.true[0] or []] * len(clip.true)) for clip in clips]
    assert report.static_iou == close(mean([mean(overlaps_of(clip)) for clip in kept]))
    before = [previous_of(clip) for clip in clips]
    assert report.previous_iou == close(mean([mean(overlaps_of(clip)) for clip in before]))


def test_a_tracker_that_keeps_the_first_box_is_the_static_baseline(clips: list[Clip]):
    true, _, mask = padded(clips, 8, filler=0.0)
    report = evaluate_tracker(static, [Clips(blank(true), true.float(), mask)])
    np.testing.assert_array_equal(report.overlaps.by_clip, report.static.by_clip)
    assert report.iou == report.static_iou < 1


def test_a_turn_costs_an_oracle_of_velocity_two_frames():
    left = torch.tensor([0.0, 2, 4, 2, 0, -2])
    boxes = torch.stack([left, 0 * left, 0 * left + 6, 0 * left + 6], dim=-1)[None]
    report = evaluate_tracker(static, [Clips(blank(boxes), boxes)])
    # Predicted 0, 0, 4, 6, 0, -2: right but in frame 1, 2 pixels behind, and in frame 3, 4 pixels beyond.
    np.testing.assert_allclose(report.constant_velocity.by_clip, [[1, 4 / 8, 1, 2 / 10, 1, 1]])
    np.testing.assert_allclose(report.previous.by_clip, [[1, 0.5, 0.5, 0.5, 0.5, 0.5]])


def test_on_balls_they_reach_the_known_numbers():
    """0.111 for the first box, and 0.607 for the one before, the first frame left out."""
    batch = bouncing_ball_videos(BouncingBallsRecipe(), "test", 1000, 0).batch(range(1000))
    assert batch.boxes is not None
    report = evaluate_tracker(static, [Clips(batch.video, batch.boxes[:, :, 0])])
    assert report.static_iou == pytest.approx(0.111, abs=0.01)
    assert report.previous.without_first == pytest.approx(0.607, abs=0.01)
    assert report.previous_iou == pytest.approx((1 + 31 * report.previous.without_first) / 32)


def test_on_kth_they_reach_the_known_numbers(real_data: Callable[[str], Path]):
    """Boxes of 1,200 clips of people who walk, jog and run."""
    path = real_data("kth") / "KTHBoundingBoxInfo.txt.gz"
    if not path.exists():
        pytest.skip(f"`{path}` is absent")

    def read() -> Iterator[Clips]:
        with gzip.open(path, "rt") as lines:
            for line in lines:
                numbers = [int(word) for word in line.split() if word.isdigit()]
                if len(numbers) > 6 and numbers[2] in (4, 5, 6):
                    top, left, bottom, right = torch.tensor(numbers[6:]).float().reshape(-1, 4).unbind(-1)
                    boxes = torch.stack([left, top, right - left, bottom - top], dim=-1)[None]
                    yield Clips(blank(boxes), boxes, groups=torch.tensor(numbers[:1]))

    report = evaluate_tracker(static, read())
    assert (report.clips, report.frames, len(report.iou_by_group)) == (1200, 55512, 25)
    assert report.static_iou == pytest.approx(0.148, abs=5e-4)
    assert report.previous.without_first == pytest.approx(0.758, abs=5e-4)
    first = Overlaps(report.static.by_clip[:, :30])
    assert first.mean == pytest.approx(0.226, abs=5e-4)


# Extreme predictions


def test_the_true_boxes_overlap_entirely():
    true = torch.rand(3, 9, 4) * 50 + 0.1
    report = evaluate_tracker(told(true), [Clips(blank(true), true)])
    assert report.iou == report.iou_last == report.pooled_iou == report.success_rate == 1
    assert report.success.tolist() == [1.0] * 20 + [0.0]
    assert report.auc == close(20 / 21)
    assert report.centre_error == report.median_centre_error == 0
    assert report.precision == 1


@pytest.mark.parametrize(
    "box",
    [
        (math.nan, 1, 2, 2),
        (1, 1, math.nan, 2),
        (1, 1, math.inf, 2),
        (-math.inf, 1, math.inf, 2),
        (math.inf, 1, 2, 2),
    ],
)
def test_boxes_that_are_not_finite_overlap_nothing_and_are_infinitely_far(box: tuple[float, ...]):
    true = torch.tensor([[1.0, 1, 2, 2]]).repeat(1, 5, 1)
    predicted = true.clone()
    predicted[0, 2] = torch.tensor(box)
    report = evaluate_tracker(told(predicted), [Clips(blank(true), true)])
    assert report.overlaps.by_clip.tolist() == [[1, 1, 0, 1, 1]]
    assert report.iou == 0.8
    assert report.centre_error == math.inf
    assert report.median_centre_error == 0
    assert report.precision == 0.8
    assert report.numbers()["centre_error"] is None
    assert report.numbers()["iou"] == 0.8


def test_a_box_of_negative_size_overlaps_nothing():
    true = torch.tensor([[[1.0, 1, 2, 2], [1, 1, 2, 2], [1, 1, 2, 2]]])
    predicted = torch.tensor([[[3.0, 1, -2, 2], [3, 3, -2, -2], [1, 1, 2, 2]]])
    report = evaluate_tracker(told(predicted), [Clips(blank(true), true)])
    assert report.overlaps.by_clip.tolist() == [[0, 0, 1]]


def test_predictions_where_the_object_is_not_do_not_count(clips: list[Clip], report: TrackerReport):
    true, predicted, mask = padded(clips, 7)
    data = [Clips(blank(true), true, mask.int(), torch.tensor(GROUPS))]
    for nothing in (0.0, math.nan, 1e300):
        changed = torch.where(mask.unsqueeze(-1), predicted, nothing)
        assert evaluate_tracker(told(changed), data).numbers() == report.numbers()


def test_clips_of_one_frame_have_no_mean_without_it():
    true = torch.ones(2, 1, 4)
    report = evaluate_tracker(static, [Clips(blank(true), true)])
    assert report.iou == report.constant_velocity_iou == 1
    assert math.isnan(report.iou_without_first)
    assert report.numbers()["iou_without_first"] is None
    json.dumps(report.numbers(), allow_nan=False)


# How the tracker is called


class Recorder(nn.Module):
    """Keeps what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.gradients: list[bool] = []

    def forward(self, video: Tensor, first_box: Tensor) -> Told:
        self.calls.append((video, first_box))
        self.gradients.append(torch.is_grad_enabled())
        return Told(self.weight * first_box.unsqueeze(1).expand(-1, video.shape[1], -1))


@pytest.mark.parametrize("training", [False, True])
def test_a_tracker_is_told_the_first_box_and_left_in_its_mode(training: bool):
    tracker = Recorder().train(training)
    boxes = torch.rand(2, 3, 4) + 1
    video = torch.rand(2, 3, 1, 4, 5)
    evaluate_tracker(tracker, iter([Clips(video, boxes)]))
    ((seen, first_box),) = tracker.calls
    assert torch.equal(seen, video)
    assert torch.equal(first_box, boxes[:, 0])
    assert tracker.gradients == [False]
    assert tracker.training is training
    assert torch.is_grad_enabled()


class Factor(PyroModule):
    """One Pyro parameter."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = PyroParam(torch.tensor(factor))

    def forward(self, boxes: Tensor) -> Tensor:
        return self.factor * boxes


class Scaled(PyroModule):
    """A tracker with a Pyro module inside."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.scale = Factor(factor)

    def forward(self, video: Tensor, first_box: Tensor) -> Told:
        return Told(self.scale(first_box).unsqueeze(1).expand(-1, video.shape[1], -1))


def test_trackers_of_one_class_keep_their_own_parameters():
    boxes = torch.tensor([[[0.0, 0, 2, 2]]])
    data = [Clips(blank(boxes), boxes)]
    assert [evaluate_tracker(Scaled(factor), data).iou for factor in (1.0, 2.0)] == [1, 0.25]
    assert not list(pyro.get_param_store().keys())


def test_ratm_gets_the_numbers_its_objective_has_in_training():
    size, generator = (10, 20), torch.Generator().manual_seed(5)
    attention = ResidualAttention(8, PaperWindows((5, 5)), BoxStart(), bound=0.3)
    model = RATM((1, *size), attention, PixelFeatures((1, 5, 5)), IRNN(25, 8, 0.1))
    video = torch.rand(4, 6, 1, *size, generator=generator)
    boxes = torch.rand(4, 6, 4, generator=generator) * 3 + 3
    mask = torch.arange(6) < torch.tensor([[6], [1], [4], [6]])
    objective = SupervisedObjective(model, {"localisation": LocalisationLoss()})
    diagnostics = objective(video, boxes, mask=mask)[1]
    report = evaluate_tracker(model, [Clips(video, boxes, mask)])
    assert 0.05 < report.iou_last < report.iou < 0.95
    assert report.iou == pytest.approx(diagnostics.iou.item(), abs=1e-6)
    assert report.iou_last == pytest.approx(diagnostics.last_iou.item(), abs=1e-6)


# Words and numbers


def test_numbers_can_be_written_as_json(report: TrackerReport):
    numbers = json.loads(json.dumps(report.numbers(), allow_nan=False))
    assert numbers["iou"] == report.iou
    assert numbers["success_thresholds"] == list(SUCCESS_THRESHOLDS)
    assert numbers["success"] == report.success.tolist()
    assert numbers["iou_by_frame"] == report.iou_by_frame.tolist()
    assert numbers["clips_by_frame"] == report.clips_by_frame.tolist()
    assert numbers["iou_by_group"] == {str(group): value for group, value in report.iou_by_group.items()}
    for name in ("static", "previous", "constant_velocity"):
        assert numbers[f"{name}_iou"] == getattr(report, name).mean
        assert numbers[f"{name}_iou_without_first"] == getattr(report, name).without_first
    for name in ("clips", "frames", "iou_without_first", "iou_last", "pooled_iou", "iou_over_time", "auc"):
        assert numbers[name] == getattr(report, name)
    for name in ("success_rate", "centre_error", "median_centre_error", "precision", "group_mean_iou"):
        assert numbers[name] == getattr(report, name)


def test_words_name_the_numbers(report: TrackerReport):
    lines = {line[:17].strip(): line[17:] for line in str(report).split("\n")}
    assert list(lines) == [
        "held-out clips",
        "IoU",
        "... by frame",
        "success",
        "centre error",
        "IoU to compare",
        "IoU of groups",
        "... by group",
    ]
    assert lines["held-out clips"] == "5 of 1 to 7 frames"
    assert lines["IoU"].startswith(f"{report.iou:.3f} ")
    assert lines["... by frame"].startswith(f"0: {report.iou_by_frame[0]:.3f} 1: ")
    assert lines["IoU of groups"] == f"{report.group_mean_iou:.3f}, mean of 3"


def test_curves_for_plots_are_the_tracker_and_its_baselines(report: TrackerReport):
    curves = report.curves("RATM")
    assert list(curves) == ["RATM", "first box kept", "true box before", "constant velocity"]
    assert list(curves.values()) == [
        report.overlaps,
        report.static,
        report.previous,
        report.constant_velocity,
    ]


@pytest.mark.parametrize(
    ("length", "count", "expected"), [(9, 3, [0, 4, 8]), (3, 8, [0, 1, 2]), (1, 5, [0]), (32, 2, [0, 31])]
)
def test_frames_are_spread_from_the_first_to_the_last(length: int, count: int, expected: list[int]):
    assert spread_frames(length, count) == expected


# Refusals

TRUE = torch.ones(2, 3, 4)
NOT_FINITE = TRUE.index_put((torch.tensor([1]), torch.tensor([2]), torch.tensor([0])), torch.tensor(math.nan))
NO_AREA = TRUE.index_put((torch.tensor([0]), torch.tensor([1]), torch.tensor([3])), torch.tensor(0.0))


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (Clips(blank(TRUE), TRUE[:, :2]), r"`boxes` must have shape \(2, 3, 4\).* got \(2, 2, 4\)"),
        (Clips(blank(TRUE), TRUE, torch.ones(2, 4)), r"`mask` must have shape \(2, 3\)"),
        (Clips(blank(TRUE), TRUE, groups=torch.ones(3)), r"`groups` must have shape \(2,\)"),
        (Clips(blank(TRUE), TRUE, torch.tensor([[1, 1, 1], [0, 1, 1]])), "first frame, .* clip 1"),
        (Clips(blank(TRUE)[:0], TRUE[:0]), r"`video` must have shape .*, at least 1 each, but got \(0, 3, "),
        (Clips(blank(TRUE)[:, :0], TRUE[:, :0]), r"`video` must have shape .* got \(2, 0, "),
        (Clips(blank(TRUE), TRUE, torch.full((2, 3), math.nan)), "`mask` must be boolean or of 0 and 1"),
        (Clips(blank(TRUE), TRUE, groups=torch.tensor([0.5, 1])), "`groups` must be integers"),
        (Clips(blank(TRUE), NOT_FINITE), "finite .* clip 1 in frame 2 is .*nan"),
        (Clips(blank(TRUE), NO_AREA), "positive width and height .* clip 0 in frame 1"),
    ],
)
def test_clips_that_cannot_be_evaluated_are_refused(clips: Clips, message: str):
    with pytest.raises(ValueError, match=message):
        evaluate_tracker(static, [clips])


def test_reports_are_of_the_same_frames():
    ious = Overlaps(np.array([[1, 0.5, math.nan], [1, 1, 1]]))
    errors = np.where(np.isnan(ious.by_clip), math.nan, 1.0)
    TrackerReport(ious, ious, ious, ious, errors, np.array([1, 2]))
    for other in (np.ones((2, 3)), ious.by_clip[:, :2], ious.by_clip[:1]):
        for name in ("static", "previous", "constant_velocity", "centre_errors"):
            fields = dict.fromkeys(("overlaps", "static", "previous", "constant_velocity"), ious)
            changed = {
                **fields,
                "centre_errors": errors,
                name: other if name == "centre_errors" else Overlaps(other),
            }
            with pytest.raises(ValueError, match=rf"`{name}` must be of the 5 frames \(2, 3\) of `overlaps`"):
                TrackerReport(**changed)
    with pytest.raises(ValueError, match=r"`groups` must be of 2 clips, but have shape \(3,\)"):
        TrackerReport(ious, ious, ious, ious, errors, np.array([1, 2, 3]))


def test_other_refusals():
    with pytest.raises(ValueError, match="no clips"):
        evaluate_tracker(static, [])
    with pytest.raises(ValueError, match=r"`tracker` must return `boxes` of shape \(2, 3, 4\), .* \(2, 4\)"):
        evaluate_tracker(told(TRUE[:, 0]), [Clips(blank(TRUE), TRUE)])
    with pytest.raises(ValueError, match="1 of 2 have them"):
        evaluate_tracker(
            static, [Clips(blank(TRUE), TRUE), Clips(blank(TRUE), TRUE, groups=torch.zeros(2).long())]
        )
