import itertools
import math
import os
import stat
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from whatwhere.datasets import read_video
from whatwhere.inference.pictures import (
    reconstruction_picture,
    sample_picture,
    save_gif,
    save_mp4,
    save_picture,
)
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


def test_png_round_trip_creates_folders_and_replaces(tmp_path: Path):
    path = tmp_path / "new" / "folder" / "picture.png"
    for channels in (1, 3):
        picture = upscale(torch.rand(channels, 7, 5), 3)
        save_picture(path, picture)
        with Image.open(path) as stored:
            assert (stored.format, stored.mode) == ("PNG", picture.mode)
            assert np.array_equal(np.array(stored), np.array(picture))
    assert os.listdir(path.parent) == ["picture.png"]


def test_a_failed_write_keeps_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "picture.png"
    save_picture(path, black(2, 2))
    before = path.read_bytes()

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"cannot write the picture `.*picture\.png`: disk full"):
        save_picture(path, black(3, 3))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["picture.png"]


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write the picture `.*file/picture\.png`"):
        save_picture(tmp_path / "file" / "picture.png", black(2, 2))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match=r"cannot write the picture `.*folder\.png`"):
        save_picture(tmp_path / "folder.png", black(2, 2))
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OSError, match="cannot write the picture"):
        save_picture(tmp_path / "picture.png", black(2, 2))


@pytest.mark.parametrize("name", ["picture", "picture.jpg", "picture.gif"])
def test_the_name_of_a_picture_ends_in_png(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match=r"`path` must end in `\.png`"):
        save_picture(tmp_path / name, black(2, 2))


@pytest.mark.parametrize(("fps", "duration"), [(10, 100), (50, 20), (0.5, 2000), (30, 30)])
def test_gif_round_trip(tmp_path: Path, fps: float, duration: int):
    frames = [
        draw_boxes(black(20, 10), torch.tensor([[float(i), 2, 5, 5], [3.0, i, 4, 4]])) for i in range(4)
    ]
    path = tmp_path / "new" / "video.gif"
    save_gif(path, frames, fps)
    with Image.open(path) as stored:
        assert (stored.n_frames, stored.info["loop"]) == (4, 0)
        for i, frame in enumerate(frames):
            stored.seek(i)
            assert stored.info["duration"] == duration
            assert np.array_equal(np.array(stored.convert("RGB")), np.array(frame))
    assert os.listdir(path.parent) == ["video.gif"]


def test_a_gif_of_grey_frames_that_stand_still_lasts_as_long(tmp_path: Path):
    frame = upscale(torch.linspace(0, 1, 256).reshape(1, 16, 16), 1)
    save_gif(tmp_path / "video.gif", [frame] * 5, 10)
    with Image.open(tmp_path / "video.gif") as stored:
        total = 0
        for i in range(stored.n_frames):
            stored.seek(i)
            total += stored.info["duration"]
            assert np.array_equal(np.array(stored.convert("L")), np.array(frame))
    assert total == 500


def test_save_gif_refuses_what_is_no_animation(tmp_path: Path):
    path = tmp_path / "video.gif"
    with pytest.raises(ValueError, match="`frames` must be pictures of equal size, but got none"):
        save_gif(path, [], 10)
    with pytest.raises(ValueError, match="`frames` must be pictures of equal size"):
        save_gif(path, [black(2, 3), black(3, 2)], 10)
    for fps in (0, -1, 51, math.nan):
        with pytest.raises(ValueError, match="`fps` must be in"):
            save_gif(path, [black(2, 3)], fps)
    with pytest.raises(ValueError, match=r"`path` must end in `\.gif`"):
        save_gif(tmp_path / "video.png", [black(2, 3)], 10)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("size", [(30, 20), (31, 21)])
def test_mp4_holds_the_frames_in_order_at_their_rate(tmp_path: Path, size: tuple[int, int]):
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'whatwhere[video]'")
    shades = [0, 250, 60, 120, 180]
    path = tmp_path / "new" / "video.mp4"
    save_mp4(path, [Image.new("RGB", size, (shade, shade, 250 - shade)) for shade in shades], 12.5)
    assert os.listdir(path.parent) == ["video.mp4"]
    video = read_video(path)
    width, height = size
    assert video.shape == (5, 3, height + height % 2, width + width % 2)
    for frame, shade in zip(video, shades, strict=True):
        middle = np.median(frame[:, :height, :width], axis=(1, 2))
        assert np.abs(middle - [shade, shade, 250 - shade]).max() <= 6
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == Fraction(25, 2)


def test_save_mp4_refuses_what_is_no_film(tmp_path: Path):
    path = tmp_path / "video.mp4"
    with pytest.raises(ValueError, match="`frames` must be pictures of equal size, but got none"):
        save_mp4(path, [], 10)
    with pytest.raises(ValueError, match="`fps` must be in"):
        save_mp4(path, [black(2, 3)], 0)
    with pytest.raises(ValueError, match=r"`path` must end in `\.mp4`"):
        save_mp4(tmp_path / "video.gif", [black(2, 3)], 10)
    assert not os.listdir(tmp_path)


def test_save_mp4_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RuntimeError, match=r"pip install 'whatwhere\[video\]'"):
        save_mp4(tmp_path / "video.mp4", [black(2, 3)], 10)
    assert not os.listdir(tmp_path)
