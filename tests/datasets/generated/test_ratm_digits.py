import dataclasses
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from whatwhere.datasets import (
    MOTIONS,
    Billiard,
    DigitMotion,
    Digits,
    MomentumWalk,
    MovingDigits,
    RatmDigitsRecipe,
    ReleasedWalk,
    VideoData,
    moving_digit_videos,
)
from whatwhere.datasets.generated import digits as digits_module
from whatwhere.datasets.generated.ratm_digits import DigitStart
from whatwhere.models.components.boxes import iou

PAIR = RatmDigitsRecipe(2, 2, motion=Billiard())
RECIPES = [
    RatmDigitsRecipe(),
    RatmDigitsRecipe(motion=ReleasedWalk()),
    PAIR,
    RatmDigitsRecipe(0, 3, 120, motion=Billiard()),
    RatmDigitsRecipe(1, 2, 50, noise_std=0.1),
]


def boxes_of(
    recipe: RatmDigitsRecipe, digits: Digits, number: int, seed: int = 0
) -> tuple[VideoData, np.ndarray]:
    data = MovingDigits(recipe, digits, number, seed).subset(range(number))
    assert data.boxes is not None
    return data, data.boxes


def drawn(motion: DigitMotion, number: int, frames: int, size: int = 100) -> Iterator[DigitStart]:
    """What is random in the motion of one digit, many times."""
    rng = np.random.default_rng(0)
    return (motion.draw(1, frames, size, rng) for _ in range(number))


def mirrored(position: Any, border: int) -> Any:
    return -position if position < 0 else 2 * border - position if position > border else position


def test_momentum_walk_is_that_of_the_definition() -> None:
    starts = list(drawn(MomentumWalk(), 200, 30))
    corners = MomentumWalk().corners(starts, 30, 100)
    assert corners.shape == (30, 200, 2)
    mirrors = 0
    for digit, start in enumerate(starts):
        for axis in range(2):
            p, v = float(start.position[0, axis]), float(start.velocity[0, axis])
            for frame in range(30):
                if frame:
                    v = 0.9 * v + 0.1 * float(start.changes[frame - 1, 0, axis])
                    p += v
                    if p != mirrored(p, 71):
                        p, v, mirrors = mirrored(p, 71), -v, mirrors + 1
                assert corners[frame, digit, axis] == pytest.approx(p, abs=1e-9)
    assert mirrors > 200


def test_released_walk_is_that_of_the_definition_in_exact_numbers() -> None:
    starts = list(drawn(ReleasedWalk(), 200, 30))
    corners = ReleasedWalk().corners(starts, 30, 100)
    for digit, start in enumerate(starts):
        for axis in range(2):
            draws = [int(start.velocity[0, axis]), *(int(d) for d in start.changes[:, 0, axis])]
            p = int(start.position[0, axis])
            for frame in range(30):
                if frame:
                    p += math.trunc(Fraction(9 * draws[frame - 1] + draws[frame], 10) + p) - p
                    p = mirrored(p, 71)
                assert corners[frame, digit, axis] == p


@pytest.mark.parametrize("motion", [MomentumWalk(), ReleasedWalk()])
def test_walks_start_uniformly_on_whole_pixels(motion: MomentumWalk | ReleasedWalk) -> None:
    starts = list(drawn(motion, 2500, 2))
    places, velocities, changes = (
        np.concatenate([np.ravel(start[i]) for start in starts]).astype(int) for i in range(3)
    )
    assert stats.chisquare(np.bincount(places, minlength=72)).pvalue > 1e-3
    for draws in (velocities, changes):
        assert stats.chisquare(np.bincount(draws + 15, minlength=30)).pvalue > 1e-3


