from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from whatwhere.datasets import ActionClips, SilhouetteActions, VideoData, load_weizmann, normalised_joints
from whatwhere.datasets.recorded.silhouette_actions import ends


def silhouettes() -> VideoData:
    video = np.zeros((2, 4, 1, 8, 12), np.uint8)
    video[0, :3, 0, 2:6, 4:8] = 255
    video[1, :2, 0, 0:2, 0:4] = 255
    boxes = np.zeros((2, 4, 1, 4), np.float32)
    boxes[0, :3, 0] = 4, 2, 4, 4
    boxes[1, :2, 0] = 0, 0, 4, 2
    return VideoData(video, classes=np.array([[3], [1]]), boxes=boxes)


def test_the_ends_of_a_silhouette():
    mask = np.zeros((6, 7), bool)
    mask[1, 3] = mask[2, 1:6] = mask[4, 2:5] = True
    assert ends(mask).tolist() == [[3, 1], [1, 2], [5, 2], [2, 4], [4, 4]]
    assert np.isnan(ends(np.zeros((3, 3), bool))).all()


def test_frames_are_made_smaller_and_end_with_the_person():
    source = SilhouetteActions(silhouettes(), reduce=2)
    assert source.shape == (1, 4, 6)
    assert source.lengths.tolist() == [3, 2]
    assert source.labels.tolist() == [3, 1]
    found = source.frames(0, np.array([0, 2]))
    assert found.video.shape == (2, 1, 4, 6)
    expected = np.zeros((4, 6))
    expected[1:3, 2:4] = 255
    np.testing.assert_array_equal(found.video[0, 0], expected)
    assert found.joints is not None
    assert found.joints[0, 0].tolist() == [[2.5, 1], [2, 1.5], [3, 1.5], [2, 2], [3, 2]]


def test_a_mirrored_clip_has_the_ends_of_its_mirrored_silhouettes():
    video = np.zeros((1, 6, 1, 9, 12), np.uint8)
    video[..., 2:5, 3:9] = video[..., 5, 4] = video[..., 5, 6] = video[..., 1, 7] = 255
    source = SilhouetteActions(
        VideoData(video, classes=np.zeros((1, 1), int), boxes=np.ones((1, 6, 1, 4), np.float32)), 1
    )
    clips = ActionClips(source, 2, mirror=True)
    found = [clips.batch([0], [np.random.default_rng(seed)]) for seed in range(12)]
    for batch in found:
        expected = ends(batch.video[0, 0, 0].numpy() > 0.5)
        assert batch.joints is not None
        assert torch.equal(batch.joints[0, 0, 0], normalised_joints(torch.from_numpy(expected), (9, 12))[0])
    assert len({float(batch.video[0, 0, 0, 1, 7]) for batch in found}) == 2  # mirrored, and not


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="reduce"):
        SilhouetteActions(silhouettes(), reduce=5)
    with pytest.raises(ValueError, match="boxes"):
        SilhouetteActions(VideoData(np.zeros((1, 1, 1, 4, 4), np.uint8)))


def test_weizmann(real_data: Callable[[str], Path]):
    source = SilhouetteActions(load_weizmann(real_data("weizmann")))
    assert (len(source.labels), source.shape) == (93, (1, 72, 90))
    assert sorted(set(source.labels.tolist())) == list(range(10))
    for index in range(0, 93, 10):
        joints = source.frames(index, np.arange(source.lengths[index])).joints
        assert joints is not None
        assert np.isfinite(joints).all()
        assert (joints[:, 0, 1, 0] <= joints[:, 0, 2, 0]).all()
