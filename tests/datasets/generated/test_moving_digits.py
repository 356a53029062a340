import dataclasses
import math
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from whatwhere.datasets import (
    Digits,
    Motion,
    MovingDigits,
    MovingDigitsRecipe,
    VideoBatch,
    VideoData,
    moving_digit_videos,
    present,
    visible_count,
)
from whatwhere.datasets.generated import digits as digits_module
from whatwhere.datasets.generated.mnist import FILES

HARD = MovingDigitsRecipe(max_objects=3, intermittent=True, return_probability=0.5)


def labels_of(videos: MovingDigits, number: int | None = None) -> tuple[VideoData, np.ndarray, np.ndarray]:
    """Videos, their boxes, and what is visible."""
    data = videos.subset(range(number or len(videos)))
    assert data.boxes is not None
    assert data.visible is not None
    return data, data.boxes, data.visible


def counts(data: VideoData) -> np.ndarray:
    assert data.count is not None
    return data.count


def rectangles() -> Digits:
    """Solid boxes of 20 x 6, 20 x 7, ... 20 x 20 with the labels 0, 1, ... (the last ones share 9)."""
    images = np.zeros((15, 28, 28), np.uint8)
    for i, image in enumerate(images):
        image[4:24, 3 : 9 + i] = 255
    return Digits(images, np.minimum(np.arange(15), 9).astype(np.uint8))


def pixels(box: np.ndarray, ink: np.ndarray, side: int) -> Iterator[tuple[int, int, int]]:
    """Row, column and value of the ink inside a frame, by the definition of the box."""
    left, top = round(float(box[0])), round(float(box[1]))  # Python, too, rounds halves to even
    for (row, column), value in np.ndenumerate(ink):
        if 0 <= top + row < side and 0 <= left + column < side:
            yield top + row, left + column, int(value)


def first_inks(data: VideoData, boxes: np.ndarray, video: int) -> list[np.ndarray]:
    """Each digit of a video, cut out of the first frame, where nothing overlaps."""
    inks = []
    for left, top, width, height in boxes[video, 0].astype(int):
        inks.append(data.video[video, 0, 0, top : top + height, left : left + width].astype(int))
    return inks


@pytest.mark.parametrize("size", [28, 50, 64])
def test_boxes_reproduce_every_pixel(digits: Digits, size: int) -> None:
    recipe = MovingDigitsRecipe(max_objects=3 if size > 28 else 1, image_size=size, frames=14)
    data, boxes, visible = labels_of(MovingDigits(recipe, digits, 25, 1))
    assert visible.min() < 0.5, "some must be cut off"
    for video in range(25):
        inks = first_inks(data, boxes, video)
        for frame in range(14):
            canvas = np.zeros((size, size), int)
            for slot, ink in enumerate(inks):
                inside = 0
                for row, column, value in pixels(boxes[video, frame, slot], ink, size):
                    canvas[row, column] = max(canvas[row, column], value)
                    inside += value
                expected = inside / ink.sum() if ink.size else 0
                assert visible[video, frame, slot] == pytest.approx(expected, abs=1e-6)
            np.testing.assert_array_equal(data.video[video, frame, 0], canvas)


def test_first_frames_hold_whole_digits_that_do_not_overlap(digits: Digits) -> None:
    data, boxes, visible = labels_of(MovingDigits(MovingDigitsRecipe(max_objects=3), digits, 200, 0))
    assert data.classes is not None
    np.testing.assert_array_equal(visible[:, 0], data.classes >= 0)
    for video in range(200):
        covered = np.zeros((50, 50), int)
        for left, top, width, height in boxes[video, 0]:
            assert float(left).is_integer()
            assert float(top).is_integer()
            covered[int(top) : int(top + height), int(left) : int(left + width)] += 1
        assert covered.max() <= 1
        assert covered.sum() == boxes[video, 0, :, 2:].prod(-1).sum()  # none is cut off
        assert not data.video[video, 0, 0][covered == 0].any()


def test_labels_are_by_digit(digits: Digits) -> None:
    data, boxes, _ = labels_of(MovingDigits(MovingDigitsRecipe(max_objects=3), digits, 200, 0))
    assert data.classes is not None
    assert data.count is not None
    here = data.classes >= 0
    np.testing.assert_array_equal(data.count, here.sum(-1, keepdims=True).repeat(10, 1))
    np.testing.assert_array_equal((boxes[..., 2:] > 0).all(-1), here[:, None].repeat(10, 1))
    assert (boxes[..., 2:] == boxes[:, :1, :, 2:]).all(), "a digit keeps its size"
    assert not boxes[~present(data.batch(range(200))).numpy()].any()
    assert ((boxes[..., :2] >= 0) & (boxes[..., :2] <= 50)).all()
    assert abs(np.diff(boxes[..., :2], axis=1)).max() < 10 + 1e-5
    assert (boxes[:, 1:, :, :2] % 1 != 0).any(), "places are not rounded"


