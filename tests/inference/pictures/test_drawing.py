import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from whatwhere.inference.pictures.drawing import (
    SLOT_COLOURS,
    WRONG,
    Caption,
    draw_boxes,
    grid,
    slot_colour,
    upscale,
)


def coloured(picture: Image.Image | npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> Tensor:
    """Which pixels `(H, W)` have a colour."""
    return torch.from_numpy((np.array(picture) == colour).all(-1))


def outline(size: tuple[int, int], left: int, top: int, right: int, bottom: int, line: int = 1) -> Tensor:
    """The pixels `(H, W)` of an outline inside `[left, right) x [top, bottom)`, one by one."""
    mask = torch.zeros(size, dtype=torch.bool)
    for y, x in itertools.product(range(size[0]), range(size[1])):
        if left <= x < right and top <= y < bottom:
            mask[y, x] = min(x - left, right - 1 - x, y - top, bottom - 1 - y) < line
    return mask


def black(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_upscale_makes_a_square_of_every_pixel(channels: int, mode: str):
    values = torch.randint(256, (channels, 3, 5))
    picture = upscale(values / 255, 4)
    assert (picture.mode, picture.size) == (mode, (20, 12))
    pixels = np.array(picture).reshape(12, 20, channels)
    for y, x in itertools.product(range(12), range(20)):
        assert pixels[y, x].tolist() == values[:, y // 4, x // 4].tolist()


def test_upscale_clamps_what_cannot_be_shown():
    image = torch.tensor([[[-0.5, 0.0, 1.0, 1.5, math.nan, math.inf, -math.inf]]], requires_grad=True)
    assert np.array(upscale(image, 1)).tolist() == [[0, 0, 255, 255, 0, 255, 0]]


@pytest.mark.parametrize("shape", [(5, 5), (2, 5, 5), (1, 1, 5, 5), (1, 0, 5)])
def test_upscale_refuses_other_shapes(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="`image` must have shape"):
        upscale(torch.zeros(shape), 1)


def test_upscale_refuses_to_shrink():
    with pytest.raises(ValueError, match="`factor` must be"):
        upscale(torch.zeros(1, 5, 5), 0)


def test_slot_colours_are_distinct_even_from_the_mark_of_errors():
    colours = np.array([*SLOT_COLOURS, WRONG], dtype=float)
    distances = np.linalg.norm(colours[:, None] - colours, axis=-1) + 1e9 * np.eye(len(colours))
    assert distances.min() > 75
    assert all(np.linalg.norm(colour) > 150 and np.linalg.norm(255 - colour) > 100 for colour in colours)
    assert [slot_colour(slot) for slot in range(len(SLOT_COLOURS))] == list(SLOT_COLOURS)
    assert slot_colour(len(SLOT_COLOURS)) == SLOT_COLOURS[0]


@pytest.mark.parametrize(("factor", "line"), [(1, 1), (3, 1), (3, 2), (8, 3)])
def test_a_box_surrounds_exactly_its_pixels(factor: int, line: int):
    """Pixel i covers [i, i + 1): columns 2 .. 5 and rows 1 .. 3 of the image."""
    picture = draw_boxes(
        black(9 * factor, 7 * factor), torch.tensor([[2.0, 1.0, 4.0, 3.0]]), factor=factor, line=line
    )
    corners = (2 * factor, 1 * factor, 6 * factor, 4 * factor)
    expected = outline((7 * factor, 9 * factor), *corners, line)
    assert torch.equal(coloured(picture, SLOT_COLOURS[0]), expected)
    assert torch.equal(coloured(picture, (0, 0, 0)), ~expected)


def test_edges_between_pixels_go_to_the_nearest_pixel_of_the_picture():
    picture = draw_boxes(black(40, 40), torch.tensor([[1.3, 2.2, 3.35, 4.4]]), factor=4, line=1)
    # left 5.2, top 8.8, right 18.6, bottom 26.4
    assert torch.equal(coloured(picture, SLOT_COLOURS[0]), outline((40, 40), 5, 9, 19, 26))


@pytest.mark.parametrize(
    "box", [(-3, 2, 6, 4), (7, 2, 6, 4), (2, -3, 4, 6), (2, 6, 4, 60), (-5, -5, 100, 100), (20, 20, 4, 4)]
)
def test_boxes_are_cut_off_at_the_border_of_the_picture(box: tuple[int, ...]):
    """The same as drawing them on a larger picture and cutting out the middle."""
    left, top, width, height = box
    large = outline((120, 120), left + 10, top + 10, left + width + 10, top + height + 10)
    picture = draw_boxes(black(10, 8), torch.tensor([box], dtype=torch.float32))
    assert torch.equal(coloured(picture, SLOT_COLOURS[0]), large[10:18, 10:20])


def test_every_slot_has_its_colour_and_absent_slots_are_not_drawn():
    boxes = torch.tensor([[1.0, 1, 3, 3], [10.0, 1, 3, 3], [20.0, 1, 3, 3]])
    picture = draw_boxes(black(30, 6), boxes, torch.tensor([1.0, 0.0, 1.0]))
    assert torch.equal(coloured(picture, SLOT_COLOURS[0]), outline((6, 30), 1, 1, 4, 4))
    assert torch.equal(coloured(picture, SLOT_COLOURS[2]), outline((6, 30), 20, 1, 23, 4))
    assert coloured(picture, (0, 0, 0)).sum() == 30 * 6 - 16


def test_later_slots_are_drawn_over_earlier_ones_and_colours_can_be_chosen():
    boxes = torch.tensor([[1.0, 1, 3, 3], [1.0, 1, 3, 3], [6.0, 1, 3, 3]])
    picture = draw_boxes(black(10, 6), boxes, colours=[(1, 1, 1), (2, 2, 2)])
    assert torch.equal(coloured(picture, (2, 2, 2)), outline((6, 10), 1, 1, 4, 4))
    assert torch.equal(coloured(picture, (1, 1, 1)), outline((6, 10), 6, 1, 9, 4))


def test_drawing_leaves_the_picture_as_it_was_and_colours_grey_ones():
    picture = upscale(torch.full((1, 4, 4), 0.2), 1)
    drawn = draw_boxes(picture, torch.tensor([[0.0, 0, 4, 4]]))
    assert picture.mode == "L"
    assert np.array(picture).tolist() == [[51] * 4] * 4
    assert torch.equal(coloured(drawn, SLOT_COLOURS[0]), outline((4, 4), 0, 0, 4, 4))
    assert coloured(drawn, (51, 51, 51)).sum() == 4


@pytest.mark.parametrize(
    "box",
    [
        (math.nan, 1, 2, 2),
        (1, math.inf, 2, 2),
        (1, 1, math.inf, 2),
        (0, 0, 0, 0),
        (1, 1, 2, 0),
        (3, 3, -2, 2),
    ],
)
def test_boxes_without_a_place_or_an_area_are_left_out(box: tuple[float, ...]):
    assert coloured(draw_boxes(black(8, 8), torch.tensor([box])), (0, 0, 0)).all()


def test_tiny_and_huge_boxes():
    tiny = draw_boxes(black(8, 8), torch.tensor([[2.0, 3.0, 0.01, 0.01]]))
    assert coloured(tiny, SLOT_COLOURS[0]).nonzero().tolist() == [[3, 2]]
    huge = draw_boxes(black(8, 8), torch.tensor([[2.0, 3.0, 1e30, 1e30]]), line=1)
    assert torch.equal(coloured(huge, SLOT_COLOURS[0]), outline((8, 8), 2, 3, 100, 100))


@pytest.mark.parametrize(
    ("boxes", "present"), [((3, 5), None), ((4,), None), ((3, 4), (2,)), ((3, 4), (3, 1))]
)
def test_draw_boxes_refuses_shapes_that_do_not_agree(boxes: tuple[int, ...], present: tuple[int, ...] | None):
    with pytest.raises(ValueError, match="`boxes` must have shape"):
        draw_boxes(black(8, 8), torch.ones(boxes), None if present is None else torch.ones(present))


TILE_COLOURS = [(i, 10, 20) for i in range(1, 6)]


def tile(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (30, 20), colour)


def test_tiles_lie_in_rows_at_equal_distances():
    a, b, c, d, e = map(tile, TILE_COLOURS)
    picture = grid([[a, b, c], [d, None, e]], padding=7)
    assert picture.size == (7 + 3 * 37, 7 + 2 * 27)
    places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)]
    expected = torch.zeros(*reversed(picture.size), dtype=torch.bool)
    for colour, (row, column) in zip(TILE_COLOURS, places, strict=True):
        y, x = 7 + row * 27, 7 + column * 37
        mask = torch.zeros_like(expected)
        mask[y : y + 20, x : x + 30] = True
        assert torch.equal(coloured(picture, colour), mask)
        expected |= mask
    assert torch.equal(coloured(picture, (255, 255, 255)), ~expected)


def test_captions_stand_beside_tiles_and_never_on_them():
    tiles = [[tile(TILE_COLOURS[0])] * 3] * 2
    bare = grid(tiles)
    picture = grid(
        tiles,
        row_captions=["a row", Caption("two\nlines", "and a very long note", swatch=(1, 200, 3))],
        column_captions=["one", "some words that are much wider than a tile", Caption("three", wrong=True)],
        title="title",
    )
    assert coloured(picture, TILE_COLOURS[0]).sum() == coloured(bare, TILE_COLOURS[0]).sum() == 6 * 30 * 20
    ys, xs = coloured(picture, TILE_COLOURS[0]).nonzero().unbind(-1)
    swatch_ys, swatch_xs = coloured(picture, (1, 200, 3)).nonzero().unbind(-1)
    assert swatch_xs.max() < xs.min()
    assert ys.min() + 20 < swatch_ys.min()  # in the second row
    words = ~coloured(picture, (255, 255, 255))
    assert words[: ys.min(), xs.min() :].any()
    assert words[:, : xs.min()].any()
    # nothing is cut off: the outermost pixels are paper
    assert not words[0].any()
    assert not words[-1].any()
    assert not words[:, 0].any()
    assert not words[:, -1].any()


def test_long_captions_are_broken_between_words_so_that_columns_stay_narrow():
    short = grid([[tile(TILE_COLOURS[0])]], column_captions=["x" * 12])
    long = grid([[tile(TILE_COLOURS[0])]], column_captions=[" ".join(["x" * 12] * 4)])
    assert long.width == short.width
    assert long.height == short.height + 3 * 17


def test_a_wrong_column_is_framed():
    tiles = [[tile(colour) for colour in TILE_COLOURS[:3]]]
    picture = grid(tiles, column_captions=["a", Caption("b", wrong=True), "c"])
    ys, xs = coloured(picture, WRONG).nonzero().unbind(-1)
    for colour, inside in zip(TILE_COLOURS, (False, True, False), strict=False):
        tile_ys, tile_xs = coloured(picture, colour).nonzero().unbind(-1)
        assert (xs.min() < tile_xs.min() and tile_xs.max() < xs.max()) == inside
        assert ys.min() < tile_ys.min()
        assert tile_ys.max() < ys.max()
    assert torch.equal(
        coloured(picture, WRONG)[:, xs.min()].nonzero().squeeze(-1), torch.arange(ys.min(), ys.max() + 1)
    )


def test_grid_refuses_what_makes_no_grid():
    for rows in ([], [[]], [[None]]):
        with pytest.raises(ValueError, match="no tile"):
            grid(rows)
    with pytest.raises(ValueError, match="tiles of one size"):
        grid([[black(3, 4), black(4, 3)]])
    with pytest.raises(ValueError, match="`row_captions` must be 1, but are 2"):
        grid([[black(3, 4)]], row_captions=["a", "b"])
    with pytest.raises(ValueError, match="`column_captions` must be 2, but are 1"):
        grid([[black(3, 4)] * 2], column_captions=["a"])
