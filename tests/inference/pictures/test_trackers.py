"""Pictures of tracking, pixel by pixel against slow drawings, and curves against the numbers they show."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from whatwhere.inference.evaluation import SUCCESS_THRESHOLDS, Overlaps
from whatwhere.inference.pictures import (
    TrackedVideo,
    annotated_frames,
    iou_plot,
    save_gif,
    save_picture,
    success_plot,
    tracking_strips,
)
from whatwhere.inference.pictures import trackers as tracker_pictures
from whatwhere.inference.pictures.drawing import WRONG, Caption, Colour, grid, stack
from whatwhere.inference.pictures.trackers import ATTENTION, PREDICTED, TRUE

Pixels = npt.NDArray[np.uint8]

SIDE = 160  # of a frame of `video()`
LINE = 17  # height of a line of words


def video(frames: int = 6, size: tuple[int, int] = (20, 20)) -> Tensor:
    """Frame t has the grey value 8 t everywhere."""
    return (8 * torch.arange(float(frames)) / 255)[:, None, None, None].expand(frames, 1, *size)


def boxes(frames: int, *box: float) -> Tensor:
    return torch.tensor([box]).repeat(frames, 1).float()


def tracked(frames: int = 6, **fields: Any) -> TrackedVideo:
    return TrackedVideo(video(frames), boxes(frames, 2, 3, 6, 4), **fields)


def count(picture: Image.Image, colour: Colour) -> int:
    return int((np.array(picture) == colour).all(-1).sum())


def rectangle(
    pixels: Pixels, left: int, top: int, right: int, bottom: int, line: int, colour: Colour
) -> None:
    """An outline inside `[left, right) x [top, bottom)`, pixel by pixel."""
    for y, x in itertools.product(range(top, bottom), range(left, right)):
        if min(x - left, right - 1 - x, y - top, bottom - 1 - y) < line:
            pixels[y, x] = colour


def strip_tile(picture: Image.Image, row: int, column: int, height: int) -> Image.Image:
    """A tile of strips without labels and title, `SIDE` wide."""
    left, top = 8 + column * (SIDE + 8), 8 + LINE + 8 + row * (height + 8)
    return picture.crop((left, top, left + SIDE, top + height))


def frame_of(tile: Image.Image) -> Pixels:
    """The frame in a tile, below its number."""
    return np.array(tile)[LINE + 4 : LINE + 4 + SIDE]


def page_tile(page: Image.Image, column: int = 0, side: int = 240) -> Pixels:
    """A tile of a page of an animation."""
    left, top = 8 + column * (side + 8), 8 + 2 * (LINE + 8)
    return np.array(page)[top : top + side, left : left + side]


# Strips


def test_a_strip_shows_frames_evenly_spread_with_their_numbers():
    picture = tracking_strips([tracked(30)], columns=4)
    height = LINE + 4 + SIDE
    assert picture.size == (8 + 4 * (SIDE + 8), 8 + LINE + 8 + height + 8)
    for column, t in enumerate([0, 10, 19, 29]):
        tile = strip_tile(picture, 0, column, height)
        assert (frame_of(tile)[0] == 8 * t).all()
        words = np.array(stack([Caption(str(t)), Image.new("RGB", (SIDE, 1))]))[:LINE]
        np.testing.assert_array_equal(np.array(tile)[:LINE], words)


def test_videos_of_other_lengths_show_their_own_frames():
    short, long = tracked(2), tracked(9)
    picture = tracking_strips([long, short], columns=3)
    height = LINE + 4 + SIDE
    grey = [
        [int(frame_of(strip_tile(picture, row, column, height))[0, 0, 0]) // 8 for column in range(n)]
        for row, n in ((0, 3), (1, 2))
    ]
    assert grey == [[0, 4, 8], [0, 1]]
    assert np.array(strip_tile(picture, 1, 2, height)).min() == 255


def test_chosen_frames_are_shown_where_a_video_has_them():
    picture = tracking_strips([tracked(4), tracked(8)], frames=[1, 3, 6])
    height = LINE + 4 + SIDE
    grey = [
        [int(frame_of(strip_tile(picture, row, column, height))[0, 0, 0]) // 8 for column in range(n)]
        for row, n in ((0, 2), (1, 3))
    ]
    assert grey == [[1, 3], [1, 3, 6]]


def test_boxes_are_outlined_and_the_true_one_is_thinner_and_above():
    truth = boxes(6, 2, 3, 6, 6)
    picture = tracking_strips([tracked(truth=truth)], frames=[2])
    found = frame_of(strip_tile(picture, 0, 0, LINE + 4 + SIDE + 4 + LINE))
    expected = np.full((SIDE, SIDE, 3), 16, np.uint8)
    rectangle(expected, 16, 24, 64, 56, 3, PREDICTED)
    rectangle(expected, 16, 24, 64, 72, 2, TRUE)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("truth", "words", "wrong"),
    [
        ((2.0, 3, 6, 4), "IoU 1.00", False),
        ((2.0, 3, 6, 8), "IoU 0.50", False),
        ((12.0, 3, 6, 8), "IoU 0.00", True),
    ],
)
def test_the_overlap_is_written_below_and_red_without_any(truth: tuple[float, ...], words: str, wrong: bool):
    picture = tracking_strips([tracked(truth=boxes(6, *truth))], frames=[0])
    tile = np.array(strip_tile(picture, 0, 0, LINE + 4 + SIDE + 4 + LINE))
    expected = stack([Image.new("RGB", (SIDE, 1)), Caption("", words, wrong=wrong)])
    np.testing.assert_array_equal(tile[-LINE:], np.array(expected)[-LINE:])
    assert (count(picture, WRONG) > 0) is wrong


def test_where_the_object_is_not_there_is_no_true_box():
    present = torch.tensor([True, True, False])
    picture = tracking_strips([tracked(3, truth=boxes(3, 10, 10, 5, 5), present=present)], frames=[1, 2])
    tiles = [strip_tile(picture, 0, column, LINE + 4 + SIDE + 4 + LINE) for column in range(2)]
    assert count(tiles[0], TRUE) == 40 * 40 - 36 * 36
    assert count(tiles[1], TRUE) == 0
    assert count(tiles[1], PREDICTED) == 48 * 32 - 42 * 26
    expected = stack([Image.new("RGB", (SIDE, 1)), Caption("", "not there")])
    np.testing.assert_array_equal(np.array(tiles[1])[-LINE:], np.array(expected)[-LINE:])


def test_the_glimpse_is_below_as_large_as_fits_in_the_colour_of_its_window():
    glimpses = torch.rand(6, 1, 3, 7)
    for attention, colour in ((None, PREDICTED), (boxes(6, 1, 1, 9, 9), ATTENTION)):
        picture = tracking_strips([tracked(glimpses=glimpses, attention=attention)], frames=[4])
        height = 3 * (SIDE // 7)
        tile = np.array(strip_tile(picture, 0, 0, LINE + 4 + SIDE + 4 + height))
        left, right = 3, 3 + 7 * (SIDE // 7)
        found = tile[-height:, left:right]
        values = (glimpses[4, 0] * 255).round().byte().numpy()
        expected = np.repeat(np.kron(values, np.ones((22, 22), np.uint8))[..., None], 3, -1)
        rectangle(expected, 0, 0, 7 * 22, 66, 2, colour)
        np.testing.assert_array_equal(found, expected)
        assert (tile[-height:, :left] == 255).all()
        assert (tile[-height:, right:] == 255).all()


def test_a_glimpse_that_is_larger_than_the_frame_is_made_smaller():
    picture = tracking_strips([tracked(glimpses=torch.full((6, 1, 80, 40), 0.2))], frames=[4], factor=2)
    assert count(picture, (51, 51, 51)) == (40 - 4) * (20 - 4)


def test_words_wider_than_the_frames_widen_all_tiles():
    truth = boxes(3, 0, 0, 1, 1)
    present = torch.tensor([1, 1, 0])
    picture = tracking_strips([tracked(3, truth=truth, present=present)], factor=1)
    columns = np.flatnonzero((np.array(picture)[LINE + 16 + LINE + 8] != 255).any(-1))
    starts = columns[np.diff(columns, prepend=-9) > 1]
    assert len(starts) == 3
    assert np.ptp(np.diff(starts)) <= 1  # half pixels of the middle


def test_titles_labels_and_the_legend_are_those_of_the_grid():
    named = tracked(1, truth=boxes(1, 3, 3, 3, 3), attention=boxes(1, 1, 1, 9, 9), heat=torch.ones(1, 2, 2))
    picture = tracking_strips([named, tracked(1)], ["one", "two"], title="some title")
    legend = [
        Caption("predicted box", swatch=PREDICTED),
        Caption("true box", swatch=TRUE),
        Caption("attention window", swatch=ATTENTION),
        Caption("soft mask", swatch=(213, 94, 0)),
    ]
    blank = Image.new("RGB", (SIDE, 10))
    expected = grid([[blank], [blank]], ["one", "two"], title="some title", legend=legend)
    head = 8 + 2 * (LINE + 8)
    assert (
        np.array(picture)[:head, : expected.width].tolist()
        == np.array(expected)[:head, : picture.width].tolist()
    )
    plain = tracking_strips([tracked(1)])
    assert count(plain, TRUE) == count(plain, ATTENTION) == 0


def test_videos_of_other_sizes_and_fields_can_be_together():
    wide = TrackedVideo(torch.zeros(2, 3, 10, 40), boxes(2, 1, 1, 3, 3), glimpses=torch.zeros(2, 3, 4, 4))
    picture = tracking_strips([wide, tracked(2, truth=boxes(2, 1, 1, 3, 3))])
    height = LINE + 4 + SIDE + 4 + LINE
    assert (frame_of(strip_tile(picture, 1, 1, height))[-1] == 8).all()
    first = np.array(strip_tile(picture, 0, 1, height))
    assert (first[LINE + 4 :][:40].min(), first[LINE + 4 + 40 + 4 + 40 :].min()) == (0, 255)


def test_bytes_are_shown_as_the_same_grey_values():
    frames = torch.randint(256, (3, 3, 20, 20), dtype=torch.uint8)
    pictures = [
        np.array(tracking_strips([tracked(3)._replace(video=pixels)])) for pixels in (frames, frames / 255)
    ]
    np.testing.assert_array_equal(*pictures)


# Animations


def test_pages_are_of_equal_size_one_for_each_frame(tmp_path: Path):
    truth = boxes(12, 2, 3, 6, 4)
    truth[5:, 0] = 18
    pages = list(annotated_frames(tracked(12, truth=truth, glimpses=torch.rand(12, 1, 5, 5)), title="a ball"))
    long = list(annotated_frames(tracked(12), factor=2, title="words that are wider than all the rest"))
    assert len({page.size for page in pages}) == len({page.size for page in long}) == 1
    for t, page in enumerate(pages):
        assert (page_tile(page)[0, 0] == 8 * t).all()
    assert not np.array_equal(np.array(pages[0])[:25], np.array(pages[1])[:25])
    save_gif(tmp_path / "ball.gif", pages, 10)


def test_all_boxes_of_a_page_have_their_colours():
    fields = {"truth": boxes(2, 3, 3, 4, 5), "attention": boxes(2, 0.25, 1, 12, 12.5)}
    _, page = annotated_frames(tracked(2, **fields))
    expected = np.full((240, 240, 3), 8, np.uint8)
    rectangle(expected, 3, 12, 147, 162, 2, ATTENTION)
    rectangle(expected, 24, 36, 96, 84, 3, PREDICTED)
    rectangle(expected, 36, 36, 84, 96, 2, TRUE)
    np.testing.assert_array_equal(page_tile(page), expected)


def test_the_glimpse_is_beside_the_frame_in_the_middle():
    (page,) = annotated_frames(tracked(1, glimpses=torch.full((1, 1, 2, 8), 0.2)))
    beside = page_tile(page, 1)
    expected = np.full((240, 240, 3), 255, np.uint8)
    expected[90:150] = 51
    rectangle(expected, 0, 90, 240, 150, 2, PREDICTED)
    np.testing.assert_array_equal(beside, expected)


@pytest.mark.parametrize("with_attention", [False, True])
def test_the_soft_mask_is_beside_the_frame_and_covers_nothing_of_it(with_attention: bool):
    """A cell of value v is v times the mask's colour; the glimpse comes after it."""
    heat = torch.tensor([[0.0, 0.5, 1.0], [2.0, math.nan, 0.25]])
    attention = boxes(1, 1, 1, 9, 9) if with_attention else None
    one = tracked(1, attention=attention)
    (plain,), (page,) = (
        annotated_frames(video)
        for video in (one, one._replace(heat=heat[None], glimpses=torch.full((1, 1, 4, 4), 0.2)))
    )
    np.testing.assert_array_equal(page_tile(page), page_tile(plain))
    expected = np.full((240, 240, 3), 255, np.uint8)
    for y, x in itertools.product(range(160), range(240)):
        value = heat.nan_to_num(0).clamp(0, 1)[y // 80, x // 80].item()
        expected[40 + y, x] = np.rint(np.float32(value) * np.array([213, 94, 0], np.float32))
    rectangle(expected, 0, 40, 240, 200, 2, (213, 94, 0))
    np.testing.assert_allclose(page_tile(page, 1).astype(int), expected, atol=1)  # a half may be rounded
    assert (page_tile(page, 2)[2:-2, 2:-2] == 51).all()


def test_beside_a_wide_frame_no_column_is_wider_than_what_is_in_it():
    """A frame of 240 x 120, a square mask as high as it, and a glimpse half as wide as high."""
    wide = tracked(1)._replace(video=torch.zeros(1, 1, 10, 20))
    (page,) = annotated_frames(wide._replace(heat=torch.ones(1, 2, 2), glimpses=torch.ones(1, 1, 4, 2)))
    top = 8 + 2 * (LINE + 8)
    row = np.array(page)[top + 60, 8 : 8 + 240 + 8 + 120 + 8 + 60]
    assert (row[120:240] == 0).all()  # right of the box
    assert (row[248:368] == (213, 94, 0)).all()
    assert (row[[376, 435]] == PREDICTED).all()
    assert (row[[240, 247, 368, 375]] == 255).all()


def test_the_soft_mask_of_a_strip_is_between_overlap_and_glimpse():
    fields = {"heat": torch.ones(6, 2, 2), "glimpses": torch.full((6, 1, 4, 4), 0.2)}
    truth = boxes(6, 2, 3, 6, 4)
    plain = tracking_strips([tracked(truth=truth)], frames=[4])
    picture = tracking_strips([tracked(truth=truth, **fields)], frames=[4])
    height = LINE + 4 + SIDE + 4 + LINE
    tile = np.array(strip_tile(picture, 0, 0, height + 2 * (4 + SIDE)))
    np.testing.assert_array_equal(tile[:height], np.array(strip_tile(plain, 0, 0, height)))
    mask, glimpse = tile[height + 4 : height + 4 + SIDE], tile[-SIDE:]
    assert (mask == (213, 94, 0)).all()
    assert (glimpse[2:-2, 2:-2] == 51).all()


def test_pages_of_parts_of_a_video_are_those_of_the_whole():
    one = tracked(12, truth=boxes(12, 2, 3, 6, 4))
    part = one._replace(video=one.video[8:11], boxes=one.boxes[8:11], truth=one.truth[8:11])
    for factor in (None, 1):  # where the line is wider than the frame
        whole = list(annotated_frames(one, factor, "a ball"))
        parts = annotated_frames(part, factor, "a ball", first=8)
        for mine, other in zip(whole[8:11], parts, strict=True):
            np.testing.assert_array_equal(np.array(mine), np.array(other))


def test_pages_are_drawn_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    drawn = []
    monkeypatch.setattr(tracker_pictures, "grid", lambda *args, **kwargs: drawn.append(args) or grid(*args))
    pages = annotated_frames(tracked(6))
    assert not drawn
    next(pages)
    assert len(drawn) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2)])