def test_classes_and_boxes_are_of_the_same_digit() -> None:
    data, boxes, _ = labels_of(MovingDigits(MovingDigitsRecipe(1, 2), rectangles(), 100, 3))
    assert data.classes is not None
    for video, slot in np.argwhere(data.classes >= 0):
        assert (boxes[video, :, slot, 3] == 20).all()
        width = int(boxes[video, 0, slot, 2])
        assert data.classes[video, slot] == min(width - 6, 9)


def test_counts_are_uniform(digits: Digits) -> None:
    # Beginning crowded first frames again must not make them rarer.
    recipe = MovingDigitsRecipe(max_objects=3, image_size=44, frames=1)
    data, _, _ = labels_of(MovingDigits(recipe, digits, 1000, 0))
    assert data.count is not None
    assert stats.chisquare(np.bincount(data.count[:, 0], minlength=4)).pvalue > 1e-3


def test_statistics_of_whole_videos() -> None:
    """As for the rules alone, see the tests of trajectories, but from boxes and labels."""
    _, boxes, visible = labels_of(MovingDigits(MovingDigitsRecipe(1, 1), rectangles(), 3000, 0))
    tops, visible = boxes[:, :, 0, 1], visible[:, :, 0]
    expected = [15.0, 15.6, 17.4, 20.3, 23.5, 26.0, 27.4, 27.5, 26.3, 24.5]
    np.testing.assert_allclose(tops.mean(0), expected, atol=1.1)  # 4 standard errors
    expected = [1.00, 0.97, 0.88, 0.79, 0.73, 0.69, 0.66, 0.64, 0.65, 0.70]
    np.testing.assert_allclose(visible.mean(0), expected, atol=0.03)
    expected = [0, 0.004, 0.04, 0.11, 0.15, 0.17, 0.19, 0.21, 0.20, 0.16]
    np.testing.assert_allclose((visible < 0.25).mean(0), expected, atol=0.03)
    assert (visible == 0).mean(0)[3:].min() > 0.005


@pytest.mark.slow
def test_statistics_of_mnist(mnist: Digits) -> None:
    """Handwritten digits are a little smaller than 20 x U{6..20}, and less solid."""
    _, boxes, visible = labels_of(MovingDigits(MovingDigitsRecipe(1, 1), mnist, 20_000, 0))
    expected = [15.0, 15.6, 17.4, 20.3, 23.5, 26.0, 27.4, 27.5, 26.3, 24.5]
    np.testing.assert_allclose(boxes[:, :, 0, 1].mean(0), expected, rtol=0.06)
    expected = [1.00, 0.97, 0.88, 0.79, 0.73, 0.69, 0.66, 0.64, 0.65, 0.70]
    np.testing.assert_allclose(visible[..., 0].mean(0), expected, atol=0.04)


@pytest.mark.parametrize("recipe", [MovingDigitsRecipe(), dataclasses.replace(HARD, noise_std=0.1)])
def test_videos_are_a_pure_function_of_their_index(digits: Digits, recipe: MovingDigitsRecipe) -> None:
    videos = MovingDigits(recipe, digits, 60, 5)
    whole = videos.subset(range(60))
    order = np.random.default_rng(0).permutation(60)
    for part in (order[:7], order[7:8], order[8:], [3, 3, 59]):
        assert_same(videos.subset(part), whole.subset(part))
    assert_same(MovingDigits(recipe, digits, 200, 5).subset(range(60)), whole)
    assert_same(pickle.loads(pickle.dumps(videos)).subset(range(60)), whole)
    for other in (MovingDigits(recipe, digits, 60, 6), MovingDigits(recipe, digits, 60, 5, purpose="x")):
        assert not np.array_equal(counts(other.subset(range(60))), counts(whole))


def assert_same(a: VideoData, b: VideoData) -> None:
    np.testing.assert_array_equal(a.video, b.video)
    assert a.labels().keys() == b.labels().keys() == {"count", "classes", "boxes", "visible"}
    for name, value in a.labels().items():
        np.testing.assert_array_equal(value, b.labels()[name])


def test_a_batch_is_the_subset_as_tensors(digits: Digits) -> None:
    videos = MovingDigits(HARD, digits, 20, 0)
    batch, data = videos.batch(torch.tensor([7, 2])), videos.subset([7, 2])
    assert isinstance(batch, VideoBatch)
    assert len(videos) == 20
    assert videos.shape == (20, *batch.video.shape[1:])
    assert batch.groups is None
    assert batch.segments is None
    for found, expected in zip(batch[:-2], data.batch([0, 1])[:-2], strict=True):
        assert isinstance(found, Tensor)
        assert isinstance(expected, Tensor)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    assert len(videos.batch([]).video) == 0
    with pytest.raises(IndexError, match=r"\[0, 20\), got 20 to 20"):
        videos.batch([20])


