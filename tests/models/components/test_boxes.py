import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from whatwhere.models.components.attention import paste
from whatwhere.models.components.boxes import (
    areas,
    box_within_image,
    boxes_inside,
    cell_coverage,
    coords_to_boxes,
    generalized_iou,
    ink_boxes,
    intersection_areas,
    iou,
    object_boxes,
)

lengths = st.floats(0.5, 60)
positions = st.floats(-20, 60)


def coords_of(box: Tensor, size: tuple[int, int]) -> Tensor:
    """The window from the first to the last of a box's pixel centres, in an image from -1 to 1."""
    last = torch.tensor([size[1] - 1, size[0] - 1], dtype=box.dtype)
    first, end = 2 * box[:2] / last - 1, 2 * (box[:2] + box[2:] - 1) / last - 1
    return torch.cat([(end - first) / 2, (first + end) / 2])


@given(left=positions, top=positions, width=lengths, height=lengths)
def test_boxes_and_coords_round_trip(left: float, top: float, width: float, height: float):
    box = torch.tensor([left, top, width, height], dtype=torch.float64)
    size = (40, 50)
    torch.testing.assert_close(coords_to_boxes(coords_of(box, size), size), box)


@given(left=st.integers(0, 30), top=st.integers(0, 20), width=st.integers(2, 20), height=st.integers(2, 20))
def test_pasting_a_full_glimpse_into_the_coords_of_a_box_fills_that_box(
    left: int, top: int, width: int, height: int
):
    box = torch.tensor([left, top, width, height], dtype=torch.float64)
    size = (40, 50)
    glimpse = torch.ones(1, height, width, dtype=torch.float64)
    image = paste(glimpse, coords_of(box, size), size)
    expected = torch.zeros(1, *size, dtype=torch.float64)
    expected[:, top : top + height, left : left + width] = 1
    torch.testing.assert_close(image, expected)
    torch.testing.assert_close(ink_boxes(image, 0.5), box)


def test_the_whole_image_is_unit_scale():
    box = coords_to_boxes(torch.tensor([1.0, 1.0, 0.0, 0.0]), (40, 50))
    torch.testing.assert_close(box, torch.tensor([0.0, 0.0, 50.0, 40.0]))


def test_boxes_are_brought_into_the_image_by_the_least_change():
    boxes = torch.tensor(
        [
            [2.0, 3.0, 4.0, 5.0],  # inside
            [-2.0, 8.0, 4.0, 4.0],  # on the borders, the middle just inside
            [-9.0, 3.0, 4.0, 2.0],  # left of the image
            [18.0, 15.0, 6.0, 2.0],  # beyond its lower right corner
            [-20.0, -30.0, 60.0, 60.0],  # larger than it
        ],
        requires_grad=True,
    )
    inside = box_within_image(boxes, (10, 20))
    expected = torch.tensor([[2.0, 3, 4, 5], [-2, 8, 4, 4], [-2, 3, 4, 2], [17, 9, 6, 2], [0, -5, 20, 10]])
    torch.testing.assert_close(inside, expected)
    weights = torch.randn(5, 4)
    (weights * inside).sum().backward()
    torch.testing.assert_close(boxes.grad, weights)


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


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((5.0, 0.0, 10.0, 10.0), 1 / 3),
        ((9.0, 0.0, 10.0, 10.0), 1 / 19),
        ((2.0, 2.0, 6.0, 6.0), 0.36),
        ((-5.0, -5.0, 20.0, 20.0), 0.25),
        ((30.0, 0.0, 10.0, 10.0), 0.0),
        ((10.0, 0.0, 10.0, 10.0), 0.0),
    ],
)
def test_iou_by_hand(box: tuple[float, ...], expected: float):
    target, first = torch.tensor([0.0, 0.0, 10.0, 10.0]).double(), torch.tensor(box).double()
    for a, b in ((first, target), (target, first), (3 * first, 3 * target)):
        torch.testing.assert_close(iou(a, b), torch.tensor(expected).double())
    moved = torch.tensor([7.0, -3.0, 0.0, 0.0]).double()
    torch.testing.assert_close(iou(first + moved, target + moved), torch.tensor(expected).double())


def rectangle(box: Tensor) -> set[tuple[int, int]]:
    left, top, width, height = (int(x) for x in box)
    return {(x, y) for x in range(left, left + width) for y in range(top, top + height)}


