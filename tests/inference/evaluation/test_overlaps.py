import math

import numpy as np
import pytest

from whatwhere.inference.evaluation import SUCCESS_THRESHOLDS, Overlaps, success_curve

NAN = math.nan
RAGGED = Overlaps(np.array([[1.0, 0.6, 0.2, NAN], [0.8, NAN, NAN, NAN], [0.9, NAN, 0.3, 0.4]]))


def test_measures_by_hand():
    assert RAGGED.clip_means == pytest.approx([0.6, 0.8, 1.6 / 3])
    assert RAGGED.mean == pytest.approx((0.6 + 0.8 + 1.6 / 3) / 3)
    assert RAGGED.without_first == pytest.approx((0.4 + 0.35) / 2)
    assert RAGGED.last == pytest.approx((0.2 + 0.8 + 0.4) / 3)
    assert RAGGED.pooled == pytest.approx(4.2 / 7)
    assert RAGGED.by_frame == pytest.approx([0.9, 0.6, 0.25, 0.4])
    assert RAGGED.clips_by_frame.tolist() == [3, 1, 2, 1]
    assert RAGGED.over_time == pytest.approx((0.9 + 0.6 + 0.25 + 0.4) / 4)
    # above 0.5: 2 of 3, 1 of 1 and 1 of 3 frames
    assert RAGGED.success[SUCCESS_THRESHOLDS.index(0.5)] == pytest.approx((2 / 3 + 1 + 1 / 3) / 3)
    assert RAGGED.auc == pytest.approx(RAGGED.success.mean())


def test_single_frames_have_a_mean_but_none_without_the_first():
    one = Overlaps(np.array([[0.25], [0.75]]))
    assert (one.mean, one.last, one.over_time) == (0.5, 0.5, 0.5)
    assert math.isnan(one.without_first)


@pytest.mark.parametrize(
    ("by_clip", "problem"),
    [
        (np.zeros((0, 3)), r"at least one clip, .* has shape \(0, 3\) and 0"),
        (np.zeros((2, 0)), "in every clip at least one"),
        (np.zeros(3), r"\(M, T\)"),
        (np.array([[0.5, 0.5], [NAN, NAN]]), "in every clip at least one .* and 2 of them"),
        (np.array([[0.5, 1.1]]), r"in \[0, 1\], but is in \[0.5, 1.1\]"),
        (np.array([[-0.1, 0.5]]), r"in \[0, 1\]"),
        (np.array([[0.5, math.inf]]), r"in \[0, 1\]"),
    ],
)
def test_what_are_no_overlaps_is_refused(by_clip: np.ndarray, problem: str):
    with pytest.raises(ValueError, match=problem):
        Overlaps(by_clip)


def test_an_overlap_is_not_above_a_threshold_it_equals():
    curve = success_curve(np.array([0.0, 0.25, 0.5, 1.0]), [0, 0.25, 0.4, 0.5, 1])
    assert curve.tolist() == [0.75, 0.5, 0.5, 0.25, 0]


def test_every_clip_counts_the_same_for_success_whatever_its_length():
    ious = np.array([[0.9, 0.9, 0.9, 0.1], [0.1, math.nan, math.nan, math.nan], [math.nan] * 4])
    assert success_curve(ious, [0.5]).tolist() == [0.375]
    assert np.isnan(success_curve(ious[2:], [0.5])).all()
