import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from whatwhere.datasets import BouncingBalls, BouncingBallsRecipe, VideoData, bouncing_ball_videos, present
from whatwhere.models.components.boxes import iou

MANY = BouncingBallsRecipe(0, 4, image_size=30, radius=0.9, speed=1.0)


def labels_of(
    recipe: BouncingBallsRecipe, number: int, seed: int = 0
) -> tuple[VideoData, np.ndarray, np.ndarray]:
    """Videos, their boxes, and what is visible."""
    data = BouncingBalls(recipe, number, seed).subset(range(number))
    assert data.boxes is not None
    assert data.visible is not None
    return data, data.boxes.astype(float), data.visible


def ink(box: np.ndarray, side: int, margin: int) -> np.ndarray:
    """Intensities of one ball, by its box, in a frame with a margin."""
    values = np.zeros((side + 2 * margin, side + 2 * margin))
    left, top, width, height = box
    for row in range(-margin, side + margin):
        for column in range(-margin, side + margin):
            across, down = column + 0.5 - left - width / 2, row + 0.5 - top - height / 2
            values[row + margin, column + margin] = math.exp(
                -(((across**2 + down**2) / (width / 2) ** 2) ** 4)
            )
    return values


@pytest.mark.parametrize("recipe", [BouncingBallsRecipe(frames=8), dataclasses.replace(MANY, frames=6)])
def test_boxes_reproduce_every_pixel(recipe: BouncingBallsRecipe) -> None:
    # So fast that balls reach far beyond walls.
    recipe, margin = dataclasses.replace(recipe, speed=4.0), 10
    data, boxes, visible = labels_of(recipe, 6)
    assert visible[boxes[..., 2] > 0].min() < 0.9, "some must be cut off"
    side = recipe.image_size
    for video in range(6):
        for frame in range(recipe.frames):
            canvas = np.zeros((side, side))
            for slot, box in enumerate(boxes[video, frame]):
                if box[2]:
                    whole = ink(box, side, margin)
                    inner = whole[margin : margin + side, margin : margin + side]
                    canvas += inner
                    assert visible[video, frame, slot] == pytest.approx(inner.sum() / whole.sum(), abs=1e-4)
            # Labels have 24 bits, so a pixel near a half may be rounded the other way.
            exact = 255 * np.minimum(canvas, 1)
            assert abs(data.video[video, frame, 0] - exact).max() <= 0.5 + 1e-2


def test_ink_fills_the_boxes() -> None:
    """A ball is darker than 1 / e outside its circle only."""
    data, boxes, visible = labels_of(BouncingBallsRecipe(image_size=100, frames=12), 10)
    for video in range(10):
        for frame in range(12):
            if visible[video, frame, 0] < 0.9999:
                continue
            rows, columns = np.nonzero(data.video[video, frame, 0] >= 255 / math.e)
            start, end = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
            found = torch.tensor(np.concatenate([start, end - start]), dtype=torch.float64)
            assert iou(found, torch.from_numpy(boxes[video, frame, 0])) > 0.88


def test_one_ball_keeps_its_speed() -> None:
    """By default 1 pixel a frame, straight on but for walls, always inside."""
    _, boxes, visible = labels_of(BouncingBallsRecipe(frames=300), 20)
    np.testing.assert_allclose(boxes[..., 2:], 4.8, rtol=1e-6)
    moves = np.diff(boxes[:, :, 0, :2], axis=1)
    straight = (abs(np.diff(moves, axis=1)) < 1e-4).all(-1)
    assert 0.7 < straight.mean() < 0.95
    speeds = np.sqrt((moves**2).sum(-1))
    np.testing.assert_allclose(speeds[:, 1:][straight], 1, atol=1e-4)
    centres = boxes[..., :2] + 2.4
    assert centres.min() >= 2.4 - 0.5 - 1e-4
    assert centres.max() <= 20 - 2.4 + 0.5 + 1e-4
    assert centres.min() < 2.4
    assert 0.95 < visible.min() < 0.98
    assert visible.max() == 1


