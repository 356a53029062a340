import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from whatwhere.inference.pictures import Caption, grid, reconstruction_picture, sample_picture
from whatwhere.inference.pictures.drawing import SLOT_COLOURS, WRONG


def coloured(picture: Image.Image | npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> Tensor:
    """Which pixels `(H, W)` have a colour."""
    return torch.from_numpy((np.array(picture) == colour).all(-1))


def black(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


class Scenes:
    """Two images of 20 by 20 with two slots: two objects in the first, none in the second."""

    boxes = torch.tensor([[[2.0, 3, 5, 5], [12.0, 8, 4, 6]]] * 2)
    present = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    objects = torch.zeros(2, 2, 1, 20, 20)
    objects[:, 0, :, 3:8, 2:7] = 1.0
    objects[:, 1, :, 8:14, 12:16] = 1.0
    images = (objects * present[..., None, None, None]).sum(1)
    reconstructions = images * 0.8


def draw(**changes: Tensor | int | None) -> Image.Image:
    names = ("images", "reconstructions", "boxes", "present", "objects")
    return reconstruction_picture(
        **{**{name: getattr(Scenes, name) for name in names}, "factor": 6, **changes}
    )


def test_reconstruction_picture_holds_image_boxes_reconstruction_and_objects():
    picture = draw()
    tiles = np.array(picture)[-5 * 128 :, -2 * 128 : -128]  # the words have greys of their own
    grey = coloured(tiles, (204, 204, 204))
    assert grey.sum() == (30 - 6) ** 2 + (24 - 6) * (36 - 6)  # what the outlines, 3 pixels wide, leave
    for slot, (width, height) in enumerate([(30, 30), (24, 36)]):
        outlines = 2 * (width * height - (width - 6) * (height - 6))
        frame = 120**2 - 114**2
        swatch = coloured(grid([[black(3, 3)]], [Caption("", swatch=SLOT_COLOURS[slot])]), SLOT_COLOURS[slot])
        assert coloured(picture, SLOT_COLOURS[slot]).sum() == outlines + frame + width * height + swatch.sum()


def test_objects_lie_below_one_another_at_their_places():
    picture = draw(boxes=Scenes.boxes * 0)
    first, second = (coloured(picture, colour) for colour in SLOT_COLOURS[:2])
    first[:, : first.nonzero()[0, 1] + 12] &= False  # the swatch
    frames = []
    for mask in (first, second):
        frames.append(mask.nonzero()[:, 0].min().item())
    assert frames[1] - frames[0] > 120


def test_the_objects_of_colour_images_keep_their_colours():
    colour = torch.tensor([0.2, 0.4, 0.6])[:, None, None]
    images, objects = Scenes.images * colour, Scenes.objects * colour
    picture = draw(images=images, reconstructions=images, objects=objects, present=Scenes.present)
    object_pixels = 30 * 30 + 24 * 36
    outlines = object_pixels - 24**2 - 18 * 30
    # the image, twice with boxes, and each object once
    assert coloured(picture, (51, 102, 153)).sum() == 4 * object_pixels - 2 * outlines


def test_only_wrong_counts_are_marked():
    for counts, wrong in (([2, 0], []), ([1, 0], [0]), ([2, 2], [1]), ([3, 1], [0, 1])):
        marks = coloured(draw(true_counts=torch.tensor(counts)), WRONG)
        vertical = (
            (marks.sum(0) > marks.shape[0] * 0.9).nonzero().squeeze(-1)
        )  # sides of frames, 2 pixels wide
        assert len(vertical) == 4 * len(wrong)
        if wrong == [0]:
            assert vertical.max() < marks.shape[1] - 120
        if wrong == [1]:
            assert vertical.min() > marks.shape[1] - 150
    assert not coloured(draw(), WRONG).any()


def test_the_rows_of_objects_are_optional():
    assert draw().height - draw(objects=None).height == 2 * (120 + 8)


def test_the_default_factor_gives_tiles_of_readable_size():
    assert draw(factor=None).size == draw(factor=7).size  # 20 pixels become 140


@pytest.mark.parametrize("name", ["reconstructions", "boxes", "present", "objects", "true_counts"])
def test_reconstruction_picture_names_what_does_not_agree(name: str):
    bad = torch.zeros(3, 2) if name == "present" else torch.zeros(3, 2, 2, 2, 2)
    with pytest.raises(ValueError, match=f"`{name}` must have shape"):
        draw(**{name: bad})


def test_reconstruction_picture_refuses_no_images():
    with pytest.raises(ValueError, match="B > 0"):
        draw(images=torch.zeros(0, 1, 20, 20))


def test_samples_fill_rows_in_order():
    canvases = (torch.arange(1, 6) / 10).reshape(5, 1, 1, 1).expand(5, 1, 10, 12)
    picture = sample_picture(canvases, columns=3, factor=2, title="")
    places = []
    for value in range(1, 6):
        mask = coloured(picture, (round(value * 25.5),) * 3)
        ys, xs = mask.nonzero().unbind(-1)
        places.append((ys.min().item(), xs.min().item()))
        assert mask[ys.min() : ys.min() + 20, xs.min() : xs.min() + 24].all()
    (y, x), pitch = places[0], (28, 32)
    assert places == [(y + pitch[0] * (i // 3), x + pitch[1] * (i % 3)) for i in range(5)]


@pytest.mark.parametrize(("shape", "columns"), [((0, 1, 4, 4), 3), ((1, 4, 4), 3), ((2, 1, 4, 4), 0)])
def test_sample_picture_refuses_no_samples(shape: tuple[int, ...], columns: int):
    with pytest.raises(ValueError, match="`canvases` must have shape"):
        sample_picture(torch.zeros(shape), columns)


def test_a_slot_without_an_object_anywhere_has_no_row():
    assert draw(present=torch.tensor([[1.0, 0.0], [0.0, 0.0]])).height == draw().height - 128
    assert (draw(present=Scenes.present * 0).height) == draw().height - 2 * 128
