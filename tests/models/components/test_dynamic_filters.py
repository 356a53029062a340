"""Convolutions with filters of each sample's own against a loop over samples."""

import math

import pytest
import torch
import torch.nn.functional as F

from whatwhere.models.components.dynamic_filters import DynamicFilterLayer, dynamic_convolution


@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize("channels", [(4, 5), (5, 5), (3, 1)])
def test_each_sample_is_convolved_with_its_own_filters(side: int, channels: tuple[int, int]):
    inputs, outputs = channels
    maps = torch.randn(3, inputs, 6, 7, dtype=torch.float64)
    weight = torch.randn(3, outputs, inputs, side, side, dtype=torch.float64)
    expected = torch.cat([F.conv2d(m[None], w, padding=side // 2) for m, w in zip(maps, weight, strict=True)])
    torch.testing.assert_close(dynamic_convolution(maps, weight), expected)


def test_filters_are_written_out():
    maps, weight = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 2, 3, 3, 3).double()
    out = dynamic_convolution(maps, weight)
    for b in range(2):
        for o in range(2):
            for y in range(4):
                for x in range(5):
                    total = 0.0
                    for i in range(3):
                        for v in range(3):
                            for u in range(3):
                                row, column = y + v - 1, x + u - 1
                                if 0 <= row < 4 and 0 <= column < 5:
                                    total += (weight[b, o, i, v, u] * maps[b, i, row, column]).item()
                    assert out[b, o, y, x].item() == pytest.approx(total)


@pytest.mark.parametrize("side", [1, 3])
def test_it_is_linear_in_the_filters_and_an_ordinary_convolution_of_equal_ones(side: int):
    maps = torch.randn(2, 3, 4, 5).double()
    first, second = torch.randn(2, 2, 5, 3, side, side).double()
    torch.testing.assert_close(
        dynamic_convolution(maps, 2 * first - 3 * second),
        2 * dynamic_convolution(maps, first) - 3 * dynamic_convolution(maps, second),
    )
    same = first[:1].expand(2, -1, -1, -1, -1)
    torch.testing.assert_close(
        dynamic_convolution(maps, same), F.conv2d(maps, first[0], padding=side // 2), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("side", [1, 3])
def test_gradients_of_maps_and_filters(side: int):
    maps = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, side, side, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(dynamic_convolution, (maps, weight))


@pytest.mark.parametrize(
    "shape", [(3, 2, 4, 3, 3), (2, 2, 3, 3, 3), (3, 2, 3, 2, 2), (3, 2, 3, 3, 1), (2, 3, 3, 3)]
)
def test_filters_that_do_not_fit_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"\(B, I, H, W\) .* but got \(3, 3, 6, 6\) and"):
        dynamic_convolution(torch.ones(3, 3, 6, 6), torch.ones(shape))


@pytest.mark.parametrize("side", [1, 3])
def test_a_layer_computes_filters_and_biases_from_its_control(side: int):
    layer = DynamicFilterLayer(3, 2, side, 4).double()
    maps, control = torch.randn(5, 3, 4, 6).double(), torch.randn(5, 4).double()
    out, filters = layer(maps, control)
    for b in range(5):
        e = F.elu(layer.embedding.weight @ control[b] + layer.embedding.bias)
        psi = (layer.weight.weight @ e + layer.weight.bias).reshape(2, 3, side, side)
        d = layer.dynamic_bias.weight @ e + layer.dynamic_bias.bias
        torch.testing.assert_close(filters.weight[b], psi)
        torch.testing.assert_close(filters.bias[b], d)
        bias = (d + layer.static_bias)[:, None, None]
        torch.testing.assert_close(out[b], F.elu(F.conv2d(maps[b], psi, padding=side // 2) + bias))


def test_first_values_are_those_of_the_authors_program():
    layer = DynamicFilterLayer(384, 5, 1, 100)
    expected = {
        "embedding.weight": math.sqrt(6 / 200),
        "embedding.bias": math.sqrt(3 / 100),
        "weight.weight": 0.1 * math.sqrt(3 / 100),
        "weight.bias": 0.1 * math.sqrt(3),
        "dynamic_bias.weight": math.sqrt(2) * math.sqrt(3 / 100),
        "dynamic_bias.bias": math.sqrt(2) * math.sqrt(3),
        "static_bias": 1.0,
    }
    assert {name for name, _ in layer.named_parameters()} == set(expected)
    for name, parameter in layer.named_parameters():
        assert parameter.abs().max() <= expected[name] * (1 + 1e-6), name
        assert parameter.abs().max() > expected[name] * (0.98 if parameter.numel() > 50 else 0.2), name
    assert sum(p.numel() for p in layer.parameters()) == 204_530
    assert sum(p.numel() for p in DynamicFilterLayer(5, 5, 3, 100).parameters()) == 33_335