def steps(motion: DigitMotion, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Displacements between frames `(29, number, 2)`, and which of them touched no border."""
    corners = motion.corners(list(drawn(motion, number, 30)), 30, 100)
    moves = np.diff(corners, axis=0)
    return moves, np.minimum(corners, 71 - corners)[:-1] > 15


def test_only_the_momentum_walk_has_momentum() -> None:
    moves, free = steps(MomentumWalk(), 500)
    both = free[1:] & free[:-1]
    assert np.corrcoef(moves[1:][both], moves[:-1][both])[0, 1] > 0.9
    moves, _ = steps(ReleasedWalk(), 500)
    assert abs(np.corrcoef(moves[1:].ravel(), moves[:-1].ravel())[0, 1]) < 0.05
    assert abs(moves).mean() == pytest.approx(6.3, abs=0.1)


@pytest.mark.parametrize(
    ("motion", "first", "first_of_10", "before", "constant"),
    [(MomentumWalk(), 0.125, 0.240, 0.706, 0.876), (ReleasedWalk(), 0.183, 0.326, 0.451, 0.380)],
)
def test_baselines(
    motion: DigitMotion, first: float, first_of_10: float, before: float, constant: float
) -> None:
    """Mean overlap of simple answers with the true boxes of one digit in 30 frames."""
    corners = motion.corners(list(drawn(motion, 2000, 30)), 30, 100)

    def mean(answers: np.ndarray, start: int, stop: int = 30) -> float:
        answers = np.broadcast_to(answers, corners[start:stop].shape)
        pair = (np.concatenate([x, np.full_like(x, 28)], -1) for x in (answers, corners[start:stop]))
        return float(iou(*(torch.from_numpy(x) for x in pair)).mean())

    # Four standard errors of the mean over these videos are about 0.008, 0.010, 0.007 and 0.007.
    assert mean(corners[:1], 0) == pytest.approx(first, abs=0.008)
    assert mean(corners[:1], 0, 10) == pytest.approx(first_of_10, abs=0.010)
    assert mean(corners[:-1], 1) == pytest.approx(before, abs=0.007)
    further = np.clip(2 * corners[1:-1] - corners[:-2], 0, 71)
    assert mean(further, 2) == pytest.approx(constant, abs=0.007)


def test_a_billiard_by_hand() -> None:
    motion = Billiard(inertia=0.5, min_speed=0.1, max_speed=1.0)
    # Units are 10 pixels, and the corner is 1.4 units from the centre.
    start = DigitStart(
        np.array([[5.0, 4.0]]),
        np.array([[0.3, -0.4]]),
        np.array([[[0.3, 0.2]], [[-0.32, 0.16]], [[4.0, 3.0]], [[0.0, 0.0]]]),
    )
    centres = [
        (5.0, 4.0),
        (5.3, 3.6),  # then v = (0.3, -0.1)
        (5.6, 3.5),  # then (-0.01, 0.03), scaled up to a speed of 0.1
        (5.6 - 0.1 / math.sqrt(10), 3.5 + 0.3 / math.sqrt(10)),  # then about (1.98, 1.55), scaled down to 1
    ]
    corners = motion.corners([start], 5, 100)[:, 0]
    np.testing.assert_allclose(corners[:4], np.array(centres) * 10 - 14, atol=1e-9)
    assert np.linalg.norm(corners[4] - corners[3]) == pytest.approx(10)


def test_a_billiard_is_clipped_to_the_frame() -> None:
    motion = Billiard(inertia=1.0, speed=0.7)
    start = DigitStart(np.array([[2.0, 5.0]]), np.array([[-0.7, 0.0]]), np.zeros((3, 1, 2)))
    # The centre comes to 1.3, beyond 1.4, where it turns; it is back at 2 in the next frame.
    np.testing.assert_allclose(motion.corners([start], 4, 100)[:, 0, 0], [6, 0, 6, 13], atol=1e-9)


def test_billiards_begin_at_one_speed_and_keep_to_their_bounds() -> None:
    motion = Billiard(std=2.0)
    starts = list(drawn(motion, 1000, 30))
    velocities = np.concatenate([start.velocity for start in starts])
    np.testing.assert_allclose(np.hypot(*velocities.T), 0.5)
    angles = np.arctan2(*velocities.T)
    assert stats.kstest(angles, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3
    changes = np.concatenate([start.changes.ravel() for start in starts])
    assert stats.kstest(changes, stats.norm(0, 2).cdf).pvalue > 1e-3
    corners = motion.corners(starts, 30, 100)
    inner = (np.minimum(corners, 72 - corners) > 7.5).all(-1)
    speeds = np.sqrt((np.diff(corners, axis=0) ** 2).sum(-1))[inner[:-1] & inner[1:]]
    assert 2.5 - 1e-9 <= speeds.min() < 3
    assert 7 < speeds.max() <= 7.5 + 1e-9


def test_billiard_digits_bounce_off_each_other() -> None:
    rng = np.random.default_rng(0)
    starts = [Billiard().draw(2, 30, 100, rng) for _ in range(200)]
    gaps = {}
    for collide in (True, False):
        corners = Billiard(collide=collide).corners(starts, 30, 100).reshape(30, 200, 2, 2)
        gaps[collide] = np.sqrt(((corners[:, :, 0] - corners[:, :, 1]) ** 2).sum(-1))
    assert gaps[True][0].min() >= 28
    # They approach by at most twice the greatest speed in the half of a frame in which they meet.
    assert gaps[True].min() > 28 - 2 * 7.5
    assert (gaps[True] < 26).mean() < 0.01
    assert gaps[False].min() < 5
    assert (gaps[False] < 26).mean() > 0.1


def test_videos_do_not_meet() -> None:
    """Digits of different videos neither collide nor take each other's places."""
    rng = np.random.default_rng(0)
    starts = [Billiard().draw(count, 12, 100, rng) for count in (2, 0, 3, 1)]
    together = Billiard().corners(starts, 12, 100)
    apart = [Billiard().corners([start], 12, 100) for start in starts]
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=1))
    assert together.shape == (12, 6, 2)


