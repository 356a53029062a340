import pytest
import torch
from torch import Tensor

from whatwhere.models.components import Clue, JointLocator, RecurrentLocator


def clue(joints: Tensor | None = None) -> Clue:
    torch.manual_seed(1)
    context, glimpse, workers = (torch.randn(2, n, dtype=torch.float64) for n in (3, 4, 5))
    return Clue(context, glimpse, workers, joints)


def test_places_are_the_formula():
    torch.manual_seed(0)
    locator = RecurrentLocator(4, 3, 5, hidden_size=6, size_bias=3.0).double()
    known = clue()
    state = torch.randn(2, 6, dtype=torch.float64)
    place, after = locator(known, 0, state)
    inputs = torch.cat([known.glimpse, known.workers], dim=-1)
    cell = locator.cell
    r_x, z_x, n_x = (inputs @ cell.weight_ih.T + cell.bias_ih).chunk(3, -1)
    r_h, z_h, n_h = (state @ cell.weight_hh.T + cell.bias_hh).chunk(3, -1)
    r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
    expected = (1 - z) * (n_x + r * n_h).tanh() + z * state
    torch.testing.assert_close(after, expected)
    raw = torch.cat([known.context, expected], dim=-1) @ locator.place.weight.T + locator.place.bias
    torch.testing.assert_close(place.raw, raw)
    coords = torch.cat([(raw[:, 2:] + 3).sigmoid(), raw[:, :2].tanh()], dim=-1)
    torch.testing.assert_close(place.coords, coords)


def test_first_places_are_about_the_middle_and_as_large_as_the_bias_says():
    torch.manual_seed(0)
    locator = RecurrentLocator(4, 3, 5, hidden_size=6)
    known = Clue(*(10 * torch.randn(100, n) for n in (3, 4, 5)))
    coords = locator(known, 0, locator.initial_state(known.context))[0].coords.detach()
    assert coords[:, 2:].abs().max() < 0.8
    assert float(coords[:, :2].mean()) == pytest.approx(0.953, abs=0.01)


def test_joints_that_are_known_are_looked_at():
    locator = JointLocator([(0, 1), (1, 0)], side=0.25)
    joints = torch.rand(2, 2, 3, 2, dtype=torch.float64)
    state = locator.initial_state(joints)
    for number, (person, joint) in enumerate(((0, 1), (1, 0))):
        place, _ = locator(clue(joints), number, state)
        torch.testing.assert_close(place.coords[:, 2:], joints[:, person, joint])
        assert (place.coords[:, :2] == 0.25).all()
        torch.testing.assert_close(place.raw[:, :2], joints[:, person, joint])


def test_joints_that_are_not_there_are_missed():
    locator = JointLocator([(1, 2)])
    with pytest.raises(ValueError, match="needed by `JointLocator`"):
        locator(clue(), 0, torch.zeros(2, 0))
    with pytest.raises(ValueError, match="joint 2 of person 1"):
        locator(clue(torch.zeros(2, 1, 5, 2)), 0, torch.zeros(2, 0))
    for none in ([], [(0, -1)], [(-1, 0)], [(0, 0.5)]):
        with pytest.raises(ValueError, match="joints"):
            JointLocator(none)  # type: ignore[arg-type]


def test_joints_may_have_another_precision_than_the_model():
    known = clue(torch.full((2, 1, 1, 2), 0.5))
    place, _ = JointLocator([(0, 0)])(known, 0, torch.zeros(2, 0))
    assert place.coords.dtype == known.context.dtype == torch.float64
    assert place.coords.tolist() == [[0.25, 0.25, 0.5, 0.5]] * 2
