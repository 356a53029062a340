"""Motion of a camera over pictures whose motion is known, because they are cut out of a larger one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from whatwhere.models.components.attention import Size
from whatwhere.models.components.camera_motion import CameraMotion

SIZE = (96, 128)


def scene(seed: int = 0, size: Size = (192, 256)) -> Tensor:
    """A picture `(3, *size)` in [0, 1] with detail of all sizes from 2 pixels on."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    layers = []
    for detail in (2, 4, 8, 16, 32):
        coarse = torch.rand(1, 3, height // detail, width // detail, generator=generator)
        layers.append(F.interpolate(coarse, size, mode="bicubic", align_corners=False)[0])
    return torch.stack(layers).mean(0).clamp(0, 1)


def cut(picture: Tensor, left: int, top: int, size: Size = SIZE) -> Tensor:
    return picture[None, :, top : top + size[0], left : left + size[1]]


def motion(before: Tensor, now: Tensor, camera: CameraMotion | None = None) -> Tensor:
    camera = camera or CameraMotion()
    scenes = torch.stack([camera.coarse(before), camera.coarse(now)], dim=1)
    return camera(scenes, (now.shape[-2], now.shape[-1]))[:, 0]


@pytest.mark.parametrize(("x", "y"), [(7, 0), (0, -5), (-12, 3), (26, -20)])
def test_finds_how_far_what_stands_still_has_moved(x: int, y: int):
    """What moves right is cut out further left."""
    before, now = cut(scene(), 50, 40), cut(scene(), 50 - x, 40 - y)
    torch.testing.assert_close(motion(before, now), torch.tensor([[x, y]]).float(), atol=0.5, rtol=0)


def test_bytes_and_grey_frames_and_each_frame_of_a_batch_by_itself():
    before = torch.cat([cut(scene(), 50, 40), cut(scene(1), 50, 40)])
    now = torch.cat([cut(scene(), 41, 40), cut(scene(1), 50, 48)])
    expected = torch.tensor([[9.0, 0.0], [0.0, -8.0]])
    torch.testing.assert_close(motion(before, now), expected, atol=0.5, rtol=0)
    in_bytes = motion((255 * before).byte(), (255 * now).byte())
    torch.testing.assert_close(in_bytes, expected, atol=0.5, rtol=0)
    torch.testing.assert_close(motion(before[:, :1], now[:, :1]), expected, atol=0.5, rtol=0)


def test_along_a_video_as_frame_by_frame_and_part_by_part():
    camera, ways = CameraMotion(), [(0, 0), (6, 2), (14, -3), (14, -3), (5, 9)]
    video = torch.stack(
        [torch.cat([cut(scene(seed), 50 - x, 40 - y) for seed in (0, 1)]) for x, y in ways], 1
    )
    whole, last = camera.along(video)
    torch.testing.assert_close(whole.cumsum(1)[0], torch.tensor(ways).float(), atol=1.5, rtol=0)
    for t in range(1, 5):
        torch.testing.assert_close(whole[:, t], motion(video[:, t - 1], video[:, t]))
    first, scenery = camera.along(video[:, :2])
    second, after = camera.along(video[:, 2:], scenery)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(after, last)


def test_large_frames_are_thinned_out():
    picture, size = scene(0, (640, 800)), (480, 600)
    now = cut(picture, 100 - 40, 80 + 31, size)
    expected = torch.tensor([[40.0, -31.0]])
    torch.testing.assert_close(motion(cut(picture, 100, 80, size), now), expected, atol=2.0, rtol=0)


@pytest.mark.parametrize("size", [(60, 240), (240, 60), (187, 621)])
def test_frames_that_are_much_longer_on_one_side(size: Size):
    x, y = round(0.08 * size[1]), round(-0.1 * size[0])
    picture = scene(4, (2 * size[0] + size[0] % 2, 2 * size[1] + size[1] % 2))
    left, top = size[1] // 2, size[0] // 2
    found = motion(cut(picture, left, top, size), cut(picture, left - x, top - y, size))
    sample = torch.tensor([size[1] / 64, size[0] / 64])
    assert ((found - torch.tensor([[x, y]])).abs() < 0.3 * sample + 0.5).all()


def test_what_is_on_another_way_is_outvoted():
    """A tenth of the frame, in the middle, goes left; the camera makes the rest go right."""
    before, now = cut(scene(), 50, 40).clone(), cut(scene(), 40, 40).clone()
    thing = scene(2)[:, :36, :36]
    before[0, :, 30:66, 46:82] = thing
    now[0, :, 30:66, 34:70] = thing
    torch.testing.assert_close(motion(before, now), torch.tensor([[10.0, 0.0]]), atol=0.7, rtol=0)


def test_noise_moves_nothing():
    generator = torch.Generator().manual_seed(3)
    before, noise = cut(scene(), 50, 40), 0.02 * torch.randn(2, 1, 3, *SIZE, generator=generator)
    assert torch.equal(motion(before + noise[0], before + noise[1]), torch.zeros(1, 2))


@pytest.mark.parametrize("seed", range(1, 6))
def test_another_scene_is_no_motion(seed: int):
    assert torch.equal(motion(cut(scene(), 50, 40), cut(scene(seed), 50, 40)), torch.zeros(1, 2))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_things_that_move_over_a_plain_ground_are_no_camera(number: int):
    before, now = torch.full((2, 1, 3, *SIZE), 0.1).unbind(0)
    for i in range(number):
        thing, top = scene(i)[:, :16, :16], 8 + 28 * i
        before[0, :, top : top + 16, 30:46] = thing
        now[0, :, top + 4 * i : top + 4 * i + 16, 50 - 9 * i : 66 - 9 * i] = thing
    assert torch.equal(motion(before, now), torch.zeros(1, 2))


def test_flat_frames_have_no_motion():
    flat = torch.full((1, 3, *SIZE), 0.3)
    assert torch.equal(motion(flat, flat), torch.zeros(1, 2))
    assert torch.equal(motion(flat, cut(scene(), 50, 40)), torch.zeros(1, 2))


def test_nothing_is_found_further_away_than_is_asked_for():
    before, now = cut(scene(), 50, 40), cut(scene(), 20, 40)
    found = motion(before, now, CameraMotion(farthest=0.1))
    assert (found.abs() <= 0.1 * torch.tensor([SIZE[1], SIZE[0]]) + 1).all()


@pytest.mark.parametrize(("samples", "farthest"), [(31, 0.25), (64, 0.0), (64, 0.5)])
def test_impossible_numbers_are_refused(samples: int, farthest: float):
    with pytest.raises(ValueError, match=r"at least 32 and `farthest` in \(0, 0.5\), got"):
        CameraMotion(samples, farthest)
