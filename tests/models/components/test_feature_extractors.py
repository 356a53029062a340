"""RATM's networks against a slow loop, their sizes against the paper, and freezing."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor, nn

from whatwhere.models.components.feature_extractors import (
    ConvPoolFeatures,
    Frozen,
    GlimpseClassifier,
    PixelFeatures,
    digit_classifier,
    digit_features,
    human_classifier,
    human_features,
    load_released_human_weights,
)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def slow_block(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Correlation with zeros around, maximum over 2 x 2, rectification: one number after the other."""
    channels, height, width = maps.shape
    reach = weight.shape[-1] // 2
    padded = torch.zeros(channels, height + 2 * reach, width + 2 * reach, dtype=maps.dtype)
    padded[:, reach : reach + height, reach : reach + width] = maps
    out = torch.empty(len(weight), height, width, dtype=maps.dtype)
    for o in range(len(weight)):
        for i in range(height):
            for j in range(width):
                piece = padded[:, i : i + 2 * reach + 1, j : j + 2 * reach + 1]
                out[o, i, j] = (piece * weight[o]).sum() + bias[o]
    pooled = torch.empty(len(weight), height // 2, width // 2, dtype=maps.dtype)
    for i in range(height // 2):
        for j in range(width // 2):
            pooled[:, i, j] = out[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1).amax(1)
    return pooled.clamp(min=0)


def test_pixels_are_flattened_channels_first():
    glimpses = torch.rand(2, 3, 2, 4, 5)
    features = PixelFeatures((2, 4, 5))
    assert features.size == 40
    assert torch.equal(features(glimpses), glimpses.reshape(2, 3, 40))
    assert count(features) == 0


def test_convolutions_equal_a_slow_loop():
    network = ConvPoolFeatures((2, 5, 4), (3, 2), (3, 1), grey_levels=255.0).double().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    glimpses = torch.rand(2, 3, 2, 5, 4, dtype=torch.float64)
    features = network(glimpses)
    first, second = (layer for layer in network.blocks if isinstance(layer, nn.Conv2d))
    assert features.shape == (2, 3, 2) == (2, 3, network.size)
    for i in range(2):
        for j in range(3):
            maps = slow_block(255 * glimpses[i, j], first.weight, first.bias)
            maps = slow_block(maps, second.weight, second.bias)
            torch.testing.assert_close(features[i, j], maps.flatten())


def test_sizes_are_those_of_the_paper():
    assert digit_features().size == 7 * 7 * 32 == 1568
    assert count(digit_classifier()) == (25 * 32 + 32) + (25 * 32 * 32 + 32) + (1568 * 10 + 10)
    assert digit_classifier()(torch.rand(3, 2, 1, 28, 28)).shape == (3, 2, 10)
    assert human_features().size == 7 * 7 * 64 == 3136
    human = human_classifier()
    assert count(human) == (25 * 128 + 128) + (9 * 128 * 64 + 64) + (3136 * 256 + 256) + (256 * 2 + 2)
    assert human.embedding(torch.rand(2, 1, 28, 28)).shape == (2, 256)
    assert human.embedding(torch.rand(2, 1, 28, 28)).amin() == 0
    assert human(torch.rand(2, 1, 28, 28)).shape == (2, 2)


def test_weights_begin_uniform_and_biases_zero():
    for name, parameter in human_classifier().named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            bound = parameter[0].numel() ** -0.5
            assert 0.98 * bound < parameter.abs().max() <= bound
            assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_dropout_comes_with_training_only_and_scales_what_is_left():
    network, glimpses = digit_features(), torch.rand(50, 1, 28, 28)
    kept = network.eval()(glimpses)
    assert torch.equal(network(glimpses), kept)
    second = [layer for layer in network.blocks if isinstance(layer, nn.Dropout)][1]
    network.train()
    ones = second(torch.ones(100_000))
    assert ones.unique().tolist() == pytest.approx([0, 4 / 3])
    assert ones.eq(0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert not torch.equal(network(glimpses), kept)


def test_frozen_networks_never_drop_and_get_no_gradient_but_pass_it_on():
    network = digit_classifier()
    holder = nn.Sequential(Frozen(network)).train()
    assert holder.training
    assert not any(module.training for module in holder[0].modules())
    glimpses = torch.rand(2, 1, 28, 28, requires_grad=True)
    logits = holder(glimpses)
    assert torch.equal(logits, holder(glimpses))
    logits.square().sum().backward()
    assert glimpses.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def released_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "conv0_W": (128, 1, 5, 5),
        "bias0_b": (128,),
        "conv1_W": (64, 128, 3, 3),
        "bias1_b": (64,),
        "fc2_W": (3136, 256),
        "fc2_b": (256,),
        "fc3_W": (256, 2),
        "fc3_b": (2,),
    }
    return {name: rng.normal(0, 0.05, shape) for name, shape in shapes.items()}


def test_released_weights_are_true_convolutions_of_grey_levels_and_row_vectors():
    arrays, classifier = released_arrays(), human_classifier().double()
    load_released_human_weights(classifier, arrays)
    maps = np.random.default_rng(1).random((1, 28, 28))
    expected = 255 * maps
    for i in range(2):
        filters, bias = arrays[f"conv{i}_W"], arrays[f"bias{i}_b"]
        summed = [sum(convolve2d(m, f, "same") for m, f in zip(expected, fs, strict=True)) for fs in filters]
        pooled = np.stack(summed).reshape(len(filters), len(summed[0]) // 2, 2, -1, 2).max((2, 4))
        expected = np.maximum(pooled + bias[:, None, None], 0)
    embedding = np.maximum(expected.reshape(-1) @ arrays["fc2_W"] + arrays["fc2_b"], 0)
    glimpses = torch.from_numpy(maps)
    np.testing.assert_allclose(classifier.embedding(glimpses).detach(), embedding, rtol=1e-9)
    logits = embedding @ arrays["fc3_W"] + arrays["fc3_b"]
    np.testing.assert_allclose(classifier(glimpses).detach(), logits, rtol=1e-9)


def test_released_weights_that_do_not_fit_are_refused():
    arrays = released_arrays()
    with pytest.raises(ValueError, match=r"`fc2_W` must become \(256, 3136\), but becomes \(256, 3000\)"):
        load_released_human_weights(human_classifier(), {**arrays, "fc2_W": arrays["fc2_W"][:3000]})
    del arrays["bias1_b"]
    with pytest.raises(KeyError, match="bias1_b"):
        load_released_human_weights(human_classifier(), arrays)


def test_impossible_networks_are_refused():
    with pytest.raises(ValueError, match=r"`kernels` must be odd .* got \(5, 4\) for 2"):
        ConvPoolFeatures((1, 28, 28), (32, 32), (5, 4))
    with pytest.raises(ValueError, match=r"as many as `channels`, but got \(5,\) for 2"):
        ConvPoolFeatures((1, 28, 28), (32, 32), (5,))
    with pytest.raises(ValueError, match="at least 4 x 4, but got 3 x 28"):
        ConvPoolFeatures((1, 3, 28), (32, 32), (5, 5))


def test_a_classifier_can_stand_on_pixels():
    classifier = GlimpseClassifier(PixelFeatures((1, 2, 2)), 3)
    glimpses = torch.rand(5, 1, 2, 2)
    assert torch.equal(classifier.embedding(glimpses), glimpses.flatten(1))
    expected = glimpses.flatten(1) @ classifier.readout.weight.T
    torch.testing.assert_close(classifier(glimpses), expected)
