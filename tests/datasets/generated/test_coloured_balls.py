import dataclasses

import numpy as np
import pytest
import torch

from whatwhere.datasets import BALLS, ColouredBalls, ColouredBallsRecipe, coloured_ball_videos
from whatwhere.datasets.generated.collisions import Balls, next_frame

COLOURS = {"blue": 0, "aqua": 2, "red": 3, "fuchsia": 4, "yellow": 5}


def centres_of(name: str, number: int, **changes: int) -> np.ndarray:
    recipe = dataclasses.replace(BALLS[name], **changes)
    drawn = [recipe.draw(np.random.default_rng([3, i])) for i in range(number)]
    return recipe.follow(Balls(*(np.stack([balls[part] for balls in drawn]) for part in (0, 1))))


def errors(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Mean distance in each frame, in widths of the frame."""
    return np.linalg.norm(predicted - true, axis=-1).mean((0, 2)) / 64


@pytest.mark.parametrize(
    ("name", "stays", "goes"),
    [
        ("balls-occlusion", (2.17, 0.381), (0.109, 0.030)),
        ("balls-interaction", (1.74, 0.352), (0.989, 0.354)),
    ],
)
def test_who_stays_and_who_goes_on_are_as_far_off_as_measured(
    name: str, stays: tuple[float, float], goes: tuple[float, float]
):
    """After ten frames: the sum over the next ten, and the mean over ninety.

    What was measured is of 200 videos; going on straight it is uncertain by a twentieth.
    """
    centres = centres_of(name, 300)
    seen, later = centres[:, :10], centres[:, 10:]
    stay = errors(seen[:, -1:], later)
    assert stay[:10].sum() == pytest.approx(stays[0], rel=0.05)
    assert stay.mean() == pytest.approx(stays[1], rel=0.05)
    balls, straight = Balls(seen[:, -1], seen[:, -1] - seen[:, -2]), []
    for _ in range(90):
        balls = next_frame(balls, 8.0, collide=False, box=64, sub_steps=10)
        straight.append(balls.position)
    go = errors(np.stack(straight, 1), later)
    assert go[:10].sum() == pytest.approx(goes[0], rel=0.12, abs=0.03)
    assert go.mean() == pytest.approx(goes[1], rel=0.05, abs=0.015)


def test_balls_hide_each_other_only_where_they_do_not_collide():
    def overlapping(centres: np.ndarray) -> np.ndarray:
        ways = np.linalg.norm(centres[:, :, :, None] - centres[:, :, None], axis=-1)
        i, j = np.tril_indices(centres.shape[2], -1)
        return ways[:, :, i, j] < 15.4

    assert overlapping(centres_of("balls-occlusion", 100)).any(-1).mean() == pytest.approx(0.60, abs=0.06)
    assert overlapping(centres_of("balls-interaction", 50)).mean() < 0.01
    layers = centres_of("balls-two-layers", 30, frames=60)
    assert overlapping(layers[:, :, :3]).mean() < 0.01
    assert overlapping(layers[:, :, 3:]).mean() < 0.01
    assert overlapping(layers).mean() > 0.1
    assert not overlapping(layers[:, :1]).any()
    dense = centres_of("balls-dense", 4, frames=1)
    ways = np.linalg.norm(dense[:, 0, :, None] - dense[:, 0, None], axis=-1) + 100 * np.eye(16)
    assert ways.min() >= 10


def test_balls_go_three_pixels_a_frame_and_stay_inside():
    centres = centres_of("balls-occlusion", 20)
    steps = np.linalg.norm(np.diff(centres, axis=1), axis=-1)
    assert steps.max() <= 3 + 1e-9
    assert np.median(steps) == pytest.approx(3)
    assert centres.min() > 7.6
    assert centres.max() < 56.4


@pytest.mark.parametrize("name", BALLS)
def test_what_is_seen_is_what_the_labels_say(name: str):
    """A pixel within a circle belongs to the last drawn of those that cover it, and has its colour."""
    recipe = dataclasses.replace(BALLS[name], frames=3)
    data = ColouredBalls(recipe, 4, 1).subset(range(4))
    rgb = np.array([[0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0], [1, 0, 1], [1, 1, 0]]) * 255
    ys, xs = np.mgrid[:64, :64] + 0.5
    for video, t in np.ndindex(4, 3):
        expected, sure = np.zeros((64, 64), int), np.ones((64, 64), bool)
        for ball, (left, top, width, height) in enumerate(data.boxes[video, t]):
            distance = np.hypot(xs - left - width / 2, ys - top - height / 2)
            expected[distance < width / 2] = ball + 1
            sure &= abs(distance - width / 2) > 0.5
        np.testing.assert_array_equal(data.segments[video, t][sure], expected[sure])
        colours = np.concatenate([[[0, 0, 0]], rgb[data.classes[video]]])
        np.testing.assert_array_equal(data.video[video, t].transpose(1, 2, 0)[sure], colours[expected[sure]])
        assert sure.mean() > 0.6
    assert (data.count == recipe.max_objects).all()
    np.testing.assert_allclose(data.visible, 1, atol=0.02)


def test_edges_are_smooth():
    """The whole of a circle has its area."""
    recipe = ColouredBallsRecipe(objects=1, frames=5)
    data = ColouredBalls(recipe, 6, 0).subset(range(6))
    brightest = data.video.astype(float).max(2) / 255
    np.testing.assert_allclose(brightest.sum((-1, -2)), np.pi * 64, rtol=0.01)
    assert ((brightest > 0.05) & (brightest < 0.95)).any((-1, -2)).all()


def test_colours_are_as_published():
    def classes(name: str) -> np.ndarray:
        recipe = dataclasses.replace(BALLS[name], frames=1)
        return ColouredBalls(recipe, 150, 0).subset(range(150)).classes

    occlusion, interaction = classes("balls-occlusion"), classes("balls-interaction")
    assert all(len(set(row)) == 3 for row in occlusion.tolist())
    # Five colours with replacement: all different in 12 of 25 videos.
    assert np.mean([len(set(row)) == 3 for row in interaction.tolist()]) == pytest.approx(0.48, abs=0.13)
    assert set(occlusion.ravel()) == set(interaction.ravel()) == set(COLOURS.values())
    assert classes("balls-two-layers")[0].tolist() == [0, 0, 0, 3, 3, 3]


def test_a_video_is_a_function_of_its_number_and_begins_with_the_shorter_one():
    recipe = dataclasses.replace(BALLS["balls-interaction"], frames=6)
    data = ColouredBalls(recipe, 10, 1)
    whole, one = data.batch(range(5)), data.batch([3])
    assert torch.equal(whole.video[3], one.video[0])
    assert torch.equal(whole.classes[3], one.classes[0])
    longer = ColouredBalls(dataclasses.replace(recipe, frames=9), 10, 1).batch([3])
    assert torch.equal(longer.video[:, :6], one.video)
    assert not torch.equal(coloured_ball_videos(recipe, "test", 10, 1).batch([3]).video, one.video)
    assert len(data.batch([]).video) == 0


def test_as_many_balls_as_segments_can_number():
    recipe = ColouredBallsRecipe(objects=255, collide=False, apart=False, radius=1.0, frames=1)
    segments = ColouredBalls(recipe, 1, 0).subset([0]).segments
    assert segments is not None
    assert segments.max() == 255


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="distinct"):
        ColouredBallsRecipe(objects=6, distinct=True)
    with pytest.raises(ValueError, match="image_size"):
        ColouredBallsRecipe(radius=32.0)
    with pytest.raises(ValueError, match="`objects` must be at most 255, got 300"):
        ColouredBallsRecipe(objects=300)
    with pytest.raises(ValueError, match="`objects` must be at most 127, got 128"):
        ColouredBallsRecipe(objects=128, layers=2)
    with pytest.raises(ValueError, match="no place for 20 balls"):
        ColouredBallsRecipe(objects=20).draw(np.random.default_rng(0))
    with pytest.raises(ValueError, match="split"):
        coloured_ball_videos(ColouredBallsRecipe(), "validation", 1, 0)  # type: ignore[arg-type]
