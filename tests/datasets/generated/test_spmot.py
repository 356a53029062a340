import numpy as np
import pytest
import torch
from scipy import stats

from whatwhere.datasets import SpMOT, SpMOTRecipe, spmot_videos
from whatwhere.datasets.generated.spmot import SHAPES, _shown


def endless(frames: int, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Whether one slot shows an object in each frame of an endless video, and how long objects were shown.

    Frame by frame, as the recipe is written down, from an empty scene on.
    """
    on, lives, wait = np.zeros(frames, bool), [], 6
    centre, step = None, np.zeros(2)
    for t in range(frames):
        if centre is not None:
            centre = centre + step
            if centre.min() < 10 or centre.max() > 117:
                centre, wait = None, 5
                continue
            lives[-1] += 1
        elif wait:
            wait -= 1
            continue
        elif rng.random() < 0.5:
            # It is shown from the next frame on.
            centre = np.array([10, rng.uniform(10, 117)])
            way = np.array([117, rng.uniform(10, 117)]) - centre
            step = 5.3 * way / np.hypot(*way)
            centre = centre - step
            lives.append(0)
            continue
        on[t] = centre is not None
    return on, lives


def test_clips_are_cuts_of_endless_videos():
    """Objects in a frame, and clips in which an object follows another, as in an endless slot times three."""
    on, lives = endless(30_000, np.random.default_rng(0))
    cuts = on[500:].reshape(-1, 10)
    again = ((np.diff(cuts.astype(int)) == 1) & (np.cumsum(cuts, axis=-1)[:, :-1] > 0)).any(1)
    expected = stats.binom(3, on[500:].mean()).pmf(range(4))

    clips = [[_shown(10, np.random.default_rng([1, i, slot])) for slot in range(3)] for i in range(2000)]
    shown = np.zeros((len(clips), 10), int)
    for i, clip in enumerate(clips):
        for slot in clip:
            for born, sprite in slot:
                shown[i, max(born, 0) : born + sprite.life] += 1
    shares = np.bincount(shown.ravel(), minlength=4) / shown.size
    np.testing.assert_allclose(shares, expected, atol=0.02)
    # As measured on the original recipe, within 2 %.
    assert shown.mean() == pytest.approx(2.21, rel=0.02)
    np.testing.assert_allclose(shares, [0.017, 0.151, 0.434, 0.397], atol=0.02)
    assert np.mean([sum(map(len, clip)) for clip in clips]) == pytest.approx(3.1, rel=0.02)
    assert np.mean([max(map(len, clip)) > 1 for clip in clips]) == pytest.approx(
        1 - (1 - again.mean()) ** 3, abs=0.02
    )
    born = [sprite.life for clip in clips for slot in clip for first, sprite in slot if first > 0]
    assert np.mean(born) == pytest.approx(np.mean(lives[:-1]), rel=0.02)
    assert np.percentile(born, [5, 95]).tolist() == [21, 26]


def test_sprites_are_of_the_published_sizes_and_overlap_as_often():
    data = SpMOT(SpMOTRecipe(), 80, 0).subset(range(80))
    boxes = 2 * data.boxes
    sides = boxes[boxes[..., 2] > 0][:, 2:]
    assert sides.min() >= 17
    assert sides.max() <= 26
    assert sides.max() - sides.min() >= 7
    pairs = []
    for frame in boxes.reshape(-1, *boxes.shape[2:]):
        here = frame[frame[:, 2] > 0]
        middles = here[:, :2] + here[:, 2:] / 2
        pairs += [
            (abs(middles[i] - middles[j]) < (here[i, 2:] + here[j, 2:]) / 2).all()
            for i in range(len(here))
            for j in range(i)
        ]
    assert np.mean(pairs) == pytest.approx(0.14, abs=0.025)


def test_what_is_seen_is_what_the_labels_say():
    """Each segment has the colour of its object; nothing else is in the frame; boxes are around it."""
    data = SpMOT(SpMOTRecipe(frames=12, image_size=128), 12, 3).subset(range(12))
    corners = np.array([[0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0], [1, 0, 1], [1, 1, 0]]) * 255
    assert set((data.classes[data.classes >= 0] % len(SHAPES)).tolist()) == {0, 1, 2, 3}
    alone = 0
    for video, t in np.ndindex(12, 12):
        pixels, segments = data.video[video, t], data.segments[video, t]
        assert data.count[video, t] == (data.boxes[video, t, :, 2] > 0).sum()
        assert data.count[video, t] <= 3
        for which, box in enumerate(data.boxes[video, t]):
            if not box[2]:
                assert not (segments == which + 1).any()
                continue
            own = segments == which + 1
            kind, colour = data.classes[video, which] % 4, data.classes[video, which] // 4
            shown = pixels[:, own]
            assert (shown[corners[colour] > 0] > 127).all()
            left, top, width, height = box.astype(int)
            inside = np.zeros_like(own)
            inside[max(top, 0) : top + height, max(left, 0) : left + width] = True
            assert not own[~inside].any()
            middles = data.boxes[video, t][:, :2] + data.boxes[video, t][:, 2:] / 2
            near = abs(middles - middles[which]).max(-1) < 30
            if near.sum() == 1 and data.visible[video, t, which] == 1:
                alone += 1
                share = own.sum() / (width * height)
                # Of the box: a circle, all of it, a half and a half.
                expected = [np.pi / 4, 1, 0.5, 0.5][kind]
                assert share == pytest.approx(expected, abs=0.06)
    assert alone > 100


def test_the_true_identity_is_one_object_and_that_of_a_slot_several():
    seed, number = 5, 20
    true = SpMOT(SpMOTRecipe(frames=30), number, seed).subset(range(number))
    slot = SpMOT(SpMOTRecipe(frames=30, identities="slot"), number, seed).subset(range(number))
    assert (true.video == slot.video).all()
    assert slot.boxes.shape[2] == 3
    of = true.boxes.shape[2] // 3
    # What a slot's identity has is what its objects have one after the other.
    np.testing.assert_array_equal(slot.boxes, true.boxes.reshape(number, 30, 3, of, 4).sum(3))
    for video, which in np.ndindex(*true.classes.shape):
        here = np.flatnonzero(true.boxes[video, :, which, 2])
        assert (true.classes[video, which] >= 0) == bool(here.size)
        assert (np.diff(here) == 1).all()
        moves = np.diff(true.boxes[video, here, which, :2], axis=0)
        assert (abs(np.hypot(moves[:, 0], moves[:, 1]) - 2.65) < 0.8).all()
    several = (true.classes.reshape(number, 3, of) >= 0).sum(-1) > 1
    assert several.any()
    assert (slot.classes[several] == -1).all()


@pytest.mark.parametrize("frames", [1, 8, 9, 36, 37, 65])
def test_there_is_room_for_all_objects_and_no_more(frames: int):
    """The most that one slot can show, when lives and waits are as short as they can be."""
    most = 0
    for first in range(28):
        shown = [(t + first) % 28 for t in range(frames)]  # 21 frames with an object, 7 without
        runs = sum(shown[t] < 21 and (t == 0 or shown[t - 1] >= 21) for t in range(frames))
        most = max(most, runs)
    assert SpMOTRecipe(frames=frames).max_objects == 3 * most


def test_a_video_is_a_function_of_its_number():
    data = SpMOT(SpMOTRecipe(), 10, 1)
    whole, one = data.batch(range(5)), data.batch([3])
    assert torch.equal(whole.video[3], one.video[0])
    assert torch.equal(whole.segments[3], one.segments[0])
    assert one.video.shape == (1, 10, 3, 64, 64)
    assert not torch.equal(whole.video[2], one.video[0])
    assert not torch.equal(spmot_videos(SpMOTRecipe(), "test", 10, 1).batch([3]).video, one.video)


def test_small_frames_are_means_of_large_ones():
    large, small = (SpMOT(SpMOTRecipe(image_size=side), 4, 2).subset([1, 3]) for side in (128, 64))
    means = large.video.reshape(2, 10, 3, 64, 2, 64, 2).mean((-3, -1))
    assert abs(small.video - means).max() <= 0.5
    np.testing.assert_array_equal(small.segments, large.segments[..., ::2, ::2])
    np.testing.assert_array_equal(2 * small.boxes, large.boxes)
    np.testing.assert_array_equal(small.visible, large.visible)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="image_size"):
        SpMOTRecipe(image_size=50)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frames"):
        SpMOTRecipe(frames=0)
    with pytest.raises(ValueError, match="split"):
        spmot_videos(SpMOTRecipe(), "validation", 1, 0)  # type: ignore[arg-type]
