import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whatwhere.models.components.attention import paste
from whatwhere.models.components.boxes import boxes_to_coords, coords_to_boxes, ink_boxes, iou

lengths = st.floats(0.5, 60)
positions = st.floats(-20, 60)


@given(left=positions, top=positions, width=lengths, height=lengths)
def test_boxes_and_coords_round_trip(left: float, top: float, width: float, height: float):
    box = torch.tensor([left, top, width, height], dtype=torch.float64)
    size = (40, 50)
    torch.testing.assert_close(coords_to_boxes(boxes_to_coords(box, size), size), box)


@given(left=st.integers(0, 30), top=st.integers(0, 20), width=st.integers(2, 20), height=st.integers(2, 20))
def test_pasting_a_full_glimpse_into_the_coords_of_a_box_fills_that_box(
    left: int, top: int, width: int, height: int
):
    box = torch.tensor([left, top, width, height], dtype=torch.float64)
    size = (40, 50)
    glimpse = torch.ones(1, height, width, dtype=torch.float64)
    image = paste(glimpse, boxes_to_coords(box, size), size)
    expected = torch.zeros(1, *size, dtype=torch.float64)
    expected[:, top : top + height, left : left + width] = 1
    torch.testing.assert_close(image, expected)
    torch.testing.assert_close(ink_boxes(image, 0.5), box)


def test_the_whole_image_is_unit_scale():
    coords = boxes_to_coords(torch.tensor([0.0, 0.0, 50.0, 40.0]), (40, 50))
    torch.testing.assert_close(coords, torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_ink_box_of_nothing_is_empty_and_any_channel_counts():
    images = torch.zeros(2, 2, 6, 8)
    images[1, 0, 2, 3] = 1
    images[1, 1, 4, 6] = 1
    assert ink_boxes(images, 0.5).tolist() == [[0, 0, 0, 0], [3, 2, 4, 3]]


@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 6), st.integers(1, 6)),
        min_size=2,
        max_size=2,
    )
)
def test_iou_counts_pixels(boxes: list[tuple[int, int, int, int]]):
    grids = []
    for left, top, width, height in boxes:
        grid = torch.zeros(16, 16, dtype=torch.bool)
        grid[top : top + height, left : left + width] = True
        grids.append(grid)
    expected = (grids[0] & grids[1]).sum() / (grids[0] | grids[1]).sum()
    value = iou(torch.tensor(boxes[0]).float(), torch.tensor(boxes[1]).float())
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(iou(torch.tensor(boxes[1]).float(), torch.tensor(boxes[0]).float()), value)


def test_iou_of_empty_boxes_is_zero_with_a_finite_gradient():
    box = torch.zeros(4, requires_grad=True)
    value = iou(box, torch.zeros(4))
    assert value == 0
    (gradient,) = torch.autograd.grad(value, box)
    assert gradient.isfinite().all()


def test_iou_broadcasts():
    first, second = torch.rand(3, 1, 4), torch.rand(1, 5, 4)
    assert iou(first, second).shape == (3, 5)
    torch.testing.assert_close(iou(first, second)[2, 4], iou(first[2, 0], second[0, 4]))


@pytest.mark.parametrize("shift", [0.0, 2.0, 10.0])
def test_iou_of_shifted_squares(shift: float):
    first, second = torch.tensor([0.0, 0.0, 4.0, 4.0]), torch.tensor([shift, 0.0, 4.0, 4.0])
    overlap = max(0.0, 4 - shift) * 4
    torch.testing.assert_close(iou(first, second).item(), overlap / (32 - overlap))
