import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from whatwhere.datasets import ActionClips, ActionFrames, normalised_joints
from whatwhere.datasets.feeding.action_clips import cut_out, draw_from_parts


class Numbered:
    """Videos whose frame t is grey t everywhere but in one corner, where the joint is."""

    def __init__(self, *lengths: int, size: tuple[int, int] = (6, 8), joints: bool = True) -> None:
        self.labels = np.arange(len(lengths))
        self.names = self.labels.astype(str)
        self.lengths = np.array(lengths)
        self.shape = (1, *size)
        self.joints = joints
        self.asked: list[list[int]] = []

    def frames(self, index: int, numbers: NDArray[np.int64]) -> ActionFrames:
        assert (np.diff(numbers) > 0).all()
        self.asked.append(numbers.tolist())
        video = np.broadcast_to(numbers[:, None, None, None], (len(numbers), *self.shape)).astype(np.uint8)
        video = video.copy()
        video[:, :, 1, 2] = 255
        joints = np.tile(np.float32([2, 1]), (len(numbers), 1, 1, 1)) if self.joints else None
        return ActionFrames(video, joints)


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(count)]


@pytest.mark.parametrize(("length", "parts"), [(80, 8), (37, 8), (8, 8), (3, 8), (1, 2)])
def test_a_frame_out_of_each_part(length: int, parts: int):
    found = np.stack([draw_from_parts(length, parts, rng) for rng in rngs(300)])
    assert found.shape == (300, parts)
    for part in range(parts):
        low, high = length * part / parts, length * (part + 1) / parts
        numbers = found[:, part]
        assert ((numbers + 1 > low) & (numbers < high)).all()
        # All that have at least half a frame in the part are met.
        expected = {n for n in range(length) if min(n + 1, high) - max(n, low) >= 0.5}
        assert expected <= set(numbers.tolist())


def test_clips_are_from_a_stretch_and_leave_the_end_out():
    source = Numbered(50)
    clips = ActionClips(source, 4, stretch=20, drop=5)
    starts = []
    for rng in rngs(200):
        numbers = (clips.batch([0], [rng]).video[0, :, 0, 0, 0] * 255).round().long().tolist()
        assert numbers == sorted(numbers)
        assert numbers[-1] - numbers[0] < 20
        assert numbers[-1] < 45
        starts.append(numbers[0])
    assert min(starts) < 5
    assert max(starts) > 20


def test_short_videos_give_frames_twice_and_read_them_once():
    source = Numbered(2)
    batch = ActionClips(source, 6).batch([0], rngs(1))
    assert (batch.video[0, :, 0, 0, 0] * 255).round().tolist() == [0, 0, 0, 1, 1, 1]
    assert source.asked == [[0, 1]]


def test_joints_go_with_the_pixels():
    source = Numbered(30)
    clips = ActionClips(source, 3, size=(5, 6), shift=2, mirror=True)
    for rng in rngs(60):
        batch = clips.batch([0], [rng])
        assert batch.joints is not None
        assert batch.seen is not None
        assert batch.seen.all()
        places = (batch.joints[0, :, 0, 0] + 1) / 2 * torch.tensor([5.0, 4.0])
        for frame, (x, y) in zip(batch.video[0, :, 0], places, strict=True):
            bright = (frame > 0.9).nonzero()
            if len(bright):
                assert bright.tolist() == [[round(float(y)), round(float(x))]]
            else:  # it was cut off, and the joint is at the border
                assert x in (0, 5) or y in (0, 4)


def test_nobody_is_at_minus_one():
    joints = torch.tensor([[[[0.0, 0.0], [7.0, 5.0]], [[torch.nan, 1.0], [1.0, 1.0]]]])
    places, seen = normalised_joints(joints, (6, 8))
    assert places.tolist() == [[[[-1, -1], [1, 1]], [[-1, -1], [-1, -1]]]]
    assert seen.tolist() == [[True, False]]
    outside, _ = normalised_joints(torch.tensor([[[100.0, -3.0]]]), (6, 8))
    assert outside.tolist() == [[[1, -1]]]


def test_a_source_without_joints():
    batch = ActionClips(Numbered(9, 9, joints=False), 2).batch([1, 0], rngs(2))
    assert batch.joints is None
    assert batch.seen is None
    assert batch.labels.tolist() == [1, 0]


