"""Soft compositing: what holds for it whatever the layers are, and its limit, layers one over the other."""

import itertools

import pytest
import torch
from torch import Tensor

from whatwhere.models.components.layers import soft_over


def layers(count: int = 3) -> tuple[Tensor, Tensor]:
    return torch.rand(2, count, 4, 5).double(), torch.randn(2, count).double()


def over(coverage: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Porter and Duff's, pixel by pixel, from the nearest layer to the farthest."""
    weights = torch.zeros_like(coverage)
    covered = torch.zeros_like(coverage[:, 0])
    for b, y, x in itertools.product(*map(range, covered.shape)):
        left = 1.0
        for k in depth[b].argsort().tolist():
            weights[b, k, y, x] = left * coverage[b, k, y, x]
            left = left * (1 - coverage[b, k, y, x])
        covered[b, y, x] = 1 - left
    return weights, covered


def test_sharp_layers_lie_over_each_other():
    coverage, depth = layers()
    torch.testing.assert_close(
        tuple(soft_over(coverage, depth, 1e-4)), over(coverage, depth), atol=2e-6, rtol=0
    )


@pytest.mark.parametrize("softness", [0.1, 0.5, 3.0])
def test_weights_add_up_to_what_is_covered(softness: float):
    coverage, depth = layers(4)
    found = soft_over(coverage, depth, softness)
    torch.testing.assert_close(found.weights.sum(1), found.covered, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.covered, 1 - (1 - coverage).prod(1))
    assert (found.weights >= 0).all()


def test_only_depths_say_which_is_nearer():
    coverage, depth = layers(4)
    order = torch.tensor([2, 0, 3, 1])
    turned = soft_over(coverage[:, order], depth[:, order])
    torch.testing.assert_close(turned.weights, soft_over(coverage, depth).weights[:, order])


def test_a_layer_of_nothing_is_one_that_is_removed():
    coverage, depth = layers()
    coverage[:, 1] = 0
    found, fewer = soft_over(coverage, depth), soft_over(coverage[:, ::2], depth[:, ::2])
    torch.testing.assert_close(found.weights[:, ::2], fewer.weights)
    torch.testing.assert_close(found.covered, fewer.covered)
    assert not found.weights[:, 1].any()


def test_one_layer_covers_what_it_covers():
    coverage, depth = layers(1)
    torch.testing.assert_close(soft_over(coverage, depth).weights, coverage, atol=2e-6, rtol=0)


def test_what_hides_something_is_learned_by_its_depth():
    """Of two opaque layers the nearer one is seen; depths get a gradient, each away from the other."""
    depth = torch.tensor([[-0.1, 0.1]], requires_grad=True)
    found = soft_over(torch.ones(1, 2, 1, 1), depth)
    assert found.weights[0, 0] > found.weights[0, 1]
    found.weights[0, 1].sum().backward()
    assert depth.grad is not None
    assert depth.grad[0, 0] > 0 > depth.grad[0, 1]
