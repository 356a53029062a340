import numpy as np
import pytest
import torch

from whatwhere.inference.pictures import CloudVideo, cloud_pages, cloud_strip, slot_colour


def clip(frames: int = 3, channels: int = 1, truth: int | None = 1) -> CloudVideo:
    boxes = torch.tensor([[2.0, 3.0, 6.0, 5.0], [8.0, 8.0, 4.0, 4.0]]).expand(frames, 2, 4)
    weights = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).expand(frames, 2, 2)
    votes = torch.zeros(frames, 2, 3)
    votes[0, :, 0] = 4.0
    votes[-1, :, 2] = 7.0
    video, crops = torch.full((frames, channels, 16, 16), 0.5), torch.rand(frames, 2, channels, 4, 4)
    return CloudVideo(video, boxes, crops, weights, votes, ("run", "walk", "wave"), truth)


def has(picture: object, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(picture.convert("RGB")) == colour).all(-1).any())  # type: ignore[attr-defined]


def test_glimpses_have_the_colours_of_the_workers_that_have_most_of_them():
    picture = cloud_strip([clip(), clip()])
    assert has(picture, slot_colour(0))
    assert has(picture, slot_colour(1))
    alone = clip()._replace(weights=torch.tensor([[0.9, 0.1], [0.8, 0.2]]).expand(3, 2, 2))
    (page, *_) = cloud_pages(alone)
    assert has(page, slot_colour(0))
    assert not has(page, slot_colour(1))


def test_the_answer_so_far_is_that_of_the_votes_that_count():
    seen = clip()
    votes = seen.votes.mean(1)
    for t in range(3):
        expected = votes[: t + 1].mean(0).softmax(-1)
        torch.testing.assert_close(seen.opinions[t], expected)
    assert seen.answer == "wave"
    last = seen._replace(counted=1)
    torch.testing.assert_close(last.opinions, votes.softmax(-1))


def test_there_is_a_page_for_each_frame_all_of_one_size():
    pages = list(cloud_pages(clip(5, channels=3, truth=None), numbers=[0, 10, 20, 30, 40]))
    assert len(pages) == 5
    assert len({page.size for page in pages}) == 1


def test_clips_that_differ_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        cloud_strip([clip(), clip(4)])
    with pytest.raises(ValueError, match="at least one"):
        cloud_strip([])
