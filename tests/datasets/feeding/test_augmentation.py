import numpy as np
import pytest
import torch

from whatwhere.datasets import random_fading, random_parts


def test_parts_stay_at_their_place_of_the_object():
    boxes = torch.rand(200, 5, 4, generator=torch.Generator().manual_seed(0)) * 20 + 5
    boxes[7] = torch.tensor([-24.9, 5.0, 25.0, 10.0])  # of which the frame shows a sliver
    boxes[:, 3] = 0.0  # absent
    parts = random_parts(boxes, (40, 50), 0.5, np.random.default_rng(0))
    there = [0, 1, 2, 4]
    corner = (parts[..., :2] - boxes[..., :2])[:, there] / boxes[:, there, 2:]
    extent = parts[:, there, 2:] / boxes[:, there, 2:]
    for share in (corner, extent):
        torch.testing.assert_close(share, share[:, :1].expand_as(share), rtol=0, atol=1e-4)
    assert corner.min() > -1e-4
    assert (corner + extent).max() < 1 + 1e-4
    smaller = (extent[:, 0] < 1 - 1e-4).any(-1)
    assert 70 < smaller.sum() < 130
    assert 0.4 <= extent.min() < 0.45
    assert not parts[:, 3].any()
    first = parts[:, 0]
    assert ((first[:, :2] < torch.tensor([50, 40])) & (first[:, :2] + first[:, 2:] > 0)).all()
    assert torch.equal(random_parts(boxes, (40, 50), 0.0, np.random.default_rng(0)), boxes)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_faded_videos_are_mixed_with_grey_and_scaled(dtype: torch.dtype):
    video = torch.rand(100, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    unit = 255 if dtype == torch.uint8 else 1
    video = (video * unit).round().to(dtype) if unit == 255 else video
    before = video.clone()
    faded = random_fading(video, 0.6, np.random.default_rng(0)).double() / unit
    assert torch.equal(video, before)
    x = video.double() / unit
    grey = x.mean(2, keepdim=True)
    changed = (faded != x).flatten(1).any(1)
    assert 45 < changed.sum() < 75
    colourless = 0
    for y, old, mean in zip(faded[changed], x[changed], grey[changed], strict=True):
        # y = c s (x - g) + c g + d is linear in the three numbers c s, c, d.
        columns = [(old - mean).flatten(), mean.expand_as(old).flatten(), torch.ones(old.numel())]
        design = torch.stack([column.double() for column in columns], dim=1)
        cs, c, d = torch.linalg.lstsq(design, y.flatten()[:, None]).solution[:, 0].tolist()
        assert (design @ torch.tensor([cs, c, d]).double() - y.flatten()).abs().max() < (
            1.5 / unit if unit == 255 else 1e-5
        )
        assert 0.18 < c < 1.02
        assert -0.02 < d < 1.02 - c
        assert -0.02 < cs < c + 0.02
        colourless += abs(cs) < 0.01
    assert 0.3 < colourless / int(changed.sum()) < 0.7
