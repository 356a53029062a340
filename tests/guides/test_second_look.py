"""The second look: centres of ink, where it looks, and that it starts with no correction."""

import pytest
import torch

from whatwhere.guides.second_look import SecondLook, centre_of_ink
from whatwhere.models.components.windows import SquashedWindows


def test_the_centre_of_ink_is_its_mean_position():
    glimpse = torch.zeros(2, 5, 9)
    glimpse[0, 1, 8] = 3.0
    glimpse[1, 3, 4] = 1.0
    expected = torch.tensor([3 * 1.0 + 0.0, 3 * -0.5 + 0.5]) / 4
    torch.testing.assert_close(centre_of_ink(glimpse), expected)


def test_hardly_any_ink_is_in_the_middle():
    glimpse = torch.zeros(1, 5, 5)
    glimpse[0, 0, 0] = 0.1
    torch.testing.assert_close(centre_of_ink(glimpse), torch.tensor([-0.1, -0.1]))
    torch.testing.assert_close(centre_of_ink(torch.zeros(3, 1, 5, 5)), torch.zeros(3, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_it_starts_with_no_correction_and_learns_one(channels: int):
    look = SecondLook(channels, (6, 6), hidden=8, features=4)
    image, where = torch.rand(3, channels, 12, 12), torch.randn(5, 3, 4)
    assert torch.equal(look(image, where), torch.zeros(5, 3, 8))
    look(image, where).square().sum().backward()
    (look(image, where) - 1).square().sum().backward()
    assert look.correction.weight.grad.abs().sum() > 0


def test_it_sees_the_enlarged_window_of_the_place():
    """A spot at the edge of the window is at 1 / 1.2 of the crop."""
    windows = SquashedWindows(2.0)
    look = SecondLook(1, (25, 25), hidden=8, features=4, enlarge=1.2, windows=windows)
    image = torch.zeros(1, 1, 50, 50)
    image[0, 0, 25:27, 40:42] = 1.0  # x = 0.653, y = 0.041
    where = windows.inverse(torch.tensor([[0.4, 0.4, 0.253, 0.041]]))
    look.correction.weight.data[0, 0] = look.correction.weight.data[1, 1] = 1.0  # the centre of ink
    x, y = (10 * look(image, where)[0, :2]).tolist()
    assert x == pytest.approx(1 / 1.2, abs=0.05)
    assert y == pytest.approx(0, abs=0.05)


def test_no_gradient_reaches_the_place():
    look = SecondLook(1, (6, 6), hidden=8, features=4)
    look.correction.weight.data.normal_()
    where = torch.randn(3, 4, requires_grad=True)
    look(torch.rand(3, 1, 12, 12), where).sum().backward()
    assert where.grad is None