@pytest.mark.parametrize("recipe", RECIPES[:4])
def test_boxes_reproduce_every_pixel(digits: Digits, recipe: RatmDigitsRecipe) -> None:
    data, boxes = boxes_of(recipe, digits, 12)
    assert data.classes is not None
    assert data.visible is not None
    assert data.count is not None
    np.testing.assert_array_equal(data.count, (data.classes >= 0).sum(-1, keepdims=True).repeat(10, 1))
    np.testing.assert_allclose(data.visible, (boxes[..., 2] > 0), atol=1e-6)
    for video in range(12):
        inks = [find(digits, data, boxes, video, slot) for slot in range(data.count[video, 0])]
        for frame in range(10):
            canvas = np.zeros((recipe.image_size, recipe.image_size), np.uint8)
            for (left, top, width, height), ink in zip(boxes[video, frame], inks, strict=False):
                assert (width, height) == (28, 28)
                column, row = round(float(left)), round(float(top))
                place = canvas[row : row + 28, column : column + 28]
                assert place.shape == (28, 28), "the picture is in the frame"
                np.maximum(place, ink, out=place)
            np.testing.assert_array_equal(data.video[video, frame, 0], canvas)


def find(digits: Digits, data: VideoData, boxes: np.ndarray, video: int, slot: int) -> np.ndarray:
    """The picture whose class a slot has, and whose ink is in all of its boxes."""
    assert data.classes is not None
    fits = np.flatnonzero(digits.labels == data.classes[video, slot])
    for frame in range(len(boxes[video])):
        column, row = (round(float(x)) for x in boxes[video, frame, slot, :2])
        window = data.video[video, frame, 0, row : row + 28, column : column + 28]
        fits = fits[(digits.images[fits] <= window).all((1, 2))]
    # Of two such pictures, one of which is drawn over the other, the one with more ink.
    return digits.images[max(fits, key=lambda i: int(digits.images[i].sum()))]


def test_ink_is_inside_its_box(digits: Digits) -> None:
    data, boxes = boxes_of(RatmDigitsRecipe(frames=30), digits, 20)
    for video in range(20):
        for frame in range(30):
            rows, columns = np.nonzero(data.video[video, frame, 0])
            left, top = np.rint(boxes[video, frame, 0, :2])
            assert left <= columns.min() <= columns.max() < left + 28
            assert top <= rows.min() <= rows.max() < top + 28
            assert columns.max() - columns.min() + rows.max() - rows.min() > 20


@pytest.mark.parametrize("recipe", RECIPES)
def test_videos_are_a_pure_function_of_their_index(digits: Digits, recipe: RatmDigitsRecipe) -> None:
    videos = MovingDigits(recipe, digits, 20, 5)
    whole = videos.subset(range(20))
    order = np.random.default_rng(0).permutation(20)
    for part in (order[:4], order[4:5], order[5:], [3, 3, 19]):
        assert_same(videos.subset(part), whole.subset(part))
    assert_same(MovingDigits(recipe, digits, 200, 5).subset(range(20)), whole)
    assert len(videos.batch([]).video) == 0
    other = MovingDigits(recipe, digits, 20, 6).subset(range(20))
    assert (other.video != whole.video).any((2, 3, 4)).all(1).mean() > 0.5


@pytest.mark.parametrize("recipe", RECIPES[:4])
def test_test_videos_go_on_from_shorter_ones(digits: Digits, recipe: RatmDigitsRecipe) -> None:
    short, _ = boxes_of(recipe, digits, 6)
    long, _ = boxes_of(dataclasses.replace(recipe, frames=30), digits, 6)
    np.testing.assert_array_equal(long.video[:, :10], short.video)