def test_several_balls_share_the_speed() -> None:
    recipe = BouncingBallsRecipe(3, 3, radius=0.7, speed=0.6)
    drawn = [recipe.draw(np.random.default_rng(seed)) for seed in range(600)]
    velocities = np.stack([balls.velocity for balls in drawn])
    np.testing.assert_allclose((velocities**2).sum((1, 2)), 0.36)
    # Uniform on a sphere of six dimensions, so a squared share of one coordinate is Beta(1/2, 5/2).
    for ball in range(3):
        for axis in range(2):
            share = velocities[:, ball, axis] ** 2 / 0.36
            assert stats.kstest(share, stats.beta(0.5, 2.5).cdf).pvalue > 1e-3
    assert abs(velocities.mean(0)).max() < 0.06


def test_many_balls_stay_inside_and_conserve_energy() -> None:
    recipe = BouncingBallsRecipe(6, 6, radius=0.8, frames=300)
    _, boxes, _ = labels_of(recipe, 10)
    assert boxes.min() > -1
    assert (boxes[..., :2] + boxes[..., 2:]).max() < 21
    moves = np.diff(boxes[..., :2] / 2, axis=1)
    # A bounce in the middle of a frame shortens its displacement.
    assert (moves**2).sum((2, 3)).max() <= 0.25 + 1e-4
    quiet = (abs(np.diff(moves, axis=1)) < 1e-4).all((2, 3))
    np.testing.assert_allclose((moves[:, 1:][quiet] ** 2).sum((1, 2)), 0.25, atol=1e-4)
    assert quiet.sum() > 500


def test_patch_has_the_published_values() -> None:
    quarter = [[1, 0.999, 0.792], [0.999, 0.986, 0.567], [0.792, 0.567, 0.024]]
    patch = BouncingBallsRecipe().patch()
    assert patch.shape == (5, 5)
    np.testing.assert_allclose(patch[2:, 2:], quarter, atol=5e-4)
    for mirrored in (patch[::-1], patch[:, ::-1], patch.T):
        np.testing.assert_array_equal(mirrored, patch)
    # The middle of the side of the box: one radius from the centre.
    recipe = BouncingBallsRecipe(image_size=50, radius=1.0)
    assert recipe.diameter == pytest.approx(10)
    spread = recipe.patch(3, spacing=recipe.diameter / 2)
    e = math.exp(-1)
    corner = math.exp(-16)
    np.testing.assert_allclose(spread, [[corner, e, corner], [e, 1, e], [corner, e, corner]])
    even = BouncingBallsRecipe().patch(2)
    np.testing.assert_allclose(even, math.exp(-((0.5 / 2.4**2) ** 4)))


def test_baselines() -> None:
    """Mean overlap of simple answers with the true boxes of the default recipe, over 32 frames."""
    data, _, _ = labels_of(BouncingBallsRecipe(), 1000)
    assert data.boxes is not None
    boxes = torch.from_numpy(data.boxes[:, :, 0])
    assert iou(boxes, boxes[:, :1]).mean() == pytest.approx(0.111, abs=0.006)  # the first box, 4 sigma
    centre, frame = torch.tensor([7.6, 7.6, 4.8, 4.8]), torch.tensor([0.0, 0.0, 20.0, 20.0])
    assert iou(boxes, centre).mean() == pytest.approx(0.064, abs=0.006)
    assert iou(boxes, frame).mean() == pytest.approx((4.8 / 20) ** 2, abs=2e-3)


def test_labels_are_by_ball() -> None:
    data, boxes, visible = labels_of(MANY, 300)
    assert data.count is not None
    assert data.count.dtype == np.int64
    assert stats.chisquare(np.bincount(data.count[:, 0], minlength=5)).pvalue > 1e-3
    np.testing.assert_array_equal(data.count, data.count[:, :1].repeat(32, 1))
    here = np.arange(4) < data.count[..., None]
    np.testing.assert_array_equal(boxes[..., 2] > 0, here)
    np.testing.assert_array_equal(present(data.batch(range(300))).numpy(), here)
    assert not boxes[~here].any()
    np.testing.assert_array_equal(visible > 0, here)
    assert not data.video[data.count[:, 0] == 0].any()
    np.testing.assert_allclose(boxes[here][:, 2:], 5.4, rtol=1e-6)
    steps = abs(np.diff(boxes[..., :2], axis=1)).max()
    assert 1 < steps < 3 + 1e-4, "a slot stays with its ball"


