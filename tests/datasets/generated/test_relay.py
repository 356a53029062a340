import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from whatwhere.datasets import Digits, Relay, RelayRecipe, relay_videos

SMALL = RelayRecipe(image_size=80, frames=5, digits=4, apart=30.0)


def drawn(recipe: RelayRecipe, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and centres of many videos."""
    rngs = [np.random.default_rng(i) for i in range(number)]
    return np.stack([recipe.draw_classes(r) for r in rngs]), np.stack([recipe.draw_centres(r) for r in rngs])


@pytest.mark.parametrize("task", ["same", "difference"])
def test_answers_are_balanced_and_one_digit_does_not_tell(task: Any):
    recipe = RelayRecipe(task)
    classes = np.stack([recipe.draw_classes(np.random.default_rng(i)) for i in range(8000)])
    answers = recipe.answers(classes)
    expected = classes[:, 0] == classes[:, 1] if task == "same" else (classes[:, 0] - classes[:, 1]) % 5
    assert (answers == expected).all()
    counts = np.bincount(answers)
    assert len(counts) == recipe.classes
    assert stats.chisquare(counts).pvalue > 1e-3
    for slot in range(2):
        assert stats.chisquare(np.bincount(classes[:, slot])).pvalue > 1e-3
        table = np.zeros((10, recipe.classes))
        np.add.at(table, (classes[:, slot], answers), 1)
        assert stats.chi2_contingency(table).pvalue > 1e-3


def test_digits_move_straight_and_are_mirrored_at_the_borders():
    recipe = dataclasses.replace(SMALL, frames=60, speed=6.0, clearance=0.0, apart=0.0)
    _, centres = drawn(recipe, 5)
    low, high = recipe.reach, 79 - recipe.reach
    assert centres.min() >= low
    assert centres.max() <= high
    steps = np.diff(centres, axis=1)
    lengths = np.hypot(steps[..., 0], steps[..., 1])
    assert lengths.max() <= 6 + 1e-9
    inside = ((centres > low + 6) & (centres < high - 6)).all(-1)
    straight = inside[:, :-2] & inside[:, 1:-1] & inside[:, 2:]
    assert straight.sum() > 100
    np.testing.assert_allclose(steps[:, 1:][straight], steps[:, :-1][straight], atol=1e-9)


def test_marked_digits_are_apart_and_clear():
    _, centres = drawn(RelayRecipe(), 40)
    first, last = centres[:, :2, 0], centres[:, -2:, 1]
    ways = np.hypot(*np.moveaxis(first[:, :, None] - last[:, None], -1, 0))
    assert ways.min() >= 48
    for part, slot in ((centres[:, :2], 0), (centres[:, -2:], 1)):
        others = np.delete(part, slot, axis=2) - part[:, :, slot, None]
        assert np.hypot(others[..., 0], others[..., 1]).min() >= 18


def test_every_pixel_is_a_digit_s_or_a_mark_s(digits: Digits):
    data = Relay(SMALL, digits, 4, 1).subset(range(4))
    assert data.boxes is not None
    marks = SMALL.marks(np.rint(data.boxes))
    ys, xs = np.mgrid[:80, :80]
    for video in range(4):
        for frame in range(5):
            picture = data.video[video, frame, 0]
            covered = np.zeros((80, 80), bool)
            for left, top, width, height in np.rint(data.boxes[video, frame]).astype(int):
                covered[top : top + height, left : left + width] = True
                assert picture[top : top + height, left : left + width].max() > 128
                assert height == 14
            x, y = marks[video, frame]
            marked = frame < 2 or frame >= 3
            assert np.isnan(x) != marked
            if marked:
                circle = abs(np.hypot(xs - x, ys - y) - 11) <= 0.5
                assert (picture[circle] == 255).all()
                covered |= circle
            assert not picture[~covered].any()


def test_marks_are_in_the_middle_of_the_digits_that_count():
    boxes = np.arange(2 * 5 * 4 * 4, dtype=np.float32).reshape(2, 5, 4, 4)
    marks = SMALL.marks(boxes)
    middle = boxes[..., :2] + (boxes[..., 2:] - 1) / 2
    np.testing.assert_array_equal(marks[:, :2], middle[:, :2, 0])
    np.testing.assert_array_equal(marks[:, 3:], middle[:, 3:, 1])
    assert np.isnan(marks[:, 2]).all()


def test_a_video_is_a_function_of_its_number(digits: Digits):
    data = Relay(SMALL, digits, 10, 1)
    whole, one = data.batch(range(10)), data.batch([7])
    assert torch.equal(whole.video[7], one.video[0])
    assert whole.classes is not None
    assert one.classes is not None
    assert torch.equal(whole.classes[7], one.classes[0])
    assert not torch.equal(whole.video[6], one.video[0])
    other = relay_videos(SMALL, "test", 10, 1, source="glyphs")
    assert not torch.equal(other.batch([7]).video, one.video)


def test_what_cannot_be_is_refused(digits: Digits):
    with pytest.raises(ValueError, match="task"):
        RelayRecipe("other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="marked_frames"):
        RelayRecipe(frames=3)
    with pytest.raises(ValueError, match="image_size"):
        RelayRecipe(image_size=25)
    with pytest.raises(ValueError, match="digits"):
        RelayRecipe(digits=1)
    crowded = dataclasses.replace(SMALL, apart=500.0)
    with pytest.raises(ValueError, match="found no place"):
        crowded.draw_centres(np.random.default_rng(0))
    few = Digits(digits.images[digits.labels < 8], digits.labels[digits.labels < 8])
    with pytest.raises(ValueError, match=r"\[8, 9\]"):
        Relay(SMALL, few, 10, 0)