@given(
    boxes=st.lists(
        st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 6), st.integers(1, 6)),
        min_size=2,
        max_size=2,
    )
)
def test_generalised_iou_counts_pixels(boxes: list[tuple[int, int, int, int]]):
    first, second = torch.tensor(boxes).double()
    a, b = rectangle(first), rectangle(second)
    columns, rows = {x for x, _ in a | b}, {y for _, y in a | b}
    around = (max(columns) - min(columns) + 1) * (max(rows) - min(rows) + 1)
    expected = len(a & b) / len(a | b) - (around - len(a | b)) / around
    assert generalized_iou(first, second).item() == pytest.approx(expected)
    assert generalized_iou(second, first).item() == pytest.approx(expected)
    assert intersection_areas(first, second) == len(a & b)
    assert areas(first) == len(a)


def test_generalised_iou_of_boxes_apart_leads_them_together():
    target = torch.tensor([0.0, 0.0, 10.0, 10.0]).double()
    box = torch.tensor([30.0, 0.0, 10.0, 10.0], dtype=torch.float64, requires_grad=True)
    value = generalized_iou(box, target)
    assert value.item() == pytest.approx(-0.5)
    value.backward()
    # -(C - 200) / C with C = 10 (40 + dx): its derivative is -200 * 10 / C^2.
    assert box.grad[0].item() == pytest.approx(-2000 / 400**2)
    assert box.grad[1].item() == 0.0
    empty = torch.zeros(4, requires_grad=True)
    value = generalized_iou(empty, torch.zeros(4))
    value.backward()
    assert value == 0
    assert empty.grad.isfinite().all()


WINDOW = torch.tensor([3.0, -2.0, 14.0, 28.0])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([3.0, -2.0, 14.0, 28.0], torch.ones(14, 7)),
        ([-5.0, -9.0, 40.0, 50.0], torch.ones(14, 7)),
        ([17.0, -2.0, 5.0, 28.0], torch.zeros(14, 7)),
        ([0.0, 0.0, 0.0, 0.0], torch.zeros(14, 7)),
        ([3.0, -2.0, 14.0, 14.0], torch.cat([torch.ones(7, 7), torch.zeros(7, 7)])),
        ([3.0, -2.0, 7.0, 28.0], torch.tensor([[1.0, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0]]).expand(14, 7)),
    ],
)
def test_cells_of_a_window_by_hand(box: list[float], expected: Tensor):
    torch.testing.assert_close(cell_coverage(WINDOW, torch.tensor(box), (14, 7)), expected)


@given(left=positions, top=positions, width=lengths, height=lengths)
def test_the_mean_of_the_cells_is_the_share_of_the_window(
    left: float, top: float, width: float, height: float
):
    window = torch.tensor([5.0, 10.0, 20.0, 30.0], dtype=torch.float64)
    box = torch.tensor([left, top, width, height], dtype=torch.float64)
    expected = intersection_areas(window, box) / areas(window)
    cells = cell_coverage(window, box, (14, 7))
    torch.testing.assert_close(cells.mean(), expected)
    # Each cell for itself is a window too.
    for i, j in ((0, 0), (6, 3), (13, 6)):
        cell = torch.tensor([5 + j * 20 / 7, 10 + i * 30 / 14, 20 / 7, 30 / 14], dtype=torch.float64)
        torch.testing.assert_close(cells[i, j], intersection_areas(cell, box) / areas(cell))


def test_boxes_are_around_what_is_brighter_than_a_tenth_of_the_brightest():
    image = torch.zeros(2, 1, 5, 6)
    image[0, 0, 1:4, 2:5] = 0.8
    image[0, 0, 0, 0], image[0, 0, 4, 5] = 0.07, 0.09
    assert object_boxes(image).tolist() == [[2, 1, 4, 4], [0, 0, 0, 0]]


def test_what_is_fainter_than_the_share_of_ink_is_not_in_the_box():
    """A row of five pixels, the outer ones a fifth as bright as the middle."""
    picture = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.3, 0.1, 0.0]).view(1, 1, 7)
    assert object_boxes(picture).tolist() == [1, 0, 5, 1]
    assert object_boxes(picture, ink=0.25).tolist() == [2, 0, 3, 1]
    assert object_boxes(picture, ink=0.7).tolist() == [3, 0, 1, 1]


def test_boxes_end_at_the_border_of_the_image():
    boxes = torch.tensor([[-3.0, 2, 5, 4], [18, -1, 9, 40], [20, 3, 4, 4], [-4, 3, 4, 4], [1, 2, 3, 4]])
    inside = [[0, 2, 2, 4], [18, 0, 2, 10], [0, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]]
    assert boxes_inside(boxes, (10, 20)).tolist() == inside
