"""Pasted videos: the same whichever way they are asked for, and boxes where the pixels are."""

import numpy as np
import pytest

from whatwhere.datasets import PastedRecipe, PastedVideos, pasted_videos

PLAIN = {
    "occluders": 0.0,
    "absences": 0.0,
    "changing": 0.0,
    "blurred": 0.0,
    "grey": 0.0,
    "brightness": 0.0,
    "noise_std": 0.0,
    "camera": 0.0,
    "growth": 0.0,
    "max_distractors": 0,
}


def pictures(count: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [(40, 60), (64, 48), (80, 80), (33, 90)]
    made = [rng.integers(0, 256, (*sizes[i % 4], 3), dtype=np.uint8) for i in range(count)]
    made[-1] = made[-1][..., 0]  # a grey one
    return made


def test_a_video_is_a_function_of_seed_and_number():
    recipe = PastedRecipe(image_size=(40, 48), frames=6)
    videos = PastedVideos(recipe, pictures(), 10, seed=3)
    assert videos.shape == (10, 6, 3, 40, 48)
    together, alone = videos.subset([7, 2]), PastedVideos(recipe, pictures(), 10, seed=3).subset([2])
    np.testing.assert_array_equal(together.video[1], alone.video[0])
    np.testing.assert_array_equal(together.boxes[1], alone.boxes[0])
    assert (PastedVideos(recipe, pictures(), 10, seed=4).subset([2]).video != alone.video).any()
    assert (PastedVideos(recipe, pictures(), 10, 3, purpose="other").subset([2]).video != alone.video).any()


def test_a_longer_video_begins_with_the_shorter_one():
    short, long = (
        PastedVideos(PastedRecipe(image_size=40, frames=frames), pictures(), 6, seed=0).subset(range(6))
        for frames in (4, 9)
    )
    np.testing.assert_array_equal(short.boxes, long.boxes[:, :4])
    assert np.abs(short.video.astype(int) - long.video[:, :4].astype(int)).max() <= 1


def test_the_box_is_around_what_is_pasted():
    # A white ground and black things: what is dark is the object.
    white, black = (np.full((60, 60, 3), level, dtype=np.uint8) for level in (255, 0))
    recipe = PastedRecipe(image_size=64, frames=5, sides=(0.3, 0.4), turning=1.0, **PLAIN)
    found = 0
    for index in range(30):
        made = PastedVideos(recipe, [white, black], 40, seed=1).subset([index])
        ink = (255 - made.video[0, :, 0].astype(float)) / 255
        if not 0 < ink[0].mean() < 0.3:
            continue  # both are of one colour, or the ground is black
        for frame, (left, top, width, height) in zip(ink, made.boxes[0, :, 0], strict=True):
            rows, columns = np.flatnonzero((frame > 0.5).any(1)), np.flatnonzero((frame > 0.5).any(0))
            inside = left > 1 and left + width < 63 and top > 1 and top + height < 63
            if inside:
                assert abs(columns[0] - left) < 1.6
                assert abs(columns[-1] + 1 - left - width) < 1.6
                assert abs(rows[0] - top) < 1.6
                assert abs(rows[-1] + 1 - top - height) < 1.6
                found += 1
    assert found > 10


def test_a_lens_out_of_focus_spreads_each_pixel_and_moves_none():
    rng = np.random.default_rng(1)
    sharp, soft = (
        PastedVideos(
            PastedRecipe(image_size=(30, 40), frames=2, **{**PLAIN, "blurred": share}), pictures(), 1, 5
        )
        .subset([0])
        .video.astype(float)
        for share in (0.0, 1.0)
    )
    y, x = int(rng.integers(1, 29)), int(rng.integers(1, 39))
    around = sharp[0, 0, :, y - 1 : y + 2, x - 1 : x + 2].mean((1, 2))
    np.testing.assert_allclose(soft[0, 0, :, y, x], around, atol=1)


def test_targets_go_away_and_come_back():
    recipe = PastedRecipe(image_size=32, frames=40, **{**PLAIN, "absences": 1.0})
    made = PastedVideos(recipe, pictures(), 5, seed=0).subset(range(5))
    there = made.count > 0
    assert there[:, :3].all()
    assert not there.all(1).any()
    assert there[:, -1].all()  # at most 24 + 10 frames from the start
    assert not made.boxes[~there].any()
    assert not made.visible[~there].any()
    assert (made.boxes[there][..., 2:] > 0).all()


def test_sizes_and_steps_are_as_told():
    recipe = PastedRecipe(image_size=100, frames=200, sides=(0.1, 0.3), shift=0.05, **PLAIN, turning=0.0)
    boxes = PastedVideos(recipe, pictures(), 30, seed=0).subset(range(30)).boxes[:, :, 0]
    longer = boxes[:, 0, 2:].max(-1)
    assert (longer >= 9.9).all()
    assert (longer <= 30.1).all()
    middles = boxes[..., :2] + boxes[..., 2:] / 2
    steps = np.abs(np.diff(middles, axis=1)) / boxes[:, :1, 2:]
    assert (middles >= 5.9).all()
    assert (middles <= 94.1).all()
    # Root mean squares are 0.05 times factors of 0.3 to 3, but for the mirror at the border.
    roots = np.sqrt((steps**2).mean(1))
    assert roots.min() > 0.012
    assert roots.max() < 0.2


def test_train_and_test_have_other_pictures():
    recipe = PastedRecipe(image_size=16, frames=1, **PLAIN)
    levels = [np.full((20, 20), 10 * i, dtype=np.uint8) for i in range(20)]
    for split, known in (("train", range(18)), ("test", range(18, 20))):
        seen = set(
            np.unique(pasted_videos(recipe, levels, split, 60, 0).subset(range(60)).video[:, :, :, 0, 0])
        )
        assert seen
        assert seen <= {10 * i for i in known}


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="`sides` must be"):
        PastedRecipe(sides=(0.5, 0.2))
    with pytest.raises(ValueError, match="`occluders` must be in"):
        PastedRecipe(occluders=2.0)
    with pytest.raises(ValueError, match="at least 16 x 16"):
        PastedVideos(PastedRecipe(), [np.zeros((8, 90), np.uint8)], 1, 0)
    with pytest.raises(ValueError, match="`pictures` must be of uint8, got float64"):
        PastedVideos(PastedRecipe(), [pictures()[0], pictures()[0] / 255], 1, 0)
    for size in ((64,), (64, 64, 64), 64.0):
        with pytest.raises(ValueError, match="`image_size` must be"):
            PastedRecipe(image_size=size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least two"):
        pasted_videos(PastedRecipe(), pictures(1), "train", 1, 0)
