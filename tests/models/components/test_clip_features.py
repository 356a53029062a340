import math

import pytest
import torch

from whatwhere.models.components import CoarseFrames, ConvClip, MeanContext, PlacesContext, UnboundedPlaces


def test_the_coarse_view_knows_means_of_squares_only():
    torch.manual_seed(0)
    maps = CoarseFrames(1, 4, (3, 5))
    video = torch.rand(2, 3, 1, 16, 24)
    found = maps(video)
    assert found.context.shape == (2, 3, 5, 2, 3)
    assert found.glimpses is video
    assert found.overview.shape == (2, maps.overview_size)
    shuffled = video.unflatten(-1, (6, 4)).unflatten(-3, (4, 4)).flip(-1).flip(-3).flatten(-4, -3).flatten(-2)
    assert not torch.equal(shuffled, video)
    torch.testing.assert_close(maps(shuffled).context, found.context)


@pytest.mark.parametrize(("channels", "strides"), [((3, 5, 7), (2, 1)), ((3,), (2, 1)), ((), ())])
def test_each_convolution_has_a_stride(channels: tuple[int, ...], strides: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"must (have one length|not be empty)"):
        CoarseFrames(1, 4, channels, strides)


def test_frames_of_the_coarse_view_do_not_see_each_other():
    maps = CoarseFrames(1)
    video = torch.rand(1, 3, 1, 32, 32)
    changed = video.clone()
    changed[:, 1] = 0
    same = (maps(video).context == maps(changed).context).flatten(2).all(-1)[0]
    assert same.tolist() == [True, False, True]


def test_maps_of_a_clip_see_the_frames_beside():
    torch.manual_seed(0)
    maps = ConvClip(1, (4, 6, 8), reduce=2).eval()
    video = torch.rand(1, 5, 1, 32, 48)
    found = maps(video)
    assert found.context.shape == (1, 5, 6, 4, 6)
    assert found.glimpses.shape == (1, 5, 8, 2, 3)
    torch.testing.assert_close(found.overview, found.glimpses.mean((1, 3, 4)))
    changed = video.clone()
    changed[:, 4] = 0
    same = (maps(changed).context == found.context).flatten(2).all(-1)[0]
    assert same.tolist() == [True, True, True, False, False]
    with pytest.raises(ValueError, match="at least two"):
        ConvClip(1, (4,))


def test_a_mean_does_not_tell_where():
    maps = torch.rand(2, 3, 4, 5, 6)
    context = MeanContext(4)
    torch.testing.assert_close(context(maps), maps.flatten(3).mean(-1))
    torch.testing.assert_close(context(maps.flip(-1)), context(maps))


def test_places_of_peaks():
    context = PlacesContext(2)
    maps = torch.zeros(1, 2, 5, 9)
    maps[0, 0, 0, 8] = maps[0, 1, 4, 2] = 50.0
    found = context(maps)
    torch.testing.assert_close(found, torch.tensor([[1.0, -0.5, -1.0, 1.0]]))
    # Where nothing stands out, it is the middle.
    torch.testing.assert_close(context(torch.zeros(1, 2, 5, 9)), torch.zeros(1, 4))


def test_unbounded_places_are_told_exactly_by_a_tangent():
    bounded, unbounded = PlacesContext(3), UnboundedPlaces(3)
    maps = torch.rand(2, 4, 3, 7, 9)
    torch.testing.assert_close(unbounded(maps).tanh(), 0.995 * bounded(maps))
    # At the very border they are finite, and so are gradients.
    peak = torch.zeros(1, 3, 7, 9)
    peak[..., 0, 8] = 1e3
    peak.requires_grad_()
    places = unbounded(peak)
    torch.testing.assert_close(places.abs(), torch.full((1, 6), math.atanh(0.995)))
    (gradient,) = torch.autograd.grad(places.sum(), peak)
    assert gradient.isfinite().all()
