"""Where ink ends, on images where the answer is known."""

import pytest
import torch

from whatwhere.guides.peaks import edge_of_ink

LENGTH, SIZE = 41, (0.25, 0.2)
"""Pixels of a side, of which 2 / 40 is a pixel's width; and of a window, 10 pixels wide and 8 high."""


def squares(*corners: tuple[int, int]) -> torch.Tensor:
    """Squares of 6 x 6 pixels, given their upper left corners as row and column."""
    image = torch.zeros(1, 1, LENGTH, LENGTH).double()
    for row, column in corners:
        image[0, 0, row : row + 6, column : column + 6] = 1.0
    return image


def pixels(centre: torch.Tensor) -> list[float]:
    """Column and row of a centre in [-1, 1]."""
    return ((centre + 1) / 2 * (LENGTH - 1)).tolist()


@pytest.mark.parametrize(
    ("axis", "last", "corner"),
    [(0, False, (20, 4)), (0, True, (9, 30)), (1, False, (2, 12)), (1, True, (32, 18))],
)
def test_the_outermost_object_of_each_side_is_found_alone(axis: int, last: bool, corner: tuple[int, int]):
    image = squares((20, 4), (9, 30), (2, 12), (32, 18), (18, 18))
    column, row = pixels(edge_of_ink(image, SIZE, (8, 8), axis, last)[0])
    half = 0.8 * (5.0, 4.0)[axis]  # pixels from the first ink to the centre of the window
    ends = (corner[1], corner[0])[axis] + (5 - half if last else half)
    beside = (corner[0], corner[1])[axis] + 2.5
    found, other = (column, row) if axis == 0 else (row, column)
    assert found == pytest.approx(ends, abs=1.01)  # a pixel is what may be passed over
    assert other == pytest.approx(beside, abs=0.3)


def test_a_speck_is_passed_over():
    image = squares((20, 15), (24, 24))
    image[0, 0, 20, 1] = 0.9
    clean = edge_of_ink(squares((20, 15), (24, 24)), SIZE, (8, 8), 0, False)
    torch.testing.assert_close(edge_of_ink(image, SIZE, (8, 8), 0, False), clean, atol=0.06, rtol=0)


def test_an_empty_image_has_a_finite_edge():
    centre = edge_of_ink(squares(), SIZE, (8, 8), 1, True)
    assert centre.isfinite().all()


def test_rows_do_not_know_of_each_other():
    images = torch.cat([squares((3, 3), (20, 20)), squares((30, 8)), squares()])
    together = edge_of_ink(images, SIZE, (8, 8), 1, False)
    alone = [edge_of_ink(image.unsqueeze(0), SIZE, (8, 8), 1, False) for image in images]
    torch.testing.assert_close(together, torch.cat(alone))