@pytest.mark.parametrize("corner", [(0, 0), (-2, 3), (4, -3), (-1, -1), (3, 4)])
def test_what_is_outside_is_black(corner: tuple[int, int]):
    video = np.random.default_rng(0).integers(1, 255, (2, 1, 6, 8), dtype=np.uint8)
    found = cut_out(video, corner, (5, 6))
    for row in range(5):
        for column in range(6):
            y, x = corner[0] + row, corner[1] + column
            inside = 0 <= y < 6 and 0 <= x < 8
            expected = video[..., y, x] if inside else np.zeros((2, 1))
            np.testing.assert_array_equal(found[..., row, column], expected)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="size"):
        ActionClips(Numbered(9), 2, size=(7, 8))
    with pytest.raises(ValueError, match="frames"):
        ActionClips(Numbered(9), 0)
    with pytest.raises(IndexError):
        ActionClips(Numbered(9), 2).batch([1], rngs(1))


def test_zoomed_clips_show_the_same_at_another_size():
    source = Numbered(30, size=(60, 80))
    clips = ActionClips(source, 2, zoom=2.0)
    sides = []
    for rng in rngs(80):
        batch = clips.batch([0], [rng])
        assert batch.video.shape == (1, 2, 1, 60, 80)
        frame = batch.video[0, 1, 0]
        rows, columns = (frame > 0.2).nonzero().unbind(1)
        whole = (frame > 0).nonzero()
        assert batch.joints is not None
        x, y = (batch.joints[0, 1, 0, 0] + 1) / 2 * torch.tensor([79.0, 59.0])
        if not len(rows) or min(rows.min(), columns.min()) == 0 or columns.max() == 79 or rows.max() == 59:
            continue  # cut off
        weights = frame[rows, columns]
        assert abs((rows * weights).sum() / weights.sum() - y) < 0.6
        assert abs((columns * weights).sum() / weights.sum() - x) < 0.6
        sides.append((whole[:, 1].max() - whole[:, 1].min() + 1) / 80)
    assert min(sides) < 0.6
    assert all(0.49 < side <= 1 for side in sides)


def test_speed_is_that_of_the_stretch():
    source = Numbered(200)
    clips = ActionClips(source, 2, stretch=40, speed=2.0)
    first, last = [], []
    for rng in rngs(400):
        numbers = (clips.batch([0], [rng]).video[0, :, 0, 0, 0] * 255).round()
        first.append(float(numbers[0]))
        last.append(float(numbers[1] - numbers[0]))
    assert max(last) < 80
    assert max(last) > 50
    # The mean of a stretch's length is 40 (4 - 1) / (2 * 2 log 2), and of the distance half of it.
    assert abs(np.mean(last) - 40 * 1.5 / (2 * np.log(2)) / 2) < 1.5


def test_no_zoom_shift_or_speed_leaves_what_there_is():
    clips = ActionClips(Numbered(10), 8, drop=9, shift=5, zoom=4.0, speed=4.0)
    for rng in rngs(60):
        batch = clips.batch([0], [rng])
        assert batch.video.shape == (1, 8, 1, 6, 8)
    assert clips.source.asked == [[0]] * 60
    with pytest.raises(ValueError, match="`shift` must be less"):
        ActionClips(Numbered(10), 8, shift=6)


@pytest.mark.parametrize("corner", [(-9, 0), (7, 0), (0, 9), (0, -20), (40, 40)])
def test_a_rectangle_outside_of_the_frame_is_black(corner: tuple[int, int]):
    assert not cut_out(np.ones((2, 1, 6, 8), np.uint8), corner, (6, 7)).any()


def test_nothing_is_drawn_for_what_is_not_varied():
    plain, named = (
        ActionClips(Numbered(50), 4, stretch=20, **more) for more in ({}, {"zoom": 1, "speed": 1})
    )
    for one, other in zip(plain.batch([0, 0], rngs(2))[:3], named.batch([0, 0], rngs(2))[:3], strict=True):
        assert torch.equal(one, other)
    for bad in ({"zoom": 0.5}, {"speed": 0.9}):
        with pytest.raises(ValueError, match=str(next(iter(bad)))):
            ActionClips(Numbered(50), 4, **bad)
