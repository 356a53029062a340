import pytest
import torch
from torch import nn

from whatwhere.models.components.initialisers import glorot_uniform


def test_glorot_is_uniform_in_matrices_and_biases():
    network = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Conv2d(30, 60, 3, bias=False))
    glorot_uniform(network)
    linear, convolution = network[0], network[2]
    for values, bound in (
        (linear.weight, (6 / 300) ** 0.5),
        (linear.bias, (3 / 100) ** 0.5),
        (convolution.weight, (6 / (9 * 90)) ** 0.5),
    ):
        assert values.abs().max() <= bound
        assert values.abs().max() > 0.97 * bound
        assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    one = nn.Linear(5, 1)
    glorot_uniform(one)
    assert torch.equal(one.bias.abs() <= 3**0.5, torch.tensor([True]))