def test_frames_of_a_pixel_can_be_shown(size: tuple[int, int]):
    one = TrackedVideo(
        torch.zeros(1, 1, *size),
        boxes(1, 0, 0, 1, 1),
        glimpses=torch.zeros(1, 1, *size),
        heat=torch.zeros(1, 1, 1),
    )
    for factor in (None, 1):
        (page,) = annotated_frames(one, factor)
        assert count(page, PREDICTED) > 0
        assert tracking_strips([one], factor=factor).width > 8


# Plots

RAGGED = np.array([[1.0, 0.6, 0.2, 0.4], [1.0, 0.2, math.nan, math.nan]])


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn from here on."""
    drawn: list[Any] = []
    render = tracker_pictures._drawn

    def keep(figure: Any, title: str) -> Image.Image:
        drawn.append(figure)
        return render(figure, title)

    monkeypatch.setattr(tracker_pictures, "_drawn", keep)
    return drawn


def test_iou_over_time_has_a_line_for_each_curve(figures: list[Any]):
    curves = {"RATM": Overlaps(RAGGED), "first box kept": Overlaps(RAGGED / 2)}
    iou_plot(curves, "some title")
    (figure,) = figures
    lines = figure.axes[0].lines
    for line, factor in zip(lines, (1, 0.5), strict=True):
        assert line.get_xdata().tolist() == [0, 1, 2, 3]
        np.testing.assert_allclose(line.get_ydata(), np.array([1, 0.4, 0.2, 0.4]) * factor)
    # means over frames are 0.55 and 0.6
    assert [line.get_label() for line in lines] == ["RATM (0.575)", "first box kept (0.287)"]
    assert [text.get_text() for text in figure.legends[0].texts] == [line.get_label() for line in lines]
    assert figure.legends[0].get_title().get_text() == "some title"
    assert len({line.get_color() for line in lines} | {line.get_linestyle() for line in lines}) == 4


def test_a_panel_shows_how_many_clips_are_left_where_they_end(figures: list[Any]):
    iou_plot({"RATM": Overlaps(RAGGED)})
    iou_plot({"RATM": Overlaps(RAGGED[:, :2])})
    assert [len(figure.axes) for figure in figures] == [2, 1]
    panel = figures[0].axes[1]
    (area,) = panel.collections
    heights = {(x, y) for x, y in area.get_paths()[0].vertices.tolist() if y}
    assert {y for x, y in heights if x <= 1} == {2.0}
    assert {y for x, y in heights if x >= 2} == {1.0}
    assert panel.get_ylabel() == "clips"
    assert panel.get_xlabel() == "frame"


def test_several_trainings_are_a_mean_and_a_band(figures: list[Any]):
    rows = np.array([[1.0, 0.2, 0.9], [1.0, 0.6, 0.3], [1.0, 0.7, 0.6]])
    iou_plot({"RATM": [Overlaps(row[None]) for row in rows]})
    axes = figures[0].axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1, 0.5, 0.6])
    assert axes.lines[0].get_label() == "RATM (0.700)"
    (band,) = axes.collections
    vertices = band.get_paths()[0].vertices
    for x, (low, high) in enumerate([(1.0, 1.0), (0.2, 0.7), (0.3, 0.9)]):
        column = vertices[vertices[:, 0] == x, 1]
        assert (column.min(), column.max()) == (low, high)


def test_success_curves_have_their_areas_in_the_legend(figures: list[Any]):
    perfect, half = Overlaps(np.ones((2, 3))), Overlaps(np.full((2, 3), 0.5))
    success_plot({"true": perfect, "half": [half, half]})
    lines = figures[0].axes[0].lines
    for line, above in zip(lines, (20, 10), strict=True):
        assert line.get_xdata().tolist() == list(SUCCESS_THRESHOLDS)
        assert line.get_ydata().tolist() == [1.0] * above + [0.0] * (21 - above)
    assert [line.get_label() for line in lines] == ["true (AUC 0.952)", "half (AUC 0.476)"]


def test_plots_are_pictures_that_can_be_saved(tmp_path: Path):
    for name, draw in (("iou", iou_plot), ("success", success_plot)):
        picture = draw({"RATM": Overlaps(RAGGED)}, "title")
        assert picture.mode == "RGB"
        assert min(picture.size) > 500
        assert count(picture, PREDICTED) > 500
        assert count(picture, (255, 255, 255)) > picture.width * picture.height / 2
        assert np.array_equal(np.array(picture), np.array(draw({"RATM": Overlaps(RAGGED)}, "title")))
        save_picture(tmp_path / f"{name}.png", picture)


def test_a_single_frame_is_a_dot(figures: list[Any]):
    for frames in (1, 2):
        iou_plot({"RATM": Overlaps(np.full((1, frames), 0.5))})
    assert [figure.axes[0].lines[0].get_marker() for figure in figures] == ["o", ""]


def test_plots_leave_pyplot_alone(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail
    iou_plot({"RATM": Overlaps(RAGGED)})


# Parts


def test_parts_are_stacked_in_the_middle():
    one, two = Image.new("RGB", (10, 4), (9, 0, 0)), Image.new("RGB", (4, 6), (0, 9, 0))
    expected = np.full((17, 10, 3), 255)
    expected[:4] = (9, 0, 0)
    expected[11:, 3:7] = (0, 9, 0)
    np.testing.assert_array_equal(np.array(stack([one, two], padding=7)), expected)


def test_a_stacked_caption_is_written_in_the_middle():
    blank = Image.new("RGB", (90, 5), "white")
    page = np.array(stack([blank, Caption("7")]))
    assert page.shape == (5 + 4 + LINE, 90, 3)
    columns = np.flatnonzero((page != 255).any((0, 2)))
    assert abs(columns.min() + columns.max() - 89) <= 3


def test_a_legend_is_a_line_below_the_title():
    tile = Image.new("RGB", (30, 20), (1, 2, 3))
    entries = [Caption("first", swatch=(9, 0, 0)), Caption("second word", swatch=(0, 9, 0))]
    for title, top in (("", 8), ("title", 8 + LINE + 8)):
        plain, page = (np.array(grid([[tile]], title=title, legend=legend)) for legend in ((), entries))
        assert len(page) == len(plain) + LINE + 8
        np.testing.assert_array_equal(page[top + LINE + 8 :, :46], plain[top:, :46])  # moved down
        places = []
        for colour in ((9, 0, 0), (0, 9, 0)):
            ys, xs = (page == colour).all(-1).nonzero()
            assert top <= ys.min() <= ys.max() < top + LINE
            places.append(xs.min())
        assert places[0] == 8
        ink = np.flatnonzero((page[top : top + LINE] < 200).all(-1).any(0))
        # words between the swatches and after the second, inside the page
        assert any(places[0] + 13 < x < places[1] for x in ink)
        assert places[1] + 40 < ink.max() <= page.shape[1] - 8


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": torch.zeros(0, 1, 9, 9)}, r"video` must have shape \(T, C, H, W\) with T > 0"),
        ({"video": torch.zeros(3, 9, 9)}, r"video` must have shape .* \(3, 9, 9\)"),
        ({"boxes": torch.zeros(2, 4)}, r"boxes` must have shape \(3, 4\), but has \(2, 4\)"),
        ({"truth": torch.zeros(3, 5)}, r"truth` must have shape \(3, 4\)"),
        ({"present": torch.ones(3, 1)}, r"present` must have shape \(3\)"),
        ({"glimpses": torch.ones(3, 5, 5)}, r"glimpses` must have shape \(3, C, h, w\)"),
        ({"attention": torch.ones(4)}, r"attention` must have shape \(3, 4\)"),
        ({"heat": torch.ones(2, 5, 5)}, r"heat` must have shape \(3, h, w\)"),
    ],
)
def test_wrong_shapes_are_refused(change: dict[str, Tensor], message: str):
    wrong = tracked(3)._replace(**change)
    with pytest.raises(ValueError, match=r"`tracked\." + message):
        annotated_frames(wrong)
    with pytest.raises(ValueError, match=r"`videos\[1\]\." + message):
        tracking_strips([tracked(3), wrong])


def test_pictures_of_nothing_are_refused():
    with pytest.raises(ValueError, match="`videos`"):
        tracking_strips([])
    for frames in ([], [-1, 2], [7, 8]):
        with pytest.raises(ValueError, match="`frames`"):
            tracking_strips([tracked(3)], frames=frames)


@pytest.mark.parametrize("draw", [iou_plot, success_plot])
def test_plots_of_nothing_are_refused(draw: Any):
    for curves in ({}, {"RATM": []}):
        with pytest.raises(ValueError, match="`curves` must be at least one"):
            draw(curves)
    unequal = [Overlaps(np.ones((2, 3))), Overlaps(np.ones((2, 4)))]
    with pytest.raises(ValueError, match=r"`curves\['RATM'\]` must be of equal length, .* \[3, 4\]"):
        draw({"RATM": unequal})