def assert_same(a: VideoData, b: VideoData) -> None:
    np.testing.assert_array_equal(a.video, b.video)
    for name, value in a.labels().items():
        np.testing.assert_array_equal(value, b.labels()[name])


def test_digits_of_a_video_are_different_pictures() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images[:, 4:24, 10:18] = 255
    few = Digits(images, np.arange(3, dtype=np.uint8))
    data, _ = boxes_of(RatmDigitsRecipe(3, 3, 120), few, 60)
    assert data.classes is not None
    assert (np.sort(data.classes) == [0, 1, 2]).all()
    counts = np.bincount(data.classes[:, 0], minlength=3)
    assert stats.chisquare(counts).pvalue > 1e-3, "the target is any of them"
    data, _ = boxes_of(RatmDigitsRecipe(0, 3, 120, frames=1), few, 400)
    assert data.count is not None
    assert stats.chisquare(np.bincount(data.count[:, 0], minlength=4)).pvalue > 1e-3


def test_splits_take_their_own_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits_module, "DEFAULT_GLYPHS", 10)
    train, test = (
        moving_digit_videos(PAIR, split, 3, 0, source="glyphs").subset(range(3))  # type: ignore[arg-type]
        for split in ("train", "test")
    )
    assert train.video.shape == (3, 10, 1, 100, 100)
    assert (train.video != test.video).any()


def test_mnist(mnist: Digits) -> None:
    data, boxes = boxes_of(RatmDigitsRecipe(), mnist, 10)
    assert data.classes is not None
    for video in range(10):
        picture = find(mnist, data, boxes, video, 0)
        left, top = np.rint(boxes[video, 9, 0, :2]).astype(int)
        found = data.video[video, 9, 0, top : top + 28, left : left + 28]
        np.testing.assert_array_equal(found, picture)


def test_rules_have_names() -> None:
    assert [MOTIONS[name]() for name in ("momentum", "released", "billiard")] == [
        MomentumWalk(),
        ReleasedWalk(),
        Billiard(),
    ]
    assert RatmDigitsRecipe().motion == MomentumWalk()


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (RatmDigitsRecipe, {"min_objects": 2}, "`min_objects` <= `max_objects`.*got 2 and 1"),
        (RatmDigitsRecipe, {"frames": 0}, "`frames` must be at least 1, got 0"),
        (RatmDigitsRecipe, {"noise_std": math.nan}, "`noise_std` must not be negative"),
        (RatmDigitsRecipe, {"image_size": 43}, "`image_size` must be at least 44.*got 43"),
        (RatmDigitsRecipe, {"image_size": 28, "motion": Billiard()}, "`image_size` must be at least 29"),
        (MomentumWalk, {"inertia": 1.1}, r"`inertia` must be in \[0, 1\], got 1.1"),
        (ReleasedWalk, {"max_step": 0}, "`max_step` must be at least 1, got 0"),
        (Billiard, {"inertia": -0.1}, r"`inertia` must be in \[0, 1\], got -0.1"),
        (Billiard, {"std": math.inf}, "`std` must not be negative and finite, got inf"),
        (Billiard, {"min_speed": 0.6}, "`min_speed` <= `speed` <= `max_speed`, got 0.6, 0.5 and 0.75"),
        (Billiard, {"max_speed": 0.4}, "`min_speed` <= `speed` <= `max_speed`, got 0.25, 0.5 and 0.4"),
    ],
)
def test_impossible_recipes_are_refused(make: type, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_the_smallest_frames_work(digits: Digits) -> None:
    for recipe in (
        RatmDigitsRecipe(image_size=44, frames=60),
        RatmDigitsRecipe(image_size=44, frames=60, motion=ReleasedWalk()),
        RatmDigitsRecipe(image_size=29, frames=20, motion=Billiard()),
    ):
        _, boxes = boxes_of(recipe, digits, 8)
        assert boxes[..., :2].min() >= 0
        assert (boxes[..., :2] + 28).max() <= recipe.image_size


def test_too_many_digits_are_refused(digits: Digits) -> None:
    crowded = MovingDigits(RatmDigitsRecipe(4, 4, 60, motion=Billiard()), digits, 1, 0)
    with pytest.raises(ValueError, match="no place for 4 balls"):
        crowded.batch([0])
