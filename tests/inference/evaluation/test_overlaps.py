import math

import numpy as np

from whatwhere.inference.evaluation import success_curve


def test_an_overlap_is_not_above_a_threshold_it_equals():
    curve = success_curve(np.array([0.0, 0.25, 0.5, 1.0]), [0, 0.25, 0.4, 0.5, 1])
    assert curve.tolist() == [0.75, 0.5, 0.5, 0.25, 0]


def test_every_clip_counts_the_same_for_success_whatever_its_length():
    ious = np.array([[0.9, 0.9, 0.9, 0.1], [0.1, math.nan, math.nan, math.nan], [math.nan] * 4])
    assert success_curve(ious, [0.5]).tolist() == [0.375]
    assert np.isnan(success_curve(ious[2:], [0.5])).all()