@pytest.mark.parametrize("recipe", [BouncingBallsRecipe(), MANY])
def test_videos_are_a_pure_function_of_their_index(recipe: BouncingBallsRecipe) -> None:
    videos = BouncingBalls(recipe, 40, 5)
    whole = videos.subset(range(40))
    order = np.random.default_rng(0).permutation(40)
    for part in (order[:7], order[7:8], order[8:], [3, 3, 39]):
        assert_same(videos.subset(part), whole.subset(part))
    assert_same(BouncingBalls(recipe, 200, 5).subset(range(40)), whole)
    assert_same(pickle.loads(pickle.dumps(videos)).subset(range(40)), whole)
    for other in (BouncingBalls(recipe, 40, 6), BouncingBalls(recipe, 40, 5, purpose="x")):
        assert (other.subset(range(40)).video != whole.video).any((2, 3, 4)).all(1).mean() > 0.5


def assert_same(a: VideoData, b: VideoData) -> None:
    np.testing.assert_array_equal(a.video, b.video)
    assert a.labels().keys() == b.labels().keys() == {"count", "boxes", "visible"}
    for name, value in a.labels().items():
        np.testing.assert_array_equal(value, b.labels()[name])


def test_longer_videos_and_larger_frames_show_the_same_scene() -> None:
    short, boxes, _ = labels_of(MANY, 10)
    long, _, _ = labels_of(dataclasses.replace(MANY, frames=50), 10)
    np.testing.assert_array_equal(long.video[:, :32], short.video)
    _, large, _ = labels_of(dataclasses.replace(MANY, image_size=75), 10)
    np.testing.assert_allclose(large, 2.5 * boxes, rtol=1e-5, atol=1e-5)


def test_a_batch_is_the_subset_as_tensors() -> None:
    videos = BouncingBalls(MANY, 20, 0)
    batch, data = videos.batch(torch.tensor([7, 2])), videos.subset([7, 2]).batch([0, 1])
    assert len(videos) == 20
    assert videos.shape == (20, *batch.video.shape[1:])
    assert batch.classes is None
    for found, expected in zip(batch, data, strict=True):
        if found is not None:
            assert expected is not None
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)
    assert len(videos.batch([]).video) == 0
    with pytest.raises(IndexError, match=r"\[0, 20\), got 20 to 20"):
        videos.batch([20])


def test_splits_have_different_videos() -> None:
    train, test = (
        bouncing_ball_videos(BouncingBallsRecipe(), split, 5, 0).subset(range(5)).video  # type: ignore[arg-type]
        for split in ("train", "test")
    )
    assert (train != test).any((1, 2, 3, 4)).all()
    with pytest.raises(ValueError, match="`split` must be 'train' or 'test', got 'valid'"):
        bouncing_ball_videos(BouncingBallsRecipe(), "valid", 5, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_objects": 2}, "`min_objects` <= `max_objects`.*got 2 and 1"),
        ({"image_size": 0}, "`image_size` must be at least 1, got 0"),
        ({"frames": 0}, "`frames` must be at least 1, got 0"),
        ({"radius": 0.0}, r"`radius` must be in \(0, 5\), got 0"),
        ({"radius": 5.0}, r"`radius` must be in \(0, 5\), got 5"),
        ({"radius": math.nan}, r"`radius` must be in \(0, 5\), got nan"),
        ({"radius": 0.1}, r"`radius` must be at least half a pixel, 0\.25, got 0\.1"),
        ({"speed": -0.5}, "`speed` must not be negative, got -0.5"),
        ({"speed": math.inf}, "`speed` must not be negative and finite, got inf"),
    ],
)
def test_impossible_recipes_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BouncingBallsRecipe(**arguments)


def test_balls_of_half_a_pixel_are_visible() -> None:
    recipe = BouncingBallsRecipe(radius=0.25)
    visible = BouncingBalls(recipe, 20, 0).subset(range(20)).visible
    assert visible is not None
    np.testing.assert_allclose(visible, 1, atol=1e-6)  # they turn round before they leave


def test_impossible_data_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        BouncingBalls(BouncingBallsRecipe(), 0, 0)
    with pytest.raises(ValueError, match="`seed` must be in"):
        BouncingBalls(BouncingBallsRecipe(), 1, -1)
    crowded = BouncingBalls(BouncingBallsRecipe(4, 4, radius=3.0), 1, 0)
    with pytest.raises(ValueError, match="no place for 4 balls"):
        crowded.batch([0])