def test_more_frames_more_digits_larger_frames(digits: Digits) -> None:
    recipe = MovingDigitsRecipe(4, 5, image_size=110, frames=120)
    batch = MovingDigits(recipe, digits, 3, 0).batch([0, 1, 2])
    assert batch.video.shape == (3, 120, 1, 110, 110)
    assert batch.boxes is not None
    assert batch.boxes.shape == (3, 120, 5, 4)
    assert batch.boxes[..., :2].max() > 90
    assert batch.count is not None
    assert set(batch.count.ravel().tolist()) <= {4, 5}


def test_motion_is_a_parameter(digits: Digits) -> None:
    still = MovingDigitsRecipe(1, 2, motion=Motion(max_speed=0))
    data, _, _ = labels_of(MovingDigits(still, digits, 5, 0))
    assert (data.video == data.video[:, :1]).all()
    calm, shaky = (
        MovingDigits(MovingDigitsRecipe(1, 2, motion=Motion(jitter=jitter)), digits, 5, 0).subset(range(5))
        for jitter in (0.0, 1.0)
    )
    np.testing.assert_array_equal(calm.video[:, 0], shaky.video[:, 0])
    assert (calm.video[:, 5] != shaky.video[:, 5]).any()


def test_intermittent_digits_are_those_of_the_steady_videos_while_they_are_on(digits: Digits) -> None:
    number = 60
    hard, boxes, visible = labels_of(MovingDigits(HARD, digits, number, 2))
    steady, all_boxes, all_visible = labels_of(
        MovingDigits(MovingDigitsRecipe(max_objects=3), digits, number, 2)
    )
    assert hard.classes is not None
    assert hard.count is not None
    np.testing.assert_array_equal(hard.classes, steady.classes)
    on = boxes[..., 2] > 0
    assert (on.any(1) == (hard.classes >= 0)).all(), "every digit is on at some time"
    assert not on[:, :, hard.classes[0] >= 0].all()
    np.testing.assert_array_equal(present(hard.batch(range(number))).numpy(), on)
    np.testing.assert_array_equal(hard.count, on.sum(-1))
    np.testing.assert_array_equal(boxes, all_boxes * on[..., None])
    np.testing.assert_array_equal(visible, all_visible * on)
    for video in range(number):
        inks = first_inks(steady, all_boxes, video)
        for frame in range(10):
            canvas = np.zeros((50, 50), int)
            for slot in np.flatnonzero(on[video, frame]):
                for row, column, value in pixels(boxes[video, frame, slot], inks[slot], 50):
                    canvas[row, column] = max(canvas[row, column], value)
            np.testing.assert_array_equal(hard.video[video, frame, 0], canvas)


def exact_intervals(frames: int, again: float) -> dict[tuple[bool, ...], float]:
    """Probability of every pattern of on and off, by enumerating a, b and, if there is one, c, d."""
    chances: Counter[tuple[bool, ...]] = Counter()

    def add(chance: float, *intervals: tuple[int, int]) -> None:
        chances[tuple(any(a <= t <= b for a, b in intervals) for t in range(1, frames + 1))] += chance  # type: ignore[assignment]

    for a in range(1, frames + 1):
        for b in range(a, frames + 1):
            chance = 1 / frames / (frames - a + 1)
            starts = range(b + 2, frames + 1 if again else 0)
            add(chance * (1 - again if starts else 1), (a, b))
            for c in starts:
                for d in range(c, frames + 1):
                    add(chance * again / len(starts) / (frames - c + 1), (a, b), (c, d))
    return dict(chances)


@pytest.mark.parametrize("again", [0.0, 0.5])
def test_intervals_have_the_stated_distribution(again: float) -> None:
    recipe = MovingDigitsRecipe(2, 2, frames=5, intermittent=True, return_probability=again)
    _, boxes, _ = labels_of(MovingDigits(recipe, rectangles(), 1500, 0))
    on = (boxes[..., 2] > 0).swapaxes(1, 2).reshape(-1, 5)
    expected = exact_intervals(5, again)
    assert math.fsum(expected.values()) == pytest.approx(1)
    observed = Counter(tuple(pattern) for pattern in on.tolist())
    assert observed.keys() <= expected.keys()
    counts = [observed[pattern] for pattern in expected]
    assert stats.chisquare(counts, [len(on) * p for p in expected.values()]).pvalue > 1e-3


