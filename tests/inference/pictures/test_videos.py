import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from whatwhere.inference.evaluation import Tracks
from whatwhere.inference.pictures import draw_paths, film_strip, save_gif, tracking_pictures
from whatwhere.inference.pictures.drawing import SLOT_COLOURS, Caption, font, grid
from whatwhere.inference.pictures.videos import draw_tracks

WHITE = (255, 255, 255)
LINE = (118, 118, 118)


def coloured(picture: Image.Image, colour: tuple[int, int, int]) -> Tensor:
    """Which pixels `(H, W)` have a colour."""
    return torch.from_numpy((np.array(picture) == colour).all(-1))


def outline(size: tuple[int, int], left: int, top: int, right: int, bottom: int, line: int = 1) -> Tensor:
    """The pixels `(H, W)` of an outline inside `[left, right) x [top, bottom)`, one by one."""
    mask = np.zeros(size, bool)
    for y, x in itertools.product(range(size[0]), range(size[1])):
        if left <= x < right and top <= y < bottom:
            mask[y, x] = min(x - left, right - 1 - x, y - top, bottom - 1 - y) < line
    return torch.from_numpy(mask)


def black(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


def bounds(mask: Tensor) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the smallest box around the pixels of a mask."""
    ys, xs = mask.nonzero().unbind(-1)
    return xs.min().item(), ys.min().item(), xs.max().item() + 1, ys.max().item() + 1


def number(text: str, colour: tuple[int, int, int]) -> np.ndarray:
    """A number on black, without margins."""
    picture = black(100, 40)
    pen = ImageDraw.Draw(picture)
    pen.text((10, 10), text, colour, font(bold=True), stroke_width=1, stroke_fill=(0, 0, 0))
    left, top, right, bottom = bounds(~coloured(picture, (0, 0, 0)))
    return np.array(picture)[top:bottom, left:right]


def draw(
    boxes: list[list[float]], identities: list[int], size: tuple[int, int] = (200, 200), factor: int = 1
) -> Image.Image:
    present = torch.ones(len(boxes))
    return draw_tracks(black(*size), torch.tensor(boxes), present, torch.tensor(identities), factor)


# Boxes and identities


def test_colours_belong_to_identities_and_repeat():
    count = len(SLOT_COLOURS)
    identities = [3, 0, count + 1, 2 * count + 5, 4]
    boxes = [[10.0 * slot, 2, 5, 5] for slot in range(len(identities))]
    picture = draw(boxes, identities, (60, 12))
    for slot, colour in enumerate([3, 0, 1, 5, 4]):
        mask = outline((12, 60), 10 * slot, 2, 10 * slot + 5, 7)
        assert torch.equal(coloured(picture, SLOT_COLOURS[colour]), mask)
    assert coloured(picture, (0, 0, 0)).sum() == 12 * 60 - 5 * 16


def test_absent_slots_are_neither_drawn_nor_numbered():
    boxes = torch.tensor([[40.0, 40, 30, 30], [100, 100, 50, 50]])
    picture = draw_tracks(black(200, 200), boxes, torch.tensor([0.0, 1.0]), torch.tensor([2, 1]))
    assert bounds(~coloured(picture, (0, 0, 0)))[2:] == (150, 150)
    assert not coloured(picture, SLOT_COLOURS[2]).any()
    assert not coloured(picture.crop((0, 0, 90, 90)), (1, 1, 1)).any()
    none = draw_tracks(black(200, 200), boxes, torch.zeros(2), torch.tensor([-1, -1]))
    assert coloured(none, (0, 0, 0)).all()
    empty = draw_tracks(black(200, 200), torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())
    assert coloured(empty, (0, 0, 0)).all()


@pytest.mark.parametrize("identity", [0, 7, 12, 345])
@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((50, 60, 40, 30), "above"),
        ((185, 60, 40, 30), "above"),  # reaches beyond the right border
        ((-20, 60, 40, 30), "above"),
        ((50, 190, 40, 30), "above"),
        ((50, 1, 40, 30), "below"),
        ((50, -10, 40, 30), "below"),
        ((50, 5, 40, 190), "inside"),
        ((-9, -9, 400, 400), "inside"),  # its outline is not in the picture
    ],
)
def test_the_identity_is_written_beside_its_box(identity: int, box: tuple[int, ...], place: str):
    picture = draw([list(map(float, box))], [identity])
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    mask = outline((200, 200), left, top, right, bottom)
    colour = SLOT_COLOURS[identity % len(SLOT_COLOURS)]
    assert coloured(picture, colour)[mask].all()  # numbers do not hide the outline
    pixels = np.array(picture)
    pixels[mask.numpy()] = 0
    digits = bounds(torch.from_numpy(pixels.any(-1)))
    np.testing.assert_array_equal(
        pixels[digits[1] : digits[3], digits[0] : digits[2]], number(str(identity), colour)
    )
    # beside the left side of the box, but for the stroke, the bearing of a digit, and the picture's borders
    width = digits[2] - digits[0]
    assert abs(digits[0] - min(max(left, 0), 200 - width)) <= 3
    if place == "above":
        assert top - 5 <= digits[3] <= top
    elif place == "below":
        assert bottom <= digits[1] <= bottom + 5
    else:
        assert max(top, 0) < digits[1] <= max(top, 0) + 5


def test_boxes_and_numbers_are_enlarged_with_the_frame():
    small, large = draw([[60.0, 80, 40, 20]], [4]), draw([[15.0, 20, 10, 5]], [4], factor=4)
    ring = outline((200, 200), 60, 80, 100, 100, line=2)
    assert torch.equal(coloured(large, SLOT_COLOURS[4])[80:], ring[80:])
    np.testing.assert_array_equal(np.array(small)[:80], np.array(large)[:80])


@pytest.mark.parametrize("size", [(95, 200), (200, 95)])
def test_small_frames_have_no_numbers(size: tuple[int, int]):
    picture = draw([[30.0, 40, 30, 30]], [2], size)
    assert torch.equal(~coloured(picture, (0, 0, 0)), outline(size[::-1], 30, 40, 60, 70))
    assert (~coloured(draw([[30.0, 40, 30, 30]], [2], (96, 96)), (0, 0, 0))).sum() > 116


@pytest.mark.parametrize(
    "box",
    [
        (-30, 50, 20, 20),
        (-20, 50, 20, 20),
        (200, 50, 20, 20),
        (50, -20, 20, 20),
        (50, 200, 20, 20),
        (50, 50, 0, 20),
        (50, 50, 20, -1),
        (math.nan, 50, 20, 20),
        (50, 50, 20, math.inf),
    ],
)
def test_boxes_that_cannot_be_seen_have_no_number(box: tuple[float, ...]):
    assert coloured(draw([list(map(float, box))], [3]), (0, 0, 0)).all()


def test_draw_tracks_refuses_shapes_that_do_not_agree():
    with pytest.raises(ValueError, match=r"`identities` must have the shape \(2,\)"):
        draw_tracks(black(9, 9), torch.zeros(2, 4), torch.zeros(2), torch.zeros(3).long())
    with pytest.raises(ValueError, match="`boxes` must have shape"):
        draw_tracks(black(9, 9), torch.zeros(3, 4), torch.zeros(2), torch.zeros(2).long())


# One picture for each frame


class Clip:
    """Three frames of 20 by 30: object 7 leaves slot 0 to object 3, which was in slot 1; then none."""

    video = torch.full((3, 1, 20, 30), 51 / 255)
    canvas = torch.full((3, 1, 20, 30), 102 / 255)
    boxes = torch.tensor(
        [[[2.0, 3, 5, 6], [12, 8, 4, 6]], [[13.0, 9, 4, 6], [1, 1, 9, 9]], [[1.0, 1, 9, 9]] * 2]
    )
    present = torch.tensor([[1, 1], [1, 0], [0, 0]])
    identities = torch.tensor([[7, 3], [3, -1], [7, 3]])


def pictures(factor: int | None = 2, **changes: Any) -> list[Image.Image]:
    names = ("video", "boxes", "present", "identities")
    return list(
        tracking_pictures(**{**{name: getattr(Clip, name) for name in names}, **changes}, factor=factor)
    )


def tiles(page: Image.Image, size: tuple[int, int], count: int = 1) -> list[Image.Image]:
    """The frames of a page: at its bottom from the left, 8 pixels from borders and each other."""
    columns = [8 + column * (page_columns(size, count) + 8) for column in range(count)]
    top = page.height - 8 - size[1]
    return [page.crop((left, top, left + size[0], top + size[1])) for left in columns]


def page_columns(size: tuple[int, int], count: int) -> int:
    """Width of a column: that of the frame, or of the words above it."""
    heads = [math.ceil(font(bold=True).getlength(name)) for name in ("input", "reconstruction")]
    return size[0] if count == 1 else max(size[0], *heads)


def test_an_object_keeps_its_colour_when_it_changes_its_slot():
    pages = pictures()
    seven, three = SLOT_COLOURS[1], SLOT_COLOURS[3]
    expected = [{seven: (2, 3, 7, 9), three: (12, 8, 16, 14)}, {three: (13, 9, 17, 15)}, {}]
    for page, boxes in zip(pages, expected, strict=True):
        (tile,) = tiles(page, (60, 40))
        rest = torch.ones(40, 60, dtype=torch.bool)
        for colour in SLOT_COLOURS:
            corners = [2 * corner for corner in boxes.get(colour, (0, 0, 0, 0))]
            mask = outline((40, 60), *corners)
            assert torch.equal(coloured(tile, colour), mask)
            rest &= ~mask
        assert torch.equal(coloured(tile, (51, 51, 51)), rest)


def test_the_model_s_frame_stands_beside_with_the_same_boxes():
    for page, alone in zip(pictures(canvas=Clip.canvas), pictures(), strict=True):
        first, second = tiles(page, (60, 40), 2)
        np.testing.assert_array_equal(np.array(first), np.array(tiles(alone, (60, 40))[0]))
        np.testing.assert_array_equal(coloured(second, (102, 102, 102)), coloured(first, (51, 51, 51)))
        for colour in SLOT_COLOURS:
            assert torch.equal(coloured(second, colour), coloured(first, colour))


def test_the_line_above_has_the_numbers_of_the_frame_and_of_its_objects():
    titles = ["frame 0 (seen): 2 objects", "frame 1: 1 object", "frame 2 (generated): 0 objects"]
    for page, title in zip(pictures(captions=["seen", "", "generated"]), titles, strict=True):
        words = np.array(grid([[black(60, 40)]], title=title))[:30]
        np.testing.assert_array_equal(np.array(page)[:30, : words.shape[1]], words)
        assert (np.array(page)[:30, words.shape[1] :] == 255).all()


def test_names_stand_above_their_frames():
    page = pictures(canvas=Clip.canvas, names=("truth", "imagined"), factor=5)[0]
    words = grid([[black(150, 100)] * 2], None, ["truth", "imagined"], title="frame 0: 2 objects")
    np.testing.assert_array_equal(np.array(page)[:-108], np.array(words)[:-108])


def test_pictures_are_of_equal_size_and_make_an_animation(tmp_path: Path):
    pages = pictures(captions=["", "a remark that is longer than the others", ""], factor=1)
    assert len({page.size for page in pages}) == 1
    assert all(page.mode == "RGB" for page in pages)
    save_gif(tmp_path / "film.gif", pages, 10)
    with Image.open(tmp_path / "film.gif") as stored:
        assert stored.n_frames == 3


def test_pages_of_parts_of_a_video_are_those_of_the_whole():
    fields = {name: getattr(Clip, name) for name in ("video", "boxes", "present", "identities")}
    whole = list(tracking_pictures(**fields, factor=1))
    parts = tracking_pictures(**{name: value[1:] for name, value in fields.items()}, factor=1, first=1)
    for one, other in zip(whole[1:], parts, strict=True):
        assert np.array_equal(np.array(one), np.array(other))


def test_values_are_clamped_and_colours_kept():
    video = torch.tensor([-1.0, 0.4, 2.0])[:, None, None].expand(2, 3, 20, 30)
    _, page = tracking_pictures(
        video, torch.zeros(2, 0, 4), torch.zeros(2, 0), torch.zeros(2, 0).long(), factor=1
    )
    assert coloured(tiles(page, (30, 20))[0], (0, 102, 255)).all()


def test_frames_are_enlarged_to_a_legible_size():
    (tile,) = tiles(pictures(factor=None)[0], (240, 160))  # 30 pixels times 8
    assert torch.equal(coloured(tile, SLOT_COLOURS[1])[24:72, 16:56], outline((48, 40), 0, 0, 40, 48, line=4))
    assert coloured(tile, SLOT_COLOURS[1])[:24].any()  # the number


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"video": torch.zeros(3, 20, 30)}, r"`video` must have shape \(T, C, H, W\)"),
        ({"video": torch.zeros(0, 1, 20, 30)}, "with T > 0"),
        ({"boxes": torch.zeros(3, 2, 3)}, r"`boxes` must have shape \(3, N, 4\)"),
        ({"present": torch.zeros(2, 2)}, r"`boxes` must have shape \(3, N, 4\)"),
        ({"identities": torch.zeros(3, 3).long()}, r"`boxes` must have shape \(3, N, 4\)"),
        ({"canvas": torch.zeros(3, 1, 20, 29)}, "`canvas` must have the shape"),
        ({"captions": ["a", "b"]}, "`captions` must be 3, but are 2"),
    ],
)
def test_tracking_pictures_name_what_does_not_agree(changes: dict[str, Any], problem: str):
    with pytest.raises(ValueError, match=problem):
        pictures(**changes)


# Strips


def film(values: list[int], channels: int = 1) -> Tensor:
    """Frames of 60 by 90, each of one grey value of 255."""
    return (torch.tensor(values) / 255)[:, None, None, None].expand(-1, channels, 60, 90)


def places(strip: Image.Image, values: list[int]) -> list[tuple[int, int]]:
    """Left and top of the frames of some grey values, each checked to be 90 x 60 and whole."""
    corners = []
    for value in values:
        left, top, right, bottom = bounds(coloured(strip, (value, value, value)))
        assert (right - left, bottom - top) == (90, 60)
        assert coloured(strip, (value, value, value)).sum() == 90 * 60
        corners.append((left, top))
    return corners


# Greys that are darker than all words and lines.
TOP, BOTTOM = [1, 2, 3, 4], [5, 6, 7, 8]


def test_time_runs_from_left_to_right_and_every_video_has_a_row():
    strip = film_strip([film(TOP), film(BOTTOM, channels=3)], ["input", Caption("model", "mean")], factor=1)
    (left, top), *others = places(strip, TOP)
    assert others == [(left + 98 * number, top) for number in (1, 2, 3)]
    assert places(strip, BOTTOM) == [(left + 98 * number, top + 68) for number in range(4)]
    assert strip.size == (left + 4 * 98, top + 2 * 68)
    words = ~coloured(strip, WHITE)
    for row in (0, 1):
        assert words[top + 68 * row : top + 68 * row + 60, :left].any()  # its label
    for column in range(4):
        assert words[:top, left + 98 * column : left + 98 * column + 90].any()  # its number
    assert not coloured(strip, LINE)[top:, left:].any()


def test_marks_set_frames_off_by_a_line():
    plain = film_strip([film(TOP), film(BOTTOM)], ["a", "b"], factor=1)
    strip = film_strip([film(TOP), film(BOTTOM)], ["a", "b"], marks={2: "generated"}, factor=1)
    (left, top) = places(strip, TOP)[0]
    lefts = [left, left + 98, left + 2 * 98 + 16, left + 3 * 98 + 16]
    assert places(strip, TOP) == [(x, top) for x in lefts]
    assert places(strip, BOTTOM) == [(x, top + 68) for x in lefts]
    assert strip.size == (plain.width + 16, plain.height + 17)  # one more line of words
    columns = coloured(strip, LINE)[top : top + 128].all(0).nonzero().squeeze(-1).tolist()
    assert columns == [left + 98 + 90 + 11, left + 98 + 90 + 12]  # the middle of the gap of 24 pixels
    words = ~coloured(strip, WHITE)[top - 38 : top - 21]  # the line above that of the numbers
    assert [bool(words[:, x : x + 90].any()) for x in lefts] == [False, False, True, False]


def test_the_first_frame_can_be_marked_without_a_line():
    strip = film_strip([film(TOP)], ["a"], marks={0: "generated", 3: "end"}, factor=1)
    first, *others = places(strip, TOP)
    plain = places(film_strip([film(TOP)], ["a"], factor=1), TOP)
    assert first == (plain[0][0], plain[0][1] + 17)
    assert [x - first[0] for x, _ in others] == [98, 196, 294 + 16]


def test_the_numbers_and_marks_are_those_of_the_frames():
    strip = film_strip([film(TOP)], ["a"], marks={2: "generated"}, factor=1, title="title")
    heads = [Caption("", "0"), Caption("", "1"), Caption("generated", "2"), Caption("", "3")]
    words = grid([[black(90, 60)] * 4], ["a"], heads, title="title", dividers=[2])
    np.testing.assert_array_equal(np.array(strip)[:-68], np.array(words)[:-68])


def test_rows_may_end_earlier():
    strip = film_strip([film(TOP[:2]), film(BOTTOM)], ["seen", "model"], factor=1)
    (left, top), (second, _) = places(strip, TOP[:2])
    assert second == left + 98
    assert places(strip, BOTTOM) == [(left + 98 * number, top + 68) for number in range(4)]
    assert coloured(strip, WHITE)[top : top + 60, left + 2 * 98 - 8 :].all()


def test_objects_are_drawn_into_the_rows_that_have_them():
    boxes = torch.tensor([[[10.0, 12, 20, 15]], [[10.0, 12, 20, 15]], [[30.0, 12, 20, 15]], [[0.0, 0, 9, 9]]])
    tracks = Tracks(boxes, torch.tensor([[1], [0], [1], [1]]), torch.tensor([[8], [8], [8], [9]]))
    strip = film_strip([film(TOP), film(BOTTOM)], ["a", "b"], [None, tracks], factor=1)
    left, top = places(strip, TOP)[0]
    expected = torch.zeros(strip.height, strip.width, dtype=torch.bool)
    for column, x in ((0, 10), (2, 30)):
        corner = left + 98 * column, top + 68
        expected[corner[1] : corner[1] + 60, corner[0] : corner[0] + 90] = outline(
            (60, 90), x, 12, x + 20, 27
        )
    assert torch.equal(coloured(strip, SLOT_COLOURS[2]), expected)
    assert coloured(strip, SLOT_COLOURS[3]).sum() == 4 * 8


def test_strips_are_enlarged_to_a_legible_size():
    strip = film_strip([torch.full((1, 1, 50, 50), 9 / 255)], ["a"])
    left, top, right, bottom = bounds(coloured(strip, (9, 9, 9)))
    assert (right - left, bottom - top) == (150, 150)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rows": []}, "must be equally many, at least one, but are 0, 2"),
        ({"labels": ["a"]}, "must be equally many, at least one, but are 2, 1 and 2"),
        ({"tracks": [None]}, "must be equally many, at least one, but are 2, 2 and 1"),
        ({"rows": [film(TOP), film([])]}, r"`rows\[1\]` must have shape \(T, C, H, W\) with T > 0"),
        ({"rows": [film(TOP), film(BOTTOM)[..., 1:]]}, "tiles of one size"),
        (
            {"tracks": [None, Tracks(torch.zeros(3, 2, 4), torch.zeros(3, 2), torch.zeros(3, 2).long())]},
            r"`tracks\[1\]` must have shape \(4, N, 4\)",
        ),
        ({"marks": {4: "generated"}}, r"`marks` must be on frames from 0 to 3, but are on \[4\]"),
        ({"marks": {-1: "generated"}}, "`marks` must be on frames"),
    ],
)
def test_strips_name_what_does_not_agree(changes: dict[str, Any], problem: str):
    with pytest.raises(ValueError, match=problem):
        film_strip(**{"rows": [film(TOP), film(BOTTOM)], "labels": ["a", "b"], **changes})


def test_grids_refuse_dividers_without_a_column():
    for divider in (-1, 2):
        with pytest.raises(ValueError, match="`dividers` must be columns from 0 to 1"):
            grid([[black(3, 4)] * 2], dividers=[divider])


def test_paths_join_an_identity_from_frame_to_frame_in_whichever_slot():
    """Two objects that change slots: each path is a line of one colour; what is absent once is not joined."""
    boxes = torch.tensor(
        [
            [[9.0, 9, 2, 2], [9, 39, 2, 2]],
            [[59, 39, 2, 2], [59, 9, 2, 2]],
            [[109, 9, 2, 2], [109, 39, 2, 2]],
        ]
    )
    present = torch.tensor([[1, 1], [1, 1], [1, 0]])
    names = torch.tensor([[0, 1], [1, 0], [0, 1]])
    picture = draw_paths(black(240, 100), Tracks(boxes, present, names), factor=2)
    for name, row, stop in ((0, 20, 220), (1, 80, 120)):
        line = np.array(picture)[row]
        assert (line[20 : stop + 1] == SLOT_COLOURS[name]).all()
        assert not line[stop + 3 :].any()
        assert not line[:17].any()
    alone = draw_paths(black(240, 100), Tracks(boxes, present, names), factor=2, colour=WHITE)
    assert coloured(alone, WHITE).sum() == (np.array(picture) > 0).any(-1).sum()


def test_paths_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="must have shape"):
        draw_paths(black(9, 9), Tracks(torch.zeros(2, 1, 4), torch.ones(3, 1), torch.zeros(3, 1)))
