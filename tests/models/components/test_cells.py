import pytest
import torch

from whatwhere.models.components.cells import Cells
from whatwhere.models.components.windows import SquashedWindows


def test_centres_and_places_in_cells():
    cells = Cells(2, 4, SquashedWindows(2.0))
    assert len(cells) == 8
    centres = cells.centres(torch.zeros(1))
    assert centres[:, 0].tolist() == [-0.75, -0.25, 0.25, 0.75] * 2
    assert centres[:, 1].tolist() == [-0.5] * 4 + [0.5] * 4
    # In the middle of its cell, and as far as it can go: up to the centres of the neighbours.
    for local, away in ((0.0, 0.0), (20.0, 1.0), (-20.0, -1.0)):
        z = torch.tensor([0.3, -0.2, local, local]).expand(8, 4)
        coords = cells.windows(cells.places(z, centres))
        torch.testing.assert_close(coords[:, :2], z[:, :2].sigmoid())
        expected = centres + away * torch.tensor([0.5, 1.0])
        torch.testing.assert_close(coords[:, 2:], expected)


def test_places_are_those_of_the_windows_units():
    """In frames of another size than places are measured in."""
    windows = SquashedWindows.measured_in((33, 65), (65, 65), 1.5)
    cells = Cells(4, 4, windows)
    local, centres = torch.randn(16, 4), cells.centres(torch.zeros(1))
    coords = windows(cells.places(local, centres))
    torch.testing.assert_close(coords[:, 2:], centres + 0.5 * local[:, 2:].tanh())


def test_cells_are_chosen_in_their_order():
    present = torch.tensor([[0.0, 1, 0, 1, 1, 0], [0, 0, 0, 0, 1, 0]])
    chosen = Cells(2, 3).choose(present, 4)
    assert chosen.z_pres.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert chosen.cell[0, :3].tolist() == [1, 3, 4]
    assert chosen.cell[1, 0].item() == 4
    values = torch.arange(6.0).unsqueeze(-1).expand(3, 1, 6, 2)
    taken = chosen.of(values)
    assert taken.shape == (3, 2, 4, 2)
    assert taken[2, 0, :3, 1].tolist() == [1, 3, 4]


def test_a_grid_has_cells():
    with pytest.raises(ValueError, match="rows"):
        Cells(0, 2)
