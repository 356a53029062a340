"""Sizes stay below the bound of a geometric series."""

import pytest
import torch

from whatwhere.models.components.bounded_sizes import BoundedSizes


def test_sizes_approach_their_bound_and_come_back():
    rule = BoundedSizes(step=0.02, leak=0.05)
    size = torch.zeros(2, 1)
    for _ in range(500):
        size = rule.next(size, torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
        assert (size.abs() < 0.4).all()
    torch.testing.assert_close(size, torch.tensor([[0.4], [-0.4]]), atol=1e-4, rtol=0)
    for _ in range(500):
        size = rule.next(size, torch.zeros(2, 2))
    assert (size.abs() < 1e-6).all()


def test_corrections_move_the_middle_and_stretch_about_it():
    rule = BoundedSizes(shift=0.2, stretch=0.1)
    change = rule.correction(torch.tensor([[1.0, 0, 0, 0], [0, 0, 1.0, -1.0]]))
    torch.testing.assert_close(change, torch.tensor([[0.2, 0, 0, 0], [-0.05, 0.05, 0.1, -0.1]]))


@pytest.mark.parametrize("field", ["step", "leak", "shift", "stretch"])
def test_numbers_out_of_range_are_refused(field: str):
    with pytest.raises(ValueError, match=f"`{field}` must be in"):
        BoundedSizes(**{field: 0.0})
