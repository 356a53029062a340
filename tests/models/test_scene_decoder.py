"""Canvases that are clamped, mean images that are not drawn, windows that leave the image."""

import pytest
import torch
from torch import Tensor, nn

from whatwhere.models.components.attention import paste
from whatwhere.models.components.boxes import boxes_inside, object_boxes
from whatwhere.models.components.likelihood import GaussianImage
from whatwhere.models.components.slots import TrackedSlots
from whatwhere.models.components.windows import SquashedWindows
from whatwhere.models.sqair import SceneDecoder


class Flat(nn.Module):
    """Glimpses of one grey value, the first component of `z_what`."""

    def forward(self, z_what: Tensor) -> Tensor:
        return z_what[..., :1, None, None].expand(*z_what.shape[:-1], 1, 4, 4)


def decoder(**options) -> SceneDecoder:
    return SceneDecoder(Flat(), torch.full((1, 9, 9), 0.5), output_scale=1.0, **options)


def draw(part: SceneDecoder, greys: list[float], where: Tensor | None = None) -> Tensor:
    count = len(greys)
    where = torch.zeros(count, 4) if where is None else where
    return part(torch.ones(count), where, torch.tensor(greys).unsqueeze(-1))


def test_a_clamped_canvas_passes_gradients_on():
    part = decoder(clamp=True, background="none")
    assert draw(part, [0.8, 0.9]).max() == 1
    assert draw(decoder(background="none"), [0.8, 0.9]).max().item() == pytest.approx(1.7)
    canvas = draw(part, [0.8, 0.9])
    canvas.sum().backward()
    assert part.output_scale.grad > 0


def test_a_mean_image_is_learned_kept_or_left_out():
    assert "mean_image" in dict(decoder().named_parameters())
    kept = decoder(background="fixed")
    assert "mean_image" not in dict(kept.named_parameters())
    assert "mean_image" in kept.state_dict()
    torch.testing.assert_close(draw(kept, [0.2]), draw(decoder(), [0.2]))
    none = decoder(background="none")
    assert "mean_image" not in none.state_dict()
    assert draw(none, [0.0]).abs().sum() == 0
    assert draw(decoder(), [0.0]).max().item() == pytest.approx(0.5, abs=1e-3)


def test_with_a_reach_of_two_objects_can_be_out_of_sight():
    away = torch.tensor([[-1.0, -1.0, 1.9, 0.0]])
    assert draw(decoder(background="none", windows=SquashedWindows(2.0)), [1.0], away).sum() == 0
    assert draw(decoder(background="none"), [1.0], away).sum() > 0


def test_the_scale_of_pixels_may_be_a_tensor_that_changes():
    scale, loc, value = torch.tensor(0.3), torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    for number in (0.3, 0.05):
        scale.fill_(number)
        expected = GaussianImage(loc, number)
        torch.testing.assert_close(GaussianImage(loc, scale).log_prob(value), expected.log_prob(value))
    assert GaussianImage(loc, scale).variance.unique().item() == pytest.approx(0.05**2)


class Figure(nn.Module):
    """A tall stroke with a short, faint one beside it, in glimpses of 6 x 8."""

    def forward(self, z_what: Tensor) -> Tensor:
        glimpse = torch.zeros(1, 6, 8)
        glimpse[0, :5, 2] = 1
        glimpse[0, 3, 2:6] = 0.4
        return glimpse.expand(*z_what.shape[:-1], 1, 6, 8)


def test_a_pixel_belongs_to_the_brightest_object_of_which_it_is_a_part():
    """Of a loop over pixels; what is fainter than a tenth of an object's brightest is no part of it."""
    torch.manual_seed(0)
    decoder = SceneDecoder(Figure(), torch.zeros(1, 11, 13), output_scale=1.0, background="none")
    z_where = torch.randn(20, 3, 4) * torch.tensor([0.3, 0.3, 0.4, 0.4])
    present = (torch.rand(20, 3) < 0.7).float()
    slots = TrackedSlots(present, z_where, torch.zeros(20, 3, 1), torch.zeros(20, 3, 1), present.long())
    found, drawn = decoder.segments(slots), decoder.objects(slots).detach()
    for video in range(20):
        for row in range(11):
            for column in range(13):
                values = {
                    slot: float(drawn[video, slot, 0, row, column])
                    for slot in range(3)
                    if drawn[video, slot, 0, row, column] > 0.1 * drawn[video, slot].max()
                }
                assert found[video, row, column] == max(values, key=lambda slot: values[slot], default=-1)
    assert set(found.unique().tolist()) == {-1, 0, 1, 2}


def test_boxes_are_those_of_whole_objects_as_far_as_they_are_inside():
    """Against the same objects on a canvas so large that none is cut off, its middle being the frame."""
    torch.manual_seed(0)
    height, width, margin = 21, 30, 40
    windows = SquashedWindows(2.0)
    part = SceneDecoder(
        Figure(), torch.zeros(1, height, width), output_scale=1.0, windows=windows, background="none"
    )
    z_where = torch.randn(200, 3, 4) * torch.tensor([0.3, 0.3, 1.0, 1.0]) - torch.tensor([1.0, 1.0, 0, 0])
    present = (torch.rand(200, 3) < 0.8).float()
    slots = TrackedSlots(present, z_where, torch.zeros(200, 3, 1), torch.zeros(200, 3, 1), present.long())
    large = height + 2 * margin, width + 2 * margin
    ratio = torch.tensor([(width - 1) / (large[1] - 1), (height - 1) / (large[0] - 1)]).repeat(2)
    whole = object_boxes(paste(Figure()(slots.z_what), windows(z_where) * ratio, large))
    corner = torch.tensor([margin, margin, 0, 0])
    expected = boxes_inside(whole - corner, (height, width)) * present.unsqueeze(-1)
    found = part.boxes(slots)
    torch.testing.assert_close(found, expected)
    cut = object_boxes(part.objects(slots))
    assert (found[..., 2:] > cut[..., 2:]).any(-1).float().mean() > 0.1
    assert ((expected[..., 2] == 0) & (present > 0)).any()
