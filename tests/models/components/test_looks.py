"""Looks of pictures with known slopes."""

import torch

from whatwhere.models.components.looks import looks


def test_slopes_of_a_plane():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    picture = (0.1 * x - 0.05 * y).expand(3, -1, -1)
    found = looks(picture)
    assert found.shape == (7, 5, 6)
    torch.testing.assert_close(found[:3], 0.5 * picture)
    rising, falling, down, up = found[3:]
    torch.testing.assert_close(rising[:, 1:-1], torch.full((5, 4), 0.2))
    torch.testing.assert_close(up[1:-1], torch.full((3, 6), 0.1))
    assert not falling.any()
    assert not down.any()
    assert not rising[:, [0, -1]].any()
    assert not up[[0, -1]].any()


def test_leading_axes_and_channels():
    assert looks(torch.rand(2, 4, 1, 8, 9)).shape == (2, 4, 5, 8, 9)