def test_noise_is_added_to_the_same_scenes(digits: Digits) -> None:
    recipe, std = MovingDigitsRecipe(max_objects=3), 0.1
    videos, noisy = (
        MovingDigits(r, digits, 12, 4).subset(range(12))
        for r in (recipe, dataclasses.replace(recipe, noise_std=std))
    )
    for name, value in videos.labels().items():
        np.testing.assert_array_equal(noisy.labels()[name], value)
    # Half of the noise of a black pixel is cut off; grey ones show all of it.
    black = noisy.video[videos.video == 0] / 255
    assert black.mean() == pytest.approx(std / math.sqrt(2 * math.pi), rel=0.02)
    assert (black == 0).mean() == pytest.approx(stats.norm.cdf(0.5 / 255 / std), abs=0.01)
    grey = (videos.video > 100) & (videos.video < 155)
    rest = (noisy.video[grey].astype(float) - videos.video[grey]) / 255
    assert len(rest) > 300
    assert (
        stats.kstest(
            rest + np.random.default_rng(0).uniform(-0.5, 0.5, len(rest)) / 255, stats.norm(0, std).cdf
        ).pvalue
        > 1e-3
    )
    frames = (noisy.video[:, :2] / 255).reshape(24, -1)
    assert abs(np.corrcoef(frames[videos.video[:, :2].reshape(24, -1).max(1) == 0])[0, 1:]).max() < 0.1


def small_batch() -> VideoBatch:
    visible = torch.tensor([[[1.0, 0.25, 0.0], [0.1, 0.5, 0.0]]])
    boxes = torch.ones(1, 2, 3, 4)
    boxes[0, :, 2] = 0
    return VideoBatch(torch.zeros(1, 2, 1, 4, 4), boxes=boxes, visible=visible)


def test_visible_counts_by_hand() -> None:
    batch = small_batch()
    for threshold, expected in ((0.0, [2, 2]), (0.25, [2, 1]), (0.3, [1, 1]), (1.0, [1, 0])):
        count = visible_count(batch, threshold)
        assert count.dtype == torch.int64
        assert count.tolist() == [expected]
    assert visible_count(batch).tolist() == [[2, 2]]
    assert present(batch).tolist() == [[[True, True, False]] * 2]
    for threshold in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="`threshold` must be in"):
            visible_count(batch, threshold)
    with pytest.raises(ValueError, match="no label `visible`"):
        visible_count(VideoBatch(batch.video))
    with pytest.raises(ValueError, match="no `boxes`"):
        present(VideoBatch(batch.video))


def test_splits_take_their_own_digits(tmp_path: Path, write_idx: Callable[[Path, np.ndarray], bytes]) -> None:
    rng = np.random.default_rng(0)
    for labels, names in (((0, 1), FILES["train"]), ((8, 9), FILES["test"])):
        write_idx(tmp_path / names[0], rng.integers(0, 256, (6, 28, 28), np.uint8))
        write_idx(tmp_path / names[1], rng.choice(labels, 6).astype(np.uint8))
    for split, allowed in (("train", {-1, 0, 1}), ("test", {-1, 8, 9})):
        recipe = MovingDigitsRecipe(1, 2, image_size=80, frames=2)
        data = moving_digit_videos(recipe, split, 30, 0, folder=tmp_path).subset(range(30))  # type: ignore[arg-type]
        assert data.classes is not None
        assert set(data.classes.ravel()) <= allowed


def test_splits_have_different_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits_module, "DEFAULT_GLYPHS", 10)
    recipe = MovingDigitsRecipe(frames=1)
    train, test = (
        moving_digit_videos(recipe, split, 50, 0, source="glyphs").subset(range(50))
        for split in ("train", "test")
    )
    assert not np.array_equal(counts(train), counts(test))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_objects": 3}, "`min_objects` <= `max_objects`.*got 3 and 2"),
        ({"image_size": 27}, "`image_size` must be at least 28"),
        ({"frames": 0}, "`frames` must be at least 1, got 0"),
        ({"intermittent": True, "return_probability": 1.5}, "`return_probability` must be in"),
        ({"return_probability": 0.5}, "`return_probability` needs `intermittent`"),
        ({"noise_std": -0.1}, "`noise_std` must not be negative, got -0.1"),
        ({"noise_std": math.nan}, "`noise_std` must not be negative and finite, got nan"),
    ],
)
def test_impossible_recipes_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MovingDigitsRecipe(**arguments)


def test_impossible_data_sets_are_refused(digits: Digits) -> None:
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        MovingDigits(MovingDigitsRecipe(), digits, 0, 0)
    with pytest.raises(ValueError, match="`seed` must be in"):
        MovingDigits(MovingDigitsRecipe(), digits, 1, -1)
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        moving_digit_videos(MovingDigitsRecipe(), "train", 0, 0, folder="nowhere")
    one = Digits(digits.images[:1], digits.labels[:1])
    with pytest.raises(ValueError, match="`digits` must have at least 2 digits, got 1"):
        MovingDigits(MovingDigitsRecipe(), one, 1, 0)
