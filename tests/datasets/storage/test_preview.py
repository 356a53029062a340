import numpy as np
import pytest
from PIL import ImageColor

from whatwhere.datasets import VideoData, contact_sheet
from whatwhere.datasets.storage.preview import BOX_COLOURS

GAP = 4


def test_stills_fill_a_square_grid() -> None:
    video = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1, 1) * np.ones((1, 1, 1, 3, 4), np.uint8) + 100
    sheet = np.asarray(contact_sheet(VideoData(video), zoom=2))
    assert sheet.shape == (2 * (6 + GAP) + GAP, 3 * (8 + GAP) + GAP, 3)
    for i in range(5):
        row, column = divmod(i, 3)
        top, left = GAP + row * (6 + GAP), GAP + column * (8 + GAP)
        assert (sheet[top : top + 6, left : left + 8] == 100 + i).all()


def test_videos_have_one_row_each() -> None:
    video = np.zeros((2, 5, 3, 3, 4), np.uint8)
    video[1, 4, 2] = 200
    sheet = np.asarray(contact_sheet(VideoData(video), zoom=1))
    assert sheet.shape == (2 * (3 + GAP) + GAP, 5 * (4 + GAP) + GAP, 3)
    assert sheet[-GAP - 1, -GAP - 1].tolist() == [0, 0, 200]


@pytest.mark.parametrize("visible", [0.0, 0.5])
def test_box_surrounds_its_pixels(visible: float) -> None:
    video = np.zeros((1, 1, 1, 12, 12), np.uint8)
    video[0, 0, 0, 5:8, 3:10] = 255
    data = VideoData(
        video,
        boxes=np.array([3, 5, 7, 3], np.float32).reshape(1, 1, 1, 4),
        visible=np.full((1, 1, 1), visible, np.float32),
    )
    sheet = np.asarray(contact_sheet(data, zoom=3))[GAP:-GAP, GAP:-GAP]
    outline = (sheet == ImageColor.getrgb(BOX_COLOURS[0])).all(-1)
    expected = np.zeros((36, 36), bool)
    if visible:
        expected[14:25, 8:31] = True
        expected[15:24, 9:30] = False
    np.testing.assert_array_equal(outline, expected)
    assert (sheet[15:24, 9:30] == 255).all()


@pytest.mark.parametrize(("left", "top", "outline"), [(-2, 3, (0, 3, 5, 10)), (10, 9, (10, 9, 15, 12))])
def test_boxes_are_cut_off_at_the_border(left: int, top: int, outline: tuple[int, int, int, int]) -> None:
    box = np.array([left, top, 7, 7], np.float32).reshape(1, 1, 1, 4)
    sheet = np.asarray(contact_sheet(VideoData(np.zeros((1, 1, 1, 12, 15), np.uint8), boxes=box), zoom=2))
    rows, columns = np.nonzero((sheet == ImageColor.getrgb(BOX_COLOURS[0])).all(-1))
    corners = columns.min() + 1, rows.min() + 1, columns.max(), rows.max()
    assert corners == tuple(GAP + 2 * x for x in outline)


@pytest.mark.parametrize("box", [(-8.0, 0.0, 7.0, 7.0), (3.0, 12.0, 7.0, 7.0)])
def test_boxes_outside_are_not_drawn(box: tuple[float, float, float, float]) -> None:
    blank = np.zeros((1, 1, 1, 12, 12), np.uint8)
    boxes = np.array(box, np.float32).reshape(1, 1, 1, 4)
    assert contact_sheet(VideoData(blank, boxes=boxes)) == contact_sheet(VideoData(blank))


def test_counts_are_written(videos: VideoData) -> None:
    blank = np.zeros((1, 1, 1, 20, 20), np.uint8)
    without = contact_sheet(VideoData(blank))
    with_count = contact_sheet(VideoData(blank, count=np.ones((1, 1), np.int64)))
    assert np.asarray(without).tobytes() != np.asarray(with_count).tobytes()


def test_zoom_must_be_positive(videos: VideoData) -> None:
    with pytest.raises(ValueError, match="`zoom` must be at least 1"):
        contact_sheet(videos, zoom=0)
